"""The workers of a sweep as a job array of Slurm, by the commands of docs/outgrowing-one-machine.md."""

import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient

from tests.conftest import mlflow_server
from tests.docs.shell import environment
from tests.sweep.slurm import Slurm, slurm_cluster
from wineexp.core.paths import ROOT

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

STUDY = "cultivar-cultivar-xgb"
N_TRIALS = 4
TIMEOUT_SECONDS = 200


@pytest.fixture
def slurm() -> Iterator[Slurm]:
    with slurm_cluster() as cluster:
        yield cluster


@pytest.fixture
def tracking(tmp_path: Path) -> Iterator[str]:
    files = ("--backend-store-uri", f"sqlite:///{tmp_path}/records.db", "--artifacts-destination", f"{tmp_path}/files")
    with mlflow_server(tmp_path, "server", *files) as address:
        yield address


def documented_commands() -> str:
    """What the page gives for Slurm, for two workers and trials that take no time."""
    page = (ROOT / "docs/outgrowing-one-machine.md").read_text()
    (commands,) = re.findall(r"^## Slurm$.*?^```bash\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    for text, smaller in (
        ("n_trials=200", f"n_trials={N_TRIALS} hydra.sweeper.refit_seed=null model.n_estimators=5 split.n_splits=2"),
        ("--array=0-15", "--array=0-1"),
    ):
        assert commands.count(text) == 1
        commands = commands.replace(text, smaller)
    return commands


def test_a_job_array_ends_a_study_whose_submitter_has_left(
    slurm: Slurm, tracking: str, postgres: str, tmp_path: Path
) -> None:
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    stores = {"MLFLOW_TRACKING_URI": tracking, "WINEEXP_STUDY_STORAGE": postgres}
    variables = environment(ROOT) | slurm.variables | stores
    submitted = subprocess.run(
        ["bash", "-e", "-c", documented_commands()], cwd=tmp_path, env=variables, capture_output=True, text=True
    )
    assert submitted.returncode == 0, submitted.stderr
    job = submitted.stdout.split()[-1]
    logs = [tmp_path / f"slurm-{job}_{index}.out" for index in range(2)]

    def log() -> str:
        return "".join(file.read_text() for file in logs if file.exists())

    # A worker is cancelled at its first trial, as when its time is over; the other one runs that trial, too.
    deadline = time.monotonic() + TIMEOUT_SECONDS
    begun: list[int] = []
    while not begun:
        assert time.monotonic() < deadline, log()
        time.sleep(0.1)
        begun = [index for index, file in enumerate(logs) if file.exists() and f"study {STUDY} in" in file.read_text()]
    slurm.ask("scancel", f"{job}_{begun[0]}")
    while set(slurm.states(job).values()) & {"PENDING", "RUNNING", "COMPLETING"}:
        assert time.monotonic() < deadline, log()
        time.sleep(0.1)
    assert slurm.states(job) == {str(begun[0]): "CANCELLED", str(1 - begun[0]): "COMPLETED"}, log()
    storage = optuna.storages.RDBStorage(postgres)
    trials = optuna.load_study(study_name=STUDY, storage=storage).trials
    storage.engine.dispose()
    finished = Counter(trial.user_attrs["slot"] for trial in trials if trial.state.name == "COMPLETE")
    assert finished == dict.fromkeys(range(N_TRIALS), 1), log()
    assert {trial.user_attrs["ended"] for trial in trials if trial.state.name == "FAIL"} <= {"interrupted"}
    client = MlflowClient(tracking)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    (study_run,) = [run for run in client.search_runs(experiments) if run.info.run_name == STUDY]
    assert study_run.info.status == "FINISHED"
