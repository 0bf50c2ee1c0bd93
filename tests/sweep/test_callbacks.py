"""Callbacks are called at every event, and the best trial is run again."""

import json

import pytest

from tests.sweep.conftest import XY, Toy

RECORDER = """
import json
from wineexp.sweep.callbacks import Callback


class Recorder(Callback):
    def note(self, event, **details):
        with open("events.jsonl", "a") as file:
            print(json.dumps({"event": event, **details}), file=file)

    def study_start(self, sweep):
        sweep.study.set_user_attr("parent", "p1")
        self.note("study_start", name=sweep.study.study_name)

    def trial_start(self, sweep, trial):
        trial.context["parent_run_id"] = sweep.study.user_attrs["parent"]
        self.note("trial_start", number=trial.number, overrides=trial.overrides)

    def trial_end(self, sweep, outcome):
        self.note("trial_end", number=outcome.number, state=outcome.state, values=outcome.values, scores=outcome.scores,
                  error=outcome.error, lines=len((outcome.traceback or "").splitlines()))

    def new_best(self, sweep, outcome, best_file):
        self.note("new_best", number=outcome.number, file=best_file.name)

    def trial_dead(self, sweep, trial):
        self.note("trial_dead", number=trial.number)

    def refit_start(self, sweep, trial):
        trial.context["parent_run_id"] = sweep.study.user_attrs["parent"]
        self.note("refit_start")

    def refit_end(self, sweep, winner, seed, value):
        self.note("refit_end", number=winner.number, seed=seed, value=value)

    def study_end(self, sweep, status, files):
        self.note("study_end", status=status, files=[file.name for file in files])


class Broken(Callback):
    def trial_end(self, sweep, outcome):
        raise RuntimeError("this callback is broken")
"""


def events(toy: Toy) -> list[dict]:
    return [json.loads(line) for line in (toy.folder / "events.jsonl").read_text().splitlines()]


def with_recorder(toy: Toy, *arguments: str) -> tuple[str, ...]:
    """Add a callback that records events, and let the program print its trial's context; gives the arguments."""
    (toy.folder / "recorder.py").write_text(RECORDER)
    program = toy.folder / "app.py"
    printing = '    print("context", current.context)\n    time.sleep'
    program.write_text(program.read_text().replace("    time.sleep", printing, 1))
    return (*XY, "+hydra.sweeper.callbacks.mine._target_=recorder.Recorder", *arguments)


def test_callbacks_are_called_at_every_event_in_order(toy: Toy) -> None:
    output = toy.sweep(*with_recorder(toy, "folds=2", "fails=[1]", "hydra.sweeper.n_trials=3"))
    recorded = events(toy)
    names = [event["event"] for event in recorded if event["event"] != "new_best"]
    assert names == ["study_start", *["trial_start", "trial_end"] * 3, "study_end"]
    ends = [event for event in recorded if event["event"] == "trial_end"]
    assert [event["state"] for event in ends] == ["complete", "failed", "complete"]
    assert ends[0]["scores"] == {"0": 2.0, "1": 2.1}
    assert ends[1]["error"] == "ValueError: this trial fails on request"
    assert ends[1]["lines"] > 3
    assert next(event["number"] for event in recorded if event["event"] == "new_best") == 0
    assert recorded[-1]["status"] == "finished"
    assert recorded[-1]["files"] == ["best.yaml"]
    assert output.count("context {'parent_run_id': 'p1'}") == 3, "the callback's context reaches the task"


@pytest.mark.journey
def test_the_trial_of_a_dead_worker_is_an_event(toy: Toy) -> None:
    arguments = with_recorder(toy, "sleep=1", "hydra.sweeper.n_trials=2")
    process = toy.start("-m", *arguments)
    toy.wait_for_trial(0, process)
    toy.kill(process)
    toy.sweep(*arguments)
    assert [event["number"] for event in events(toy) if event["event"] == "trial_dead"] == [0]


def test_a_broken_callback_costs_no_trial(toy: Toy) -> None:
    broken = "+hydra.sweeper.callbacks.b._target_=recorder.Broken"
    output = toy.sweep(*with_recorder(toy, "hydra.sweeper.n_trials=2", broken))
    assert "Broken.trial_end failed; the sweep goes on" in output
    assert [trial.state.name for trial in toy.study().trials] == ["COMPLETE"] * 2


def test_the_best_trial_is_run_again_once_under_a_seed_of_its_own(toy: Toy) -> None:
    config = toy.folder / "conf/app.yaml"
    config.write_text(config.read_text() + "seed: 0\n")
    arguments = with_recorder(toy, "hydra.sweeper.n_trials=3", "hydra.sweeper.refit_seed=seed")
    output = toy.sweep(*arguments)
    study = toy.study()
    refit = study.user_attrs["refit"]
    assert refit["trial"] == study.best_trial.number
    assert refit["value"] == study.best_value, "this task does not use its seed"
    assert f"run again under seed {refit['seed']}: {study.best_value:.6g}" in output
    record = toy.folder / f"multirun/app/winner-{refit['trial']}/.hydra/config.yaml"
    assert f"seed: {refit['seed']}\n" in record.read_text()
    assert f"# Refitted under seed {refit['seed']}: " in (toy.folder / "multirun/app/best.yaml").read_text()
    assert output.count("context {'parent_run_id': 'p1'}") == 4
    assert toy.ran()[-1].split()[0] == "None", "the refit is no trial of the study"
    toy.sweep(*arguments)
    assert len(toy.ran()) == 4, "the refit was run again"


@pytest.mark.journey
def test_the_configs_own_values_are_run_beside_the_winner(toy: Toy) -> None:
    arguments = ("x=-1,3", "y=2", "hydra.sweeper.refit_seed=sleep", "hydra.sweeper.n_trials=2")
    *_, winner, default = toy.sweep_quickly(*arguments, "hydra.sweeper.direction=maximize")
    assert (winner.x, winner.y, default.x, default.y) == (3, 2, 1, 2)
    refit = toy.study().user_attrs["refit"]
    assert (refit["value"], refit["default"]) == (9, 1)
    assert winner.sleep == default.sleep == refit["seed"]
    # As a crash after the winner's run would leave it.
    toy.study().set_user_attr("refit", {key: refit[key] for key in ("trial", "seed", "value")})
    (default,) = toy.sweep_quickly(*arguments, "hydra.sweeper.direction=maximize")
    assert (default.x, default.sleep) == (1, refit["seed"])
    assert toy.study().user_attrs["refit"] == refit


@pytest.mark.parametrize(
    "arguments",
    [["hydra.sweeper.refit_default=false", "x=2,3"], ["x=1,-5", "hydra.sweeper.study_name=own"], ["model=tree,bush"]],
    ids=["not wanted", "the winner has them", "only a group varies"],
)
def test_the_configs_own_values_are_not_run_where_that_would_tell_nothing(toy: Toy, arguments: list[str]) -> None:
    fixed = ("hydra.sweeper.refit_seed=sleep", "hydra.sweeper.search=null")
    assert len(toy.sweep_quickly(*arguments, *fixed)) == 3
