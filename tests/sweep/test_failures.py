"""Trials that fail, and mistakes that are reported before any trial."""

import pytest
import yaml
from hydra.errors import CompactHydraException
from omegaconf import DictConfig

from tests.sweep.conftest import XY, Toy, square
from wineexp import compose
from wineexp.core.error_messages import KEYS_OF_OTHERS
from wineexp.core.errors import SetupError, UnavailableError, UserError
from wineexp.sweep import worker


def test_a_failing_trial_keeps_its_traceback_and_the_sweep_goes_on(toy: Toy) -> None:
    toy.sweep(*XY, "fails=[1]", "nans=[2]", "exits=[3]", "hydra.sweeper.n_trials=6")
    trials = toy.study().trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "FAIL", "FAIL", "COMPLETE", "COMPLETE"]
    errors = [trial.user_attrs["error"] for trial in trials[1:4]]
    assert errors[0] == "ValueError: this trial fails on request"
    assert "nan" in errors[1]
    assert "exited with 3" in errors[2]
    assert 'raise ValueError("this trial fails on request")' in trials[1].user_attrs["traceback"]


def test_too_many_failures_end_the_sweep(toy: Toy) -> None:
    output = toy.sweep(*XY, "fails=[0,2,3,4]", "hydra.sweeper.n_trials=9", "hydra.sweeper.max_failures=2", code=1)
    assert "3 trials failed, more than hydra.sweeper.max_failures=2: ValueError: this trial" in output
    assert len(toy.study().trials) == 4
    assert "Trial 1 " in (toy.folder / "multirun/app/best.yaml").read_text()
    best = toy.study().trials[1]
    results = yaml.safe_load((toy.folder / "multirun/app/optimization_results.yaml").read_text())
    assert results == {"name": "optuna", "best_params": best.params, "best_value": best.value}


def test_a_sweep_ends_at_a_mistake_that_other_trials_would_meet_and_goes_on_when_it_is_mended(toy: Toy) -> None:
    ran = []

    def fail(config: DictConfig) -> float:
        ran.append(config.x)
        raise SetupError("the environment is not set up")

    with pytest.raises(CompactHydraException, match="the environment is not set up"):
        toy.sweep_in_process(*XY, "hydra.sweeper.n_trials=4", task=fail)
    assert len(ran) == 1
    toy.sweep_in_process(*XY, "hydra.sweeper.n_trials=4", task=square)
    assert [trial.user_attrs.get("ended") for trial in toy.study().trials] == ["interrupted", *[None] * 4]


@pytest.mark.journey
def test_a_store_that_is_away_costs_no_trial_and_no_retry(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "UNAVAILABLE_PAUSE_SECONDS", 0.0)
    ran: list[float] = []

    def task(config: DictConfig) -> float:
        ran.append(config.x)
        if len(ran) in (2, 3, 4):
            raise UnavailableError("no server answers")
        return square(config)

    toy.sweep_in_process(*XY, "hydra.sweeper.n_trials=3", "hydra.sweeper.retries=0", task=task)
    trials = toy.study().trials
    assert [trial.user_attrs.get("ended") for trial in trials] == [None, *["interrupted"] * 3, None, None]
    assert ran[1] == ran[2] == ran[3] == ran[4] != ran[5]


def test_a_store_that_stays_away_ends_the_sweep(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "UNAVAILABLE_PAUSE_SECONDS", 0.0)

    def task(_: DictConfig) -> float:
        raise UnavailableError("no server answers")

    with pytest.raises(CompactHydraException, match="no server answers"):
        toy.sweep_in_process(*XY, "hydra.sweeper.n_trials=3", "hydra.sweeper.max_outage=1e-9", task=task)
    assert {trial.user_attrs.get("ended") for trial in toy.study().trials} == {"interrupted"}


def test_a_sweep_without_a_complete_trial_fails(toy: Toy) -> None:
    output = toy.sweep(*XY, "fails=[0,1]", "hydra.sweeper.n_trials=2", code=1)
    assert "no trial is complete, 2 failed" in output


FAULTS = {
    "low above high": (["x=interval(3, 1)"], "x: low <= high must hold, but got (low=3.0, high=1.0)"),
    "log from 0": (["x=tag(log, interval(0, 1))"], "x: a log interval must start above 0"),
    "empty range": (["x=range(3, 3)"], "range(3, 3, 1) is empty"),
    "unknown key": (["model=tree", "model.dept=1,2"], "model.dept: no such key in the config; did you mean model.d"),
    "key of one model only": (["model=tree,stone", "model.depth=1,2"], "model.depth: no such key"),
    "unknown choice": (["model=tree,bsh"], "no model 'bsh': did you mean bush?"),
    "unknown tag": (["x=tag(lg, interval(1, 2))"], "tag 'lg' means nothing here; did you mean log?"),
    "numbers for a group": (["model=interval(1, 2)"], "model: a config group takes choices, not numbers"),
    "glob for a value": (["x=glob(*)"], "x is no group"),
    "direction": ([*XY, "hydra.sweeper.direction=maximise"], "direction 'maximise' is none; did you mean maximize?"),
    "endless grid": ([*XY, "hydra/sweeper/sampler=grid"], "Grid visits every point, and x, y has no countable values"),
    "two types": (["x=1,2", "x=interval(1, 2)"], "x is given two types: x=1,2 and x=interval(1, 2); keep one"),
    "grid of a callable": (["hydra.sweeper.space=os.getcwd", "hydra/sweeper/sampler=grid"], "space=os.getcwd: "),
    "sampler's option": ([*XY, "+hydra.sweeper.sampler.bogus=1"], "unexpected keyword argument 'bogus'"),
    "nothing varies": (["x=3"], "nothing varies"),
    "no url": ([*XY, "hydra/sweeper/storage=rdb"], "the storage's url is missing"),
    "a name that is too long": ([*XY, f"hydra.sweeper.study_name={'x' * 300}"], "it has 300 bytes, and its folder"),
    "negative budget": ([*XY, "hydra.sweeper.n_trials=-1"], "n_trials must be 0 or more"),
    "memory for processes": (
        [*XY, "hydra/sweeper/storage=memory", "hydra.launcher._target_=processes.Launcher"],
        "a study in memory cannot be shared by processes",
    ),
    "a key to add that is there": (["+x=1,2"], "+x=1: Could not append to config. An item is already at 'x'"),
    "a sampler without its group": ([*XY, "hydra.sweeper.sampler=random"], "choose it by hydra/sweeper/sampler=name"),
    "no storage": ([*XY, "hydra.sweeper.storage=null"], "choose it by hydra/sweeper/storage=name"),
    "unknown choice in a group below": (["model=deep/ok,deep/no"], "no model 'deep/no': did you mean deep/ok?"),
    "no callable": (["hydra.sweeper.space=nowhere.space"], "space=nowhere.space: no such callable"),
    "a config that the program refuses": (
        ["model=tree,bush", "y=5,6", "hydra.sweeper.check=tests.sweep.conftest.refuse_bushes"],
        "a flat bush is refused, with y=5",
    ),
    "no recorder": ([*XY, "+hydra.sweeper.callbacks={a: {_target_: nowhere.Recorder}}"], "hydra.sweeper.callbacks.a: "),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_mistake_is_reported_before_any_trial(toy: Toy, name: str) -> None:
    arguments, message = FAULTS[name]
    with pytest.raises(CompactHydraException) as error:
        toy.sweep_in_process(*arguments)
    assert message in str(error.value)


def test_all_mistakes_are_reported_at_once_and_without_a_traceback(toy: Toy) -> None:
    output = toy.sweep("x=interval(3, 1)", "y=tag(lg, interval(1, 2))", "hydra.sweeper.direction=up",
                       "+hydra.sweeper.sampler.bogus=1", "hydra.sweeper.n_workers=0",
                       "hydra.sweeper.study_name=..", code=1)  # fmt: skip
    assert "6 faults:" in output
    assert "study_name=..: it names a folder in multirun/" in output
    assert "Traceback" not in output
    assert toy.ran() == []


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(CompactHydraException, match="needs torch and scipy, which is missing: pip install torch scipy"):
        toy.sweep_in_process(*XY, "hydra/sweeper/sampler=gp")


@pytest.mark.parametrize("key", KEYS_OF_OTHERS)
def test_a_key_of_hydras_own_optuna_plugin_is_answered_with_its_name_here(key: str) -> None:
    with pytest.raises(UserError) as error:
        compose(f"{key}=1")
    assert str(error.value) == f"{key}: no such key; {KEYS_OF_OTHERS[key]}"


def test_a_launcher_of_another_package_is_answered_with_the_command_that_installs_it() -> None:
    with pytest.raises(UserError, match=r"^hydra/launcher=submitit_slurm: .* pip install hydra-submitit-launcher$"):
        compose("hydra/launcher=submitit_slurm")
