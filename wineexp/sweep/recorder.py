"""The callback that records a study in MLflow: a run for the study, and a run below it for each trial."""

import logging
import math
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from wineexp.core.errors import UnavailableError, UserError
from wineexp.sweep.callbacks import Callback, Outcome, Sweep, outcome_of
from wineexp.sweep.ledger import has_dead_worker
from wineexp.sweep.plots import draw_study
from wineexp.sweep.slots import DEAD, best_trials, ended_by, own_trials
from wineexp.sweep.trial import StudyTrial, Trial
from wineexp.sweep.warm_start import TAKEN_OVER
from wineexp.tracking import names
from wineexp.tracking.studies import StudyRuns

log = logging.getLogger(__name__)

# The user attribute of a study that holds the id of its run; a task finds the id under this key in its trial's context.
PARENT_RUN_ID = "parent_run_id"
# The user attribute of a trial that holds the id of the run which its task opened.
RUN_ID = "run_id"
# How long recording a trial may take.
RECORDING_SECONDS = 10.0
# How long to wait before a store that is away is asked again, after the tries of MLflow's client.
AWAY_PAUSE_SECONDS = 5.0
# MLflow's status for a sweep's, and for the states of trials that did not end well.
STUDY_STATUS = {"finished": "FINISHED", "stopped": "FAILED", "interrupted": "KILLED"}
TRIAL_STATUS = {"failed": "FAILED", "interrupted": "KILLED"}


class Recorder(Callback):
    """Records a study in MLflow.

    A task that opens a run itself finds `parent_run_id` in its trial's context, and attaches its run's id to the trial
    as `run_id`. For any other task, the trial's run is made when the trial ends.

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
        """The study's runs in the store, which is opened at the first use in each process."""
        if self._opened is None:
            self._opened = StudyRuns(str(self.uri), self.experiment)
        return self._opened

    def study_start(self, sweep: Sweep) -> None:
        """Open the study's run, a new one if it has none yet."""
        if self.uri is None:
            return
        study, attrs = sweep.study, sweep.study.user_attrs
        if "study_id" not in attrs:
            study.set_user_attr("study_id", uuid.uuid4().hex)
        tags = {"study_id": str(study.user_attrs["study_id"])}
        parent = self.runs.open(study.study_name, tags, attrs.get(PARENT_RUN_ID))
        if parent != attrs.get(PARENT_RUN_ID):
            study.set_user_attr(PARENT_RUN_ID, parent)
        directions = ",".join(direction.name.lower() for direction in study.directions)
        self.runs.log(parent, tags={"directions": directions, "folder": sweep.folder.absolute(), "seed": sweep.seed})
        if TAKEN_OVER in attrs:
            counts = ", ".join(f"{number} trials of {source}" for source, number in attrs[TAKEN_OVER].items())
            self.runs.log(parent, tags={names.TAKEN_OVER: counts})
        trials = [trial for trial in sweep.study.get_trials(deepcopy=False) if has_dead_worker(trial)]
        self._record_what_was_left_out(sweep, parent, trials)

    def _record_what_was_left_out(self, sweep: Sweep, parent: str, trials: Sequence[FrozenTrial]) -> None:
        """Record those of the trials that ended in the study while their worker died, or the store was away."""
        for trial, run in self._left_out(parent, trials):
            outcome = outcome_of(trial, sweep)
            if outcome.state == "dead":
                self.trial_dead(sweep, trial)
            else:
                self._record_trial(parent, outcome, run.info.run_id if run is not None else None)

    def _left_out(self, parent: str, trials: Sequence[FrozenTrial]) -> list[tuple[FrozenTrial, Any]]:
        """Those of the trials that have ended and are not recorded, each with its run, or None."""
        trials = [trial for trial in trials if trial.state.is_finished()]
        if not trials:
            return []
        children = self.runs.children(parent)
        by_number = {run.data.tags.get(names.TRIAL): run for run in children}
        by_id = {run.info.run_id: run for run in children}
        left_out = []
        for trial in trials:
            own_run = trial.user_attrs.get(RUN_ID)
            run = by_number.get(str(trial.number)) or by_id.get(own_run)
            is_recorded = run is not None and run.info.status != "RUNNING" and names.TRIAL in run.data.tags
            # The run of its task may have been deleted.
            if not (is_recorded or (own_run is not None and run is None)):
                left_out.append((trial, run))
        return left_out

    def worker_start(self, sweep: Sweep) -> None:
        """Refuse a worker whose store is not that of the study, in which each of its trials would fail."""
        parent = sweep.study.user_attrs.get(PARENT_RUN_ID) if self.uri is not None else None
        try:
            is_elsewhere = parent is not None and not self.runs.exists(parent)
        except UnavailableError:
            # Its trials wait for the store.
            return
        if is_elsewhere:
            raise UserError(
                f"the run of study {sweep.study.study_name!r} is not in {self.runs.uri}, where this worker would "
                "record its trials: set MLFLOW_TRACKING_URI to the address of the server that the sweep records in"
            )

    def trial_start(self, sweep: Sweep, trial: StudyTrial) -> None:
        """Hand the id of the study's run to the task."""
        self._set_parent(sweep, trial)

    def refit_start(self, sweep: Sweep, trial: Trial) -> None:
        """Hand the id of the study's run to the task."""
        self._set_parent(sweep, trial)

    def _set_parent(self, sweep: Sweep, trial: Trial) -> None:
        if self.uri is not None:
            trial.context[PARENT_RUN_ID] = sweep.study.user_attrs[PARENT_RUN_ID]

    def trial_end(self, sweep: Sweep, outcome: Outcome) -> None:
        """Add the outcome to the run that the task opened, or make a run for the trial."""
        if self.uri is not None:
            self._record_trial(str(sweep.study.user_attrs[PARENT_RUN_ID]), outcome)

    def _record_trial(self, parent: str, outcome: Outcome, begun: str | None = None) -> None:
        """Record a trial; `begun` is the id of a run that was made for it and not completed."""
        tags: dict[str, Any] = {names.TRIAL: outcome.number, names.TRIAL_STATE: outcome.state}
        if outcome.error:
            tags[names.ERROR] = outcome.error
        if "duplicate_of" in outcome.attrs:
            tags["duplicate_of"] = outcome.attrs["duplicate_of"]
        own_run = outcome.attrs.get(RUN_ID)
        name = f"trial {outcome.number}"
        run = str(own_run) if own_run else begun or self.runs.child(parent, name, tags, outcome.started)
        values = list(outcome.values or [])
        metrics: dict[str, Any] = {_objective(index, values): (value, 0) for index, value in enumerate(values)}
        if outcome.scores:
            metrics["score"] = outcome.scores
        if own_run:
            # The task has logged its parameters and its config.
            self.runs.log(run, metrics=metrics, tags=tags)
        else:
            self.runs.log(run, params=outcome.overrides, metrics=metrics)
            config = outcome.folder / ".hydra" / "config.yaml"
            if config.exists():
                self.runs.attach(run, config)
            if outcome.traceback:
                self.runs.attach_text(run, outcome.traceback, "traceback.txt")
        if not own_run or outcome.state in TRIAL_STATUS:
            self.runs.close(run, TRIAL_STATUS.get(outcome.state, "FINISHED"))

    def new_best(self, sweep: Sweep, outcome: Outcome, best_file: Path) -> None:
        """Write the best parameters and their file into the study's run."""
        if self.uri is None:
            return
        parent = str(sweep.study.user_attrs[PARENT_RUN_ID])
        if len(sweep.study.directions) == 1:
            self._write_best(sweep, parent, outcome)
        self.runs.attach(parent, best_file)

    def _record_best(self, sweep: Sweep, parent: str) -> None:
        """Write the best parameters into the study's run, since a crash may have kept a worker from doing it."""
        if len(sweep.study.directions) > 1:
            return
        for best in best_trials(sweep.study.get_trials(deepcopy=False), sweep.study.directions):
            self._write_best(sweep, parent, outcome_of(best, sweep))

    def _write_best(self, sweep: Sweep, parent: str, outcome: Outcome) -> None:
        # Tags, since MLflow's parameters cannot change. The keys of another model's best are emptied.
        earlier_keys = sweep.study.user_attrs.get("best_keys", [])
        best: Mapping[str, str] = {f"best.{key}": value for key, value in outcome.overrides.items()}
        emptied = {key: "" for key in earlier_keys if key not in best}
        metrics = {"best_value": (float((outcome.values or [math.nan])[0]), outcome.number)}
        self.runs.log(parent, metrics=metrics, tags={names.BEST_TRIAL: outcome.number, **best, **emptied})
        if set(earlier_keys) != set(best):
            sweep.study.set_user_attr("best_keys", sorted({*earlier_keys, *best}))

    def trial_dead(self, sweep: Sweep, trial: FrozenTrial) -> None:
        """Close the run of a trial whose worker died, as KILLED."""
        run = trial.user_attrs.get(RUN_ID)
        if self.uri is not None and run is not None and self.runs.is_open(run):
            self.runs.log(run, tags={names.TRIAL: trial.number, names.TRIAL_STATE: "dead"})
            self.runs.close(run, "KILLED")

    def refit_dead(self, sweep: Sweep) -> None:
        """Close the run of a refit whose process died, as KILLED."""
        if self.uri is None:
            return
        of_trials = {trial.user_attrs.get(RUN_ID) for trial in sweep.study.get_trials(deepcopy=False)}
        for run in self.runs.children(str(sweep.study.user_attrs[PARENT_RUN_ID])):
            if run.info.status == "RUNNING" and run.info.run_id not in of_trials:
                self.runs.close(run.info.run_id, "KILLED")

    def trials_end(self, sweep: Sweep, max_seconds: float) -> None:
        """Wait for a store that is away: what could not be recorded meanwhile is recorded when the study ends."""
        if self.uri is None:
            return
        parent, began = str(sweep.study.user_attrs[PARENT_RUN_ID]), time.monotonic()
        while self.runs.is_away(parent) and time.monotonic() - began < max_seconds:
            log.warning("%s cannot be reached; waiting up to %.0f s to end the study there", self.runs.uri, max_seconds)
            time.sleep(AWAY_PAUSE_SECONDS)

    def refit_end(self, sweep: Sweep, winner: FrozenTrial, seed: int, value: float) -> None:
        """Record the value of the refit beside the best trial's."""
        if self.uri is not None:
            parent = str(sweep.study.user_attrs[PARENT_RUN_ID])
            metrics = {"refit_value": (value, winner.number), "winner_value": (float(winner.values[0]), winner.number)}
            default = sweep.study.user_attrs["refit"]["default"]
            if default is not None:
                metrics["default_value"] = (default, winner.number)
            self.runs.log(parent, metrics=metrics, tags={"refit_seed": seed})

    def study_end(self, sweep: Sweep, status: str, files: Sequence[Path]) -> None:
        """Store the study's files and figures in its run, and close the run with the sweep's status."""
        if self.uri is None:
            return
        parent = str(sweep.study.user_attrs[PARENT_RUN_ID])
        for file in files:
            self.runs.attach(parent, file)
        trials = own_trials(sweep.study.get_trials(deepcopy=False))
        recent = [trial for trial in trials if _is_recent(trial)]
        # A worker on another host may be recording the trial that it has just closed.
        if status == "finished" and any(ended_by(trial) != DEAD for trial, _ in self._left_out(parent, recent)):
            log.info("waiting %.0f s for trials that workers may be recording", RECORDING_SECONDS)
            time.sleep(RECORDING_SECONDS)
        self._record_what_was_left_out(sweep, parent, [trial for trial in trials if not _is_recent(trial)])
        self._record_best(sweep, parent)
        log.info("Look at it: %s", self.runs.how_to_view())
        for file in draw_study(sweep.study, sweep.folder / "plots"):
            self.runs.attach(parent, file, "plots")
        self.runs.describe(parent, _description(sweep))
        # Another process may still be at this study, and will close its run.
        if not any(trial.state is TrialState.RUNNING for trial in sweep.study.get_trials(deepcopy=False)):
            self.runs.close(parent, STUDY_STATUS[status])


def _is_recent(trial: FrozenTrial) -> bool:
    """Whether a trial ended so short a time ago that its worker may be recording it."""
    ended = trial.datetime_complete
    return ended is not None and ended >= datetime.now() - timedelta(seconds=RECORDING_SECONDS)


def _description(sweep: Sweep) -> str:
    """The study in Markdown: its trials, its best value, and which files to look at."""
    trials = own_trials(sweep.study.get_trials(deepcopy=False))
    ended = Counter(trial.state.name.lower() for trial in trials)
    counts = ", ".join(f"{number} {state}" for state, number in ended.items())
    text = f"Study **{sweep.study.study_name}**: {len(trials)} trials ({counts}), the runs below this one.\n\n"
    for source, number in sweep.study.user_attrs.get(TAKEN_OVER, {}).items():
        text += f"From the start its sampler knew {number} trials of study {source}; they are not among these.\n\n"
    best_or_front = best_trials(trials, sweep.study.directions)
    if best_or_front and len(sweep.study.directions) == 1:
        best = best_or_front[0]
        text += f"Best: trial {best.number}, **{best.value:.4f}** ({sweep.study.direction.name.lower()}). "
        if "refit" in sweep.study.user_attrs:
            refit = sweep.study.user_attrs["refit"]
            text += f"Run again under seed {refit['seed']}: **{refit['value']:.4f}**. "
            if refit.get("default") is not None:
                text += f"The config's own values under the same seed: **{refit['default']:.4f}**. "
    return f"{text}\n\n`best.yaml` says how to run the best again; `plots/` shows how it was found."


def _objective(index: int, values: Sequence[float]) -> str:
    return "value" if len(values) == 1 else f"value_{index}"
