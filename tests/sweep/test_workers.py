"""Several workers on one study: joblib's processes, several programs, and a PostgreSQL database."""

import importlib.util
import os
import signal
import sys
from collections import Counter
from concurrent.futures.process import BrokenProcessPool
from types import ModuleType

import pytest
from hydra.core.plugins import Plugins
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher

from tests.sweep.conftest import XY, Toy
from tests.sweep.test_resume import assert_complete, last_states

JOBLIB = ("hydra/launcher=joblib", "hydra.sweeper.n_workers=2")

needs_joblib = pytest.mark.skipif(
    importlib.util.find_spec("hydra_plugins.hydra_joblib_launcher") is None,
    reason="hydra-joblib-launcher is not installed",
)


@needs_joblib
def test_two_workers_share_the_budget(toy: Toy) -> None:
    toy.sweep(*XY, *JOBLIB, "sleep=0.3", "hydra.sweeper.n_trials=8")
    assert_complete(toy, 8)
    workers = Counter(trial.user_attrs["worker"] for trial in toy.study().trials)
    assert len(workers) == 2
    assert min(workers.values()) >= 2


@needs_joblib
@pytest.mark.journey
def test_a_worker_killed_in_the_middle_costs_no_trial(toy: Toy) -> None:
    process = toy.start("-m", *XY, *JOBLIB, "sleep=0.4", "hydra.sweeper.n_trials=6")
    toy.wait_for_trial(2, process)
    pid = toy.study().trials[2].user_attrs["worker"].split(":")[1]
    os.kill(int(pid), signal.SIGKILL)
    returncode, output = toy.wait(process)
    assert returncode == 0, output
    assert "worker is dead" in output
    assert_complete(toy, 6)


@pytest.fixture
def submitit(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What hydra-submitit-launcher imports, as far as a sweep looks at it."""
    module = ModuleType("submitit.core.utils")
    module.UncompletedJobError = type("UncompletedJobError", (RuntimeError,), {})
    module.FailedJobError = type("FailedJobError", (module.UncompletedJobError,), {})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


@pytest.mark.parametrize(
    ("error", "n_deaths", "ends"),
    [
        ("BrokenProcessPool", 1, "complete"),
        ("BrokenProcessPool", 9, "killed 4 times without a trial"),
        ("UncompletedJobError", 1, "complete"),
        ("FailedJobError", 1, "the worker's own error"),
    ],
)
def test_workers_that_are_killed_before_their_first_trial_are_started_again(
    error: str, n_deaths: int, ends: str, toy: Toy, submitit: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, started = Plugins.instantiate_launcher, Counter[str]()

    def die(*_: object, **__: object) -> None:
        raise getattr(submitit, error, BrokenProcessPool)("the worker's own error")

    def instantiate(plugins: Plugins, **more: object) -> Launcher:
        launcher = real(plugins, **more)
        started["launchers"] += 1
        if started["launchers"] <= n_deaths:
            launcher.launch = die
        return launcher

    monkeypatch.setattr(Plugins, "instantiate_launcher", instantiate)
    if ends == "complete":
        assert len(toy.sweep_quickly("x=1,2", "hydra.sweeper.refit_seed=null")) == 2
    else:
        with pytest.raises((CompactHydraException, RuntimeError), match=ends):
            toy.sweep_quickly("x=1,2", "hydra.sweeper.refit_seed=null")


@needs_joblib
@pytest.mark.journey
def test_a_program_with_two_workers_that_is_killed_is_resumed(toy: Toy) -> None:
    arguments = ("-m", *XY, *JOBLIB, "sleep=0.3", "hydra.sweeper.n_trials=8", "hydra.sweeper.retries=3")
    process = toy.start(*arguments)
    toy.wait_for_trial(3, process)
    toy.kill(process)
    toy.run(*arguments)
    assert_complete(toy, 8)


@needs_joblib
def test_ctrl_c_reaches_every_worker(toy: Toy) -> None:
    process = toy.start("-m", *XY, *JOBLIB, "sleep=1", "hydra.sweeper.n_trials=8")
    toy.wait_for_trial(1, process)
    os.killpg(process.pid, signal.SIGINT)
    returncode, output = toy.wait(process)
    assert returncode != 0
    assert all(trial.state.is_finished() for trial in toy.study().trials), output


@pytest.mark.journey
def test_programs_that_race_share_one_study(toy: Toy) -> None:
    arguments = ("-m", *XY, "hydra.sweeper.n_trials=240", "hydra/sweeper/sampler=random")
    toy.sweep(*XY, "hydra.sweeper.n_trials=0", "hydra/sweeper/sampler=random")
    programs = [toy.start(*arguments) for _ in range(4)]
    for program in programs:
        returncode, output = toy.wait(program)
        assert returncode == 0, output
    assert_complete(toy, 240)


@pytest.mark.journey
def test_a_study_in_postgresql_survives_a_kill(toy: Toy, postgres: str) -> None:
    import optuna

    parallel = JOBLIB if importlib.util.find_spec("hydra_plugins.hydra_joblib_launcher") else ()
    arguments = ("-m", *XY, *parallel, "sleep=0.2", "hydra.sweeper.n_trials=10", "hydra.sweeper.retries=3",
                 "hydra/sweeper/storage=rdb", f"hydra.sweeper.storage.url={postgres}")  # fmt: skip
    process = toy.start(*arguments)
    toy.wait_for_trial(3, process)
    toy.kill(process)
    toy.run(*arguments)
    storage = optuna.storages.RDBStorage(postgres)
    study = optuna.load_study(study_name="app", storage=storage)
    assert last_states(study) == ["COMPLETE"] * 10
    assert all(trial.state.is_finished() for trial in study.trials)
    storage.remove_session()
    storage.engine.dispose()
    numbers = [line.split()[0] for line in toy.ran()]
    assert len(numbers) == len(set(numbers))
