"""A sweep that is killed, interrupted or changed, and started again."""

import os
import random
import signal
import time

import optuna
import pytest
from hydra.errors import CompactHydraException

from tests.sweep.conftest import XY, Toy
from wineexp.sweep._optuna import storage_of
from wineexp.sweep.definition import DEFINITION
from wineexp.sweep.samplers import slot_of


def last_states(study) -> list[str]:
    """The state of the last trial of each slot."""
    return [trial.state.name for trial in {slot_of(trial): trial for trial in study.trials}.values()]


def assert_complete(toy: Toy, n_trials: int, name: str = "app") -> None:
    """Exactly n_trials slots are complete, no trial is running, and every folder was written by one trial only."""
    study = toy.study(name)
    assert [trial.state.name for trial in study.trials if not trial.state.is_finished()] == []
    assert last_states(study) == ["COMPLETE"] * n_trials
    superseded = [trial for trial in study.trials if trial.user_attrs.get("ended") in ("dead", "interrupted")]
    assert len(study.trials) == n_trials + len(superseded), "a slot was filled twice"
    numbers = [line.split()[0] for line in toy.ran()]
    assert len(numbers) == len(set(numbers)), "a number ran twice"
    folders = {path.name for path in (toy.folder / "multirun" / name).iterdir() if path.name.isdigit()}
    assert folders >= {str(trial.number) for trial in study.trials if trial.state.name == "COMPLETE"}
    assert folders <= {str(trial.number) for trial in study.trials}


def parameters_without_interruption(toy: Toy, n_trials: int) -> list[dict]:
    arguments = (*XY, f"hydra.sweeper.n_trials={n_trials}", "hydra/sweeper/storage=memory", "hydra.sweep.dir=reference")
    toy.sweep(*arguments)
    params = []
    for number in range(n_trials):
        lines = (toy.folder / f"reference/{number}/.hydra/overrides.yaml").read_text().splitlines()
        params.append({key: float(value) for key, value in (line.removeprefix("- ").split("=") for line in lines)})
    (toy.folder / "ran.txt").unlink()
    return params


@pytest.mark.journey
def test_a_sweep_killed_at_random_ends_as_one_that_was_not_killed(toy: Toy) -> None:
    n_trials = 14
    reference = parameters_without_interruption(toy, n_trials)
    arguments = ("-m", *XY, "sleep=0.05", f"hydra.sweeper.n_trials={n_trials}", "hydra.sweeper.retries=9")
    generator = random.Random(os.urandom(8))
    for number in (2, 7, 11):
        process = toy.start(*arguments)
        toy.wait_for_trial(number, process)
        time.sleep(generator.uniform(0, 0.15))
        toy.kill(process)
    toy.run(*arguments)
    assert_complete(toy, n_trials)
    last = {slot_of(trial): trial for trial in toy.study().trials}
    assert [last[slot].params for slot in range(n_trials)] == reference
    dead = [trial for trial in toy.study().trials if trial.user_attrs.get("ended") == "dead"]
    assert len(toy.study().trials) == n_trials + len(dead)


def test_a_finished_study_runs_no_trial(toy: Toy) -> None:
    toy.sweep(*XY, "hydra.sweeper.n_trials=3")
    toy.sweep(*XY, "hydra.sweeper.n_trials=3")
    assert len(toy.ran()) == 3
    toy.sweep(*XY, "hydra.sweeper.n_trials=5")
    assert_complete(toy, 5)


@pytest.mark.journey
def test_parameters_whose_worker_dies_twice_are_given_up(toy: Toy) -> None:
    arguments = (*XY, "hydra.sweeper.n_trials=2", "hydra.sweeper.may_change=[sleep]")
    for number in (0, 1):
        process = toy.start("-m", *arguments, "sleep=30")
        toy.wait_for_trial(number, process)
        toy.kill(process)
    toy.sweep(*arguments)
    study = toy.study()
    assert [trial.state.name for trial in study.trials] == ["FAIL", "FAIL", "COMPLETE"]
    assert study.trials[0].params == study.trials[1].params != study.trials[2].params
    assert [trial.user_attrs.get("ended") for trial in study.trials] == ["dead", "dead", None]


@pytest.mark.parametrize("signum", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.journey)])
def test_an_interrupted_sweep_closes_its_trials_and_writes_the_best(toy: Toy, signum: int) -> None:
    arguments = ("-m", *XY, "sleep=0.5", "hydra.sweeper.n_trials=4")
    process = toy.start(*arguments)
    toy.wait_for_trial(1, process)
    os.kill(process.pid, signum)
    returncode, output = toy.wait(process)
    assert returncode != 0
    assert "interrupted: 1/4" in output
    study = toy.study()
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL"]
    assert study.trials[1].user_attrs["ended"] == "interrupted"
    assert study.trials[1].user_attrs["note"].startswith("No error of the task: the sweep was interrupted")
    assert "Trial 0 " in (toy.folder / "multirun/app/best.yaml").read_text()
    toy.run(*arguments)
    assert_complete(toy, 4)
    assert toy.study().trials[2].params == study.trials[1].params


def test_an_incomplete_last_line_of_the_journal_is_dropped(toy: Toy) -> None:
    toy.sweep(*XY, "hydra.sweeper.n_trials=2")
    with (toy.folder / "multirun/app/journal.log").open("a") as journal:
        journal.write('{"op_code": 4, "wor')
    toy.sweep(*XY, "hydra.sweeper.n_trials=4")
    assert_complete(toy, 4)


@pytest.mark.journey
def test_a_trial_of_a_lost_host_is_taken_over_on_request(toy: Toy) -> None:
    toy.sweep(*XY, "hydra.sweeper.n_trials=1")
    toy.study().add_trial(
        optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING, user_attrs={"slot": 1, "worker": "otherhost:1:1"}
        )
    )
    output = toy.sweep(*XY, "hydra.sweeper.n_trials=3")
    assert "trial 1 runs on otherhost; if that host is gone, say hydra.sweeper.take_over=true" in output
    assert [trial.state.name for trial in toy.study().trials] == ["COMPLETE", "RUNNING", "COMPLETE"]
    toy.sweep(*XY, "hydra.sweeper.n_trials=3", "hydra.sweeper.take_over=true")
    assert_complete(toy, 3)


@pytest.mark.journey
def test_a_changed_space_is_refused_unless_it_may_be_extended(toy: Toy) -> None:
    toy.sweep(*XY, "hydra.sweeper.n_trials=2")
    changed = ("x=interval(-9, 5)", "kind=a,b", "hydra.sweeper.n_trials=4")
    output = toy.sweep(*changed, code=1)
    assert "x was float -5.0 to 5.0, now it is float -9.0 to 5.0" in output
    assert "y is no longer in its space" in output
    assert "kind is new to its space" in output
    assert len(toy.study().trials) == 2
    toy.sweep(*changed, "hydra.sweeper.extend=true")
    assert_complete(toy, 4)
    assert set(toy.study().trials[3].params) == {"x", "kind"}


CHANGES = {
    "sampler": (["hydra/sweeper/sampler=random"], r"sampler was optuna.samplers.TPESampler\(\), now it is .*Random"),
    "pruner": (["hydra/sweeper/pruner=median"], r"pruner was optuna.pruners.NopPruner\(\), now it is .*MedianPruner"),
    "seed": (["hydra.sweeper.seed=7"], "seed was 0, now it is 7"),
    "value": (["folds=2"], "folds was 0, now it is 2"),
    "key": (["+extra=2"], "extra is new to its config"),
}


# Each change takes two sweeps, and is found in the same way.
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "sampler" else pytest.mark.journey) for name in CHANGES]
)
def test_a_study_that_would_go_on_otherwise_is_refused_unless_it_may_be_extended(toy: Toy, name: str) -> None:
    change, message = CHANGES[name]
    assert len(toy.sweep_quickly(*XY, "hydra.sweeper.n_trials=2")) == 2
    with pytest.raises(CompactHydraException, match=message) as error:
        toy.sweep_in_process(*XY, "hydra.sweeper.n_trials=3", *change)
    assert "name another hydra.sweeper.study_name" in str(error.value)
    more = toy.sweep_quickly(*XY, "hydra.sweeper.n_trials=3", *change, "hydra.sweeper.extend=true")
    assert len(more) == 1
    assert len(toy.sweep_quickly(*XY, "hydra.sweeper.n_trials=4", *change)) == 1, "what was extended is its own now"


@pytest.mark.journey
def test_an_edited_choice_of_one_model_is_refused(toy: Toy) -> None:
    arguments = ("model=tree,bush", "hydra.sweeper.n_trials=2")
    toy.sweep_quickly(*arguments)
    (toy.folder / "conf/model/bush.yaml").write_text("depth: 2\nshape: round\nedited: 1\n")
    with pytest.raises(CompactHydraException, match=r"model\.edited@bush is new to its config"):
        toy.sweep_in_process(*arguments)


def test_a_key_that_changes_no_result_may_change(toy: Toy) -> None:
    arguments = (*XY, "hydra.sweeper.may_change=[sleep]")
    toy.sweep_quickly(*arguments, "hydra.sweeper.n_trials=1")
    assert len(toy.sweep_quickly(*arguments, "hydra.sweeper.n_trials=2", "sleep=0.01")) == 1


@pytest.mark.journey
def test_a_study_of_an_earlier_version_is_resumed_and_its_space_compared(toy: Toy) -> None:
    toy.sweep_quickly(*XY, "hydra.sweeper.n_trials=1")
    study = toy.study()
    storage = storage_of(study)
    study_id = storage.get_study_id_from_name("app")
    space = storage.get_study_system_attrs(study_id)[DEFINITION]["space"]
    storage.set_study_system_attr(study_id, DEFINITION, None)
    study.set_user_attr("space", space)
    with pytest.raises(CompactHydraException, match=r"x was float -5.0 to 5.0, now it is float -6.0 to 5.0"):
        toy.sweep_in_process("x=interval(-6, 5)", XY[1])
    assert len(toy.sweep_quickly(*XY, "hydra.sweeper.n_trials=2")) == 1
    assert toy.study().user_attrs["space"] == {"x": "float -5.0 to 5.0", "y": "float -5.0 to 5.0"}


def test_a_study_without_a_trial_left_says_so(toy: Toy) -> None:
    toy.sweep(*XY, "hydra.sweeper.n_trials=2")
    assert "no trial left to run: a higher hydra.sweeper.n_trials" in toy.sweep(*XY, "hydra.sweeper.n_trials=1")


@pytest.mark.journey
def test_a_parameter_cannot_change_its_type(toy: Toy) -> None:
    toy.sweep(*XY, "hydra.sweeper.n_trials=1")
    output = toy.sweep("x=1,2", "y=interval(-5, 5)", "hydra.sweeper.n_trials=2", "hydra.sweeper.extend=true", code=1)
    assert "x cannot be float -5.0 to 5.0 and a choice of 1, 2 in one study" in output
    assert len(toy.ran()) == 1


@pytest.mark.journey
def test_another_direction_is_refused(toy: Toy) -> None:
    toy.sweep(*XY, "hydra.sweeper.n_trials=1")
    output = toy.sweep(*XY, "hydra.sweeper.n_trials=2", "hydra.sweeper.direction=maximize", code=1)
    assert "begun with directions ['minimize']" in output


@pytest.mark.journey
def test_folders_of_a_lost_study_are_not_overwritten(toy: Toy) -> None:
    toy.sweep(*XY, "hydra.sweeper.n_trials=1")
    (toy.folder / "multirun/app/journal.log").unlink()
    output = toy.sweep(*XY, "hydra.sweeper.n_trials=1", code=1)
    assert "would overwrite" in output
    assert len(toy.ran()) == 1
