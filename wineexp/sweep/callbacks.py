"""What a sweep tells others while it runs: subclass Callback and name the class under `hydra.sweeper.callbacks`."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from optuna.study import Study
from optuna.trial import FrozenTrial

from wineexp.core.errors import UserError
from wineexp.sweep.trial import StudyTrial, Trial

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sweep:
    """The sweep a callback is told about: `config` is the sweep's own, with its `hydra` node."""

    study: Study
    folder: Path
    config: DictConfig
    seed: int


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    `state` is complete, pruned, failed, interrupted or duplicate; `overrides` are key to text in Hydra's grammar;
    `scores` are step to score; `error` is one line and `traceback` the whole of it, where the trial failed; `attrs`
    are what the task attached; `began` is seconds since the epoch.
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
    began: float | None = None


class Callback:
    """Told of a sweep's events; each method does nothing until a subclass gives it something to do.

    Every process has its own instance: study_start, trial_dead and study_end come in the process that began the
    sweep, the others in the workers'. What all need belongs in the study's user attributes.
    """

    def study_start(self, sweep: Sweep) -> None:
        """The study is there, new or found again; no trial of this call has begun."""

    def trial_start(self, sweep: Sweep, trial: StudyTrial) -> None:
        """The trial's parameters are known; `trial.context` reaches the task."""

    def trial_end(self, sweep: Sweep, outcome: Outcome) -> None:
        """The trial is closed in the study."""

    def new_best(self, sweep: Sweep, outcome: Outcome, best_file: Path) -> None:
        """The trial is the best so far, or joined the Pareto front, and the file says so."""

    def trial_dead(self, sweep: Sweep, trial: FrozenTrial) -> None:
        """The trial's worker was found dead, and the trial has been closed as failed."""

    def refit_start(self, sweep: Sweep, trial: Trial) -> None:
        """The winner is about to run once more; `trial.context` reaches the task. Told in the worker's process."""

    def refit_end(self, sweep: Sweep, winner: FrozenTrial, seed: int, value: float) -> None:
        """The winner has run once more, under a seed of its own."""

    def study_end(self, sweep: Sweep, status: str, files: Sequence[Path]) -> None:
        """The sweep ends: `finished`, `stopped` by a failure, or `interrupted`. `files` are what it leaves."""


class Callbacks:
    """Tells each of a study's callbacks, and goes on where one fails: a recorder's fault costs no trial.

    Only a mistake of the user's that shows before the first trial ends the sweep.
    """

    def __init__(self, conf: Mapping[str, Any]) -> None:
        self._all: list[Any] = []
        for name, node in conf.items():
            try:
                self._all.append(instantiate(node, _convert_="all"))
            except Exception as error:
                raise UserError(f"hydra.sweeper.callbacks.{name}: {error}") from error

    def tell(self, event: str, *args: Any) -> None:
        """Call the method of this name on each."""
        for callback in self._all:
            try:
                getattr(callback, event)(*args)
            except Exception as error:
                if event == "study_start" and isinstance(error, UserError):
                    raise
                log.exception("%s.%s failed; the sweep goes on", type(callback).__name__, event)
