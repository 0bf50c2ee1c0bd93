"""The running trial as a task sees it. Imported by tasks, so it imports nothing heavy."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Trial as OptunaTrial


class Pruned(Exception):  # noqa: N818 - an outcome, not an error
    """Ends the trial as pruned, from where a task cannot return: a library's callback."""


class Trial:
    """A job's trial. Outside of a sweep it takes reports, keeps attributes, and never prunes.

    Attributes
    ----------
    number : int or None
        The trial's number, which is its folder's and its run's; None outside of a sweep.
    objectives : int
        How many values the task should return.
    maximizes : bool
        Whether the first of them is the better the greater.
    unit : str or None
        What the study prunes by, fold or round; None outside of a sweep.
    winner : bool
        Whether this is a sweep's best trial, run once more.
    scores : dict of int to float
        What was reported of folds: number to score.
    user_attrs : dict
        What the task attached.
    context : dict
        What the sweep's callbacks hand to the task, `parent_run_id` for one.

    """

    number: int | None = None
    objectives: int = 1
    maximizes: bool = True
    unit: str | None = None
    winner: bool = False

    def __init__(self) -> None:
        self.scores: dict[int, float] = {}
        self.user_attrs: dict[str, Any] = {}
        self.context: dict[str, Any] = {}

    def report(self, score: float, step: int, unit: str = "fold") -> None:
        """Give the score of one step: a fold of a cross-validation, or a round of boosting."""
        if unit == "fold":
            self.scores[step] = float(score)

    def should_prune(self) -> bool:
        """Whether the trial is hopeless; the task then returns the mean of what it has."""
        return False

    def set_user_attr(self, key: str, value: Any) -> None:
        """Attach a JSON value to the trial."""
        self.user_attrs[key] = value

    def set_constraint(self, key: str, value: float) -> None:
        """State a constraint: the trial is feasible if every constraint's value is 0 or less."""
        del key, value


class StudyTrial(Trial):
    """The trial of a study: what it is told goes into the study's storage."""

    def __init__(self, trial: "OptunaTrial", overrides: Mapping[str, str], folder: str, unit: str) -> None:
        super().__init__()
        self.number = trial.number
        self.overrides = dict(overrides)
        self.folder = folder
        self.unit = unit
        self.study = trial.study
        self.objectives = len(trial.study.directions)
        self.maximizes = trial.study.directions[0].name == "MAXIMIZE"
        self._trial = trial
        self.told_to_prune = False

    def report(self, score: float, step: int, unit: str = "fold") -> None:
        """Give the score of one step; only the study's own unit, and of one objective, is pruned by."""
        super().report(score, step, unit)
        self.told_to_prune = False
        if self.objectives == 1 and unit == self.unit:
            self._trial.report(float(score), step)

    def should_prune(self) -> bool:
        """Ask the study's pruner about the scores so far."""
        if self.objectives > 1 or any(math.isnan(score) for score in self.scores.values()):
            return False
        self.told_to_prune = self._trial.should_prune()
        return self.told_to_prune

    def set_user_attr(self, key: str, value: Any) -> None:
        """Attach a JSON value to the trial, in the study too."""
        super().set_user_attr(key, value)
        self._trial.set_user_attr(key, value)

    def set_constraint(self, key: str, value: float) -> None:
        """State a constraint: the trial is feasible if every constraint's value is 0 or less."""
        self._trial.set_constraint(key, value)


_current: Trial | None = None


def current() -> Trial:
    """The running task's trial; a bare one outside of a sweep."""
    return _current if _current is not None else Trial()


def enter(trial: Trial | None) -> None:
    """Make this the running task's trial, None to end it. For the sweep alone."""
    global _current
    _current = trial
