"""Callbacks hear of everything, and the winner runs once more."""

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
        raise RuntimeError("the recorder is broken")
"""


def events(toy: Toy) -> list[dict]:
    return [json.loads(line) for line in (toy.folder / "events.jsonl").read_text().splitlines()]


def recorded(toy: Toy, *arguments: str) -> tuple[str, ...]:
    (toy.folder / "recorder.py").write_text(RECORDER)
    program = toy.folder / "app.py"
    shown = '    print("context", me.context)\n    time.sleep'
    program.write_text(program.read_text().replace("    time.sleep", shown, 1))
    return (*XY, "+hydra.sweeper.callbacks.mine._target_=recorder.Recorder", *arguments)


def test_callbacks_hear_of_everything_in_order(toy: Toy) -> None:
    output = toy.sweep(*recorded(toy, "folds=2", "fails=[1]", "hydra.sweeper.n_trials=3"))
    told = events(toy)
    names = [event["event"] for event in told if event["event"] != "new_best"]
    assert names == ["study_start", *["trial_start", "trial_end"] * 3, "study_end"]
    ends = [event for event in told if event["event"] == "trial_end"]
    assert [event["state"] for event in ends] == ["complete", "failed", "complete"]
    assert ends[0]["scores"] == {"0": 2.0, "1": 2.1}
    assert ends[1]["error"] == "ValueError: this one was told to fail"
    assert ends[1]["lines"] > 3
    assert next(event["number"] for event in told if event["event"] == "new_best") == 0
    assert told[-1]["status"] == "finished"
    assert told[-1]["files"] == ["best.yaml"]
    assert output.count("context {'parent_run_id': 'p1'}") == 3, "the task is handed what the callback gave"


@pytest.mark.journey
def test_a_dead_workers_trial_is_told(toy: Toy) -> None:
    arguments = recorded(toy, "sleep=1", "hydra.sweeper.n_trials=2")
    process = toy.start("-m", *arguments)
    toy.wait_for(0, process=process)
    toy.kill(process)
    toy.sweep(*arguments)
    assert [event["number"] for event in events(toy) if event["event"] == "trial_dead"] == [0]


def test_a_broken_callback_costs_no_trial(toy: Toy) -> None:
    broken = "+hydra.sweeper.callbacks.b._target_=recorder.Broken"
    output = toy.sweep(*recorded(toy, "hydra.sweeper.n_trials=2", broken))
    assert "Broken.trial_end failed; the sweep goes on" in output
    assert [trial.state.name for trial in toy.study().trials] == ["COMPLETE"] * 2


def test_the_winner_runs_once_more_under_a_fresh_seed(toy: Toy) -> None:
    config = toy.folder / "conf/app.yaml"
    config.write_text(config.read_text() + "seed: 0\n")
    arguments = recorded(toy, "hydra.sweeper.n_trials=3", "hydra.sweeper.refit_seed=seed")
    output = toy.sweep(*arguments)
    study = toy.study()
    told = study.user_attrs["refit"]
    assert told["trial"] == study.best_trial.number
    assert told["value"] == study.best_value, "this task does not heed its seed"
    assert f"run again under seed {told['seed']}: {study.best_value:.6g}" in output
    record = toy.folder / f"multirun/app/refit-{told['trial']}/.hydra/config.yaml"
    assert f"seed: {told['seed']}\n" in record.read_text()
    assert f"# Refitted under seed {told['seed']}: " in (toy.folder / "multirun/app/best.yaml").read_text()
    assert output.count("context {'parent_run_id': 'p1'}") == 4
    assert toy.ran()[-1].split()[0] == "None", "it is no trial of the study"
    toy.sweep(*arguments)
    assert len(toy.ran()) == 4, "once is enough"
