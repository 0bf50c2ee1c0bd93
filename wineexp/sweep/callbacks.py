"""Callbacks of a sweep: subclass Callback, and name the class under `hydra.sweeper.callbacks`."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from optuna.study import Study
from optuna.trial import FrozenTrial

from wineexp.core.error_messages import explain
from wineexp.core.errors import UserError
from wineexp.sweep.plan import Plan
from wineexp.sweep.slots import DEAD, ERROR, INTERRUPTED, ended_by
from wineexp.sweep.trial import StudyTrial, Trial

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sweep:
    """The sweep that calls a callback; `config` is the sweep's own config, with its `hydra` node."""

    study: Study
    folder: Path
    config: DictConfig
    seed: int
    plan: Plan


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes
    ----------
    number : int
        The trial's number.
    state : str
        complete, pruned, failed, interrupted or duplicate; dead in the record of a study that goes on after a crash.
    values : sequence of float or None
        One for each objective.
    overrides : mapping
        Override key to text in Hydra's grammar.
    folder : Path
        The trial's folder.
    scores : mapping
        Step to the score that the task reported.
    error, traceback : str or None
        One line and the whole traceback, if the trial failed.
    attrs : mapping
        What the task attached to its trial.
    started : float or None
        Seconds since the epoch.

    """

    number: int
    state: str
    values: Sequence[float] | None
    overrides: Mapping[str, str]
    folder: Path
    scores: Mapping[int, float] = field(default_factory=dict)
    error: str | None = None
    traceback: str | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)
    started: float | None = None


def outcome_of(trial: FrozenTrial, sweep: Sweep) -> Outcome:
    """How a trial ended, as its study tells it, for a trial whose worker could not tell."""
    ended = {ERROR: "failed", INTERRUPTED: "interrupted", DEAD: "dead"}.get(str(ended_by(trial)))
    state = "duplicate" if "duplicate_of" in trial.user_attrs else ended or trial.state.name.lower()
    return Outcome(
        trial.number,
        state,
        trial.values,
        sweep.plan.texts_of(trial),
        sweep.folder / str(trial.number),
        trial.intermediate_values,
        trial.user_attrs.get("error"),
        trial.user_attrs.get("traceback"),
        trial.user_attrs,
        trial.datetime_start.timestamp() if trial.datetime_start else None,
    )


class Callback:
    """Methods that a sweep calls at its events; they do nothing unless a subclass overrides them.

    Every process has its own instance: study_start and study_end are called in the process that runs the sweep, or the
    latter in the last worker of one that nobody waits for; trial_dead in the one that notices; the others in workers.
    State that all of them need belongs in the study's user attributes.
    """

    def study_start(self, sweep: Sweep) -> None:
        """The study has been created or loaded, and no trial of this call has begun."""

    def worker_start(self, sweep: Sweep) -> None:
        """A worker begins, in its own process; a UserError keeps it from running trials."""

    def trial_start(self, sweep: Sweep, trial: StudyTrial) -> None:
        """The trial has its parameters; `trial.context` is handed to the task."""

    def trial_end(self, sweep: Sweep, outcome: Outcome) -> None:
        """The trial has been closed in the study."""

    def new_best(self, sweep: Sweep, outcome: Outcome, best_file: Path) -> None:
        """The trial is the best so far or on the Pareto front, and has been written into the file."""

    def trial_dead(self, sweep: Sweep, trial: FrozenTrial) -> None:
        """The trial's worker has died, and the trial has been closed as failed."""

    def trials_end(self, sweep: Sweep, max_seconds: float) -> None:
        """No trial is left to run, and what follows needs the stores; waits for so long for one that is away."""

    def refit_start(self, sweep: Sweep, trial: Trial) -> None:
        """The best trial, or the config's own values, are about to be run; see `trial.name`.

        `trial.context` is handed to the task. Called in the worker.
        """

    def refit_end(self, sweep: Sweep, winner: FrozenTrial, seed: int, value: float) -> None:
        """The best trial has been run again, under a seed of its own; the study's attribute `refit` tells all."""

    def refit_dead(self, sweep: Sweep) -> None:
        """The process that ran the best trial again has died."""

    def study_end(self, sweep: Sweep, status: str, files: Sequence[Path]) -> None:
        """The sweep ends `finished`, `stopped` by failures, or `interrupted`; `files` are those it leaves."""


class Callbacks:
    """A study's callbacks. An error in one is logged, and the sweep goes on: a fault in a recorder costs no trial.

    A UserError in study_start or worker_start is raised, since no trial has run yet.
    """

    def __init__(self, conf: Mapping[str, Any]) -> None:
        self._callbacks: list[Any] = []
        for name, node in conf.items():
            try:
                self._callbacks.append(instantiate(node, _convert_="all"))
            except Exception as error:
                raise UserError(f"hydra.sweeper.callbacks.{name}: {error}") from error

    def notify(self, event: str, *args: Any) -> None:
        """Call each callback's method of this name."""
        for callback in self._callbacks:
            try:
                getattr(callback, event)(*args)
            except Exception as error:
                if event in ("study_start", "worker_start") and isinstance(error, UserError):
                    raise
                reason = explain(error)
                log.error(
                    "%s.%s failed; the sweep goes on%s",
                    *(type(callback).__name__, event, f": {reason}" if reason else ""),
                    exc_info=reason is None,
                )
