"""The workers of a sweep on a Dask cluster."""

import importlib.util
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import yaml
from hydra.errors import CompactHydraException

from tests.conftest import INHERITED, free_port
from tests.preloaded_python import PYTHON
from tests.sweep.conftest import REPOSITORY, TIMEOUT_SECONDS, XY, Toy

needs_dask = pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="distributed is not installed")

LEASE_SECONDS = 6


def test_a_launcher_whose_package_is_missing_says_so_before_any_trial(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wineexp.sweep.launching.importlib.util.find_spec", lambda _: None)
    with pytest.raises(CompactHydraException, match=r"the package distributed, .*: pip install 'wineexp\[dask\]'"):
        toy.sweep_in_process(*XY, "hydra/launcher=dask")


def test_trials_that_would_wait_for_themselves_are_refused(toy: Toy) -> None:
    with pytest.raises(CompactHydraException, match=r"data.engine=dask: .*; leave out hydra/launcher=dask"):
        toy.sweep_in_process(*XY, "hydra/launcher=dask", "+data.engine=dask")


SERVICES = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())["services"]
# As compose.yaml names it.
ADDRESS = "tcp://dask-scheduler:8786"


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """The address of a scheduler that has two workers, by the commands of compose.yaml."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    worker = [word.replace(ADDRESS, address) for word in SERVICES["dask-worker"]["command"]]
    options = {"env": {**INHERITED, "PYTHONPATH": str(REPOSITORY)}, "start_new_session": True}
    processes = []
    with (tmp_path / "dask.log").open("w") as log:
        for name, command in (
            ("scheduler", [*SERVICES["dask-scheduler"]["command"], "--host=127.0.0.1", f"--port={port}"]),
            ("first", worker),
            ("second", worker),
        ):
            (tmp_path / name).mkdir()
            words = [PYTHON, "-m", *command]
            processes.append(subprocess.Popen(words, cwd=tmp_path / name, stdout=log, stderr=log, **options))
        yield address
        for process in processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


@needs_dask
@pytest.mark.journey
def test_a_lost_dask_worker_costs_its_trial_one_retry(toy: Toy, postgres: str, scheduler: str) -> None:
    *program, multirun, launcher, cluster, kind, url = SERVICES["dask-sweep"]["entrypoint"]
    assert program == ["python", "-m", "wineexp.train"]
    toy.environment["WINEEXP_STUDY_STORAGE"] = postgres
    process = toy.start(
        *(multirun, *XY, launcher, cluster.replace(ADDRESS, scheduler), kind, url.replace("$$", "$")),
        *(
            "hydra.sweeper.n_workers=2",
            f"hydra.sweeper.lease={LEASE_SECONDS}",
            "sleep=0.5",
            "hydra.sweeper.n_trials=12",
        ),
    )
    storage = optuna.storages.RDBStorage(postgres)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    running: list[optuna.trial.FrozenTrial] = []
    while not running:
        assert process.is_running(), toy.wait(process)
        assert time.monotonic() < deadline
        time.sleep(0.2)
        studies = storage.get_all_studies()
        trials = optuna.load_study(study_name="app", storage=storage).trials if studies else []
        running = [trial for trial in trials if trial.number > 1 and not trial.state.is_finished()]
    os.kill(int(running[0].user_attrs["worker"].split(":")[1]), signal.SIGKILL)
    returncode, output = toy.wait(process)
    assert returncode == 0, output
    trials = optuna.load_study(study_name="app", storage=storage).trials
    storage.engine.dispose()
    assert Counter(trial.user_attrs["slot"] for trial in trials if trial.state.name == "COMPLETE") == dict.fromkeys(
        range(12), 1
    )
    assert [trial.user_attrs.get("ended") for trial in trials if trial.state.name == "FAIL"] == ["dead"]
