"""The callback that records a study in MLflow: its own run, and its trials' runs below."""

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from wineexp.sweep.callbacks import Callback, Outcome, Sweep
from wineexp.sweep.plots import draw
from wineexp.sweep.trial import StudyTrial, Trial
from wineexp.tracking.studies import StudyRuns

# Where the study keeps the id of its own run, and a trial that of the run which its task opened.
PARENT, RUN = "parent_run_id", "run_id"
STATUS = {"finished": "FINISHED", "stopped": "FAILED", "interrupted": "KILLED"}
ENDED = {"failed": "FAILED", "interrupted": "KILLED"}


class Recorder(Callback):
    """Records a study in MLflow.

    A task that opens a run of its own finds `parent_run_id` in its trial's context and tells its run's id by the
    trial's attribute `run_id`; for one that does not, the trial's run is made when it ends.

    Parameters
    ----------
    uri : str or None
        The tracking store; None records nothing.
    experiment : str
        The experiment of the study's run.
    """

    def __init__(self, uri: str | None, experiment: str) -> None:
        self.uri, self.experiment = uri, experiment
        self._opened: StudyRuns | None = None

    @property
    def runs(self) -> StudyRuns:
        """The study's runs, the store opened at the first use in this process."""
        if self._opened is None:
            self._opened = StudyRuns(str(self.uri), self.experiment)
        return self._opened

    def study_start(self, sweep: Sweep) -> None:
        """Find the study's run again, or begin it."""
        if self.uri is None:
            return
        study, known = sweep.study, sweep.study.user_attrs
        if "study_id" not in known:
            study.set_user_attr("study_id", uuid.uuid4().hex)
        tags = {"study_id": str(study.user_attrs["study_id"])}
        parent = self.runs.open(study.study_name, tags, known.get(PARENT))
        if parent != known.get(PARENT):
            study.set_user_attr(PARENT, parent)
        directions = ",".join(direction.name.lower() for direction in study.directions)
        self.runs.log(parent, tags={"directions": directions, "folder": sweep.folder.absolute(), "seed": sweep.seed})

    def trial_start(self, sweep: Sweep, trial: StudyTrial) -> None:
        """Hand the study's run to the task."""
        self._adopt(sweep, trial)

    def refit_start(self, sweep: Sweep, trial: Trial) -> None:
        """Hand the study's run to the task."""
        self._adopt(sweep, trial)

    def _adopt(self, sweep: Sweep, trial: Trial) -> None:
        if self.uri is not None:
            trial.context[PARENT] = sweep.study.user_attrs[PARENT]

    def trial_end(self, sweep: Sweep, outcome: Outcome) -> None:
        """Complete the run that the task opened, or make one."""
        if self.uri is None:
            return
        parent = str(sweep.study.user_attrs[PARENT])
        tags: dict[str, Any] = {"trial": outcome.number, "state": outcome.state}
        if outcome.error:
            tags["error"] = outcome.error
        if "duplicate_of" in outcome.attrs:
            tags["duplicate_of"] = outcome.attrs["duplicate_of"]
        own = outcome.attrs.get(RUN)
        run = str(own) if own else self.runs.child(parent, f"trial {outcome.number}", tags, outcome.began)
        values = list(outcome.values or [])
        metrics: dict[str, Any] = {_objective(index, values): (value, 0) for index, value in enumerate(values)}
        if outcome.scores:
            metrics["score"] = outcome.scores
        if own:
            # It has its parameters and its config.
            self.runs.log(run, metrics=metrics, tags=tags)
        else:
            self.runs.log(run, params=outcome.overrides, metrics=metrics)
        if not own:
            config = outcome.folder / ".hydra" / "config.yaml"
            if config.exists():
                self.runs.attach(run, config)
            if outcome.traceback:
                self.runs.attach_text(run, outcome.traceback, "traceback.txt")
        if not own or outcome.state in ENDED:
            self.runs.close(run, ENDED.get(outcome.state, "FINISHED"))

    def new_best(self, sweep: Sweep, outcome: Outcome, best_file: Path) -> None:
        """Show the best parameters and their file on the study's run."""
        if self.uri is None:
            return
        parent = str(sweep.study.user_attrs[PARENT])
        values = list(outcome.values or [])
        metrics = {f"best_{_objective(index, values)}": (value, outcome.number) for index, value in enumerate(values)}
        if len(values) > 1:
            self.runs.attach(parent, best_file)
            return
        # Tags, since MLflow's parameters cannot change; all of them, since another model's would stay.
        before = sweep.study.user_attrs.get("best_keys", [])
        best: Mapping[str, str] = {f"best.{key}": value for key, value in outcome.overrides.items()}
        gone = {key: "" for key in before if key not in best}
        self.runs.log(parent, metrics=metrics, tags={"best_trial": outcome.number, **best, **gone})
        if set(before) != set(best):
            sweep.study.set_user_attr("best_keys", sorted({*before, *best}))
        self.runs.attach(parent, best_file)

    def trial_dead(self, sweep: Sweep, trial: FrozenTrial) -> None:
        """Close the run of a trial whose worker died, as KILLED."""
        run = trial.user_attrs.get(RUN)
        if self.uri is not None and run is not None and self.runs.is_open(run):
            self.runs.log(run, tags={"trial": trial.number, "state": "dead"})
            self.runs.close(run, "KILLED")

    def refit_end(self, sweep: Sweep, winner: FrozenTrial, seed: int, value: float) -> None:
        """Set the fresh figure beside the winner's."""
        if self.uri is not None:
            parent = str(sweep.study.user_attrs[PARENT])
            told = {"refit_value": (value, winner.number), "winner_value": (float(winner.values[0]), winner.number)}
            self.runs.log(parent, metrics=told, tags={"refit_seed": seed})

    def study_end(self, sweep: Sweep, status: str, files: Sequence[Path]) -> None:
        """Draw the study, store what it leaves, and close its run with an honest status."""
        if self.uri is None:
            return
        parent = str(sweep.study.user_attrs[PARENT])
        for file in files:
            self.runs.attach(parent, file)
        for file in draw(sweep.study, sweep.folder / "plots"):
            self.runs.attach(parent, file, "plots")
        self.runs.describe(parent, _description(sweep))
        self.runs.close(parent, STATUS[status])


def _description(sweep: Sweep) -> str:
    """What a study found, in Markdown, and where to look on."""
    trials = sweep.study.get_trials(deepcopy=False)
    ended = Counter(trial.state.name.lower() for trial in trials)
    counts = ", ".join(f"{number} {state}" for state, number in ended.items())
    told = f"Study **{sweep.study.study_name}**: {len(trials)} trials ({counts}), the runs below this one.\n\n"
    if ended["complete"] and len(sweep.study.directions) == 1:
        best = sweep.study.best_trial
        told += f"Best: trial {best.number}, **{best.value:.4f}** ({sweep.study.direction.name.lower()}). "
        if "refit" in sweep.study.user_attrs:
            again = sweep.study.user_attrs["refit"]
            told += f"Run again under seed {again['seed']}: **{again['value']:.4f}**. "
    return f"{told}\n\n`best.yaml` says how to run the best again; `plots/` shows how it was found."


def _objective(index: int, values: Sequence[float]) -> str:
    return "value" if len(values) == 1 else f"value_{index}"
