"""The running trial as a task sees it. Tasks import this module, so it imports no library."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Trial as OptunaTrial


class Pruned(Exception):  # noqa: N818 - an outcome, not an error
    """Ends the trial as pruned where a task cannot return, as in a library's callback."""


class Trial:
    """A job's trial. Outside of a sweep it stores what the task reports and attaches, and never prunes.

    Attributes
    ----------
    number : int or None
        The trial's number, which is also its folder's; None outside of a sweep.
    objectives : int
        How many values the task should return.
    maximizes : bool
        Whether the first of these values is better if it is higher.
    unit : str or None
        The reports that the study prunes by, `fold` or `round`; None outside of a sweep.
    name : str or None
        What a run of this trial is called: `trial 3`, or for runs after the trials `winner` and `default`; None outside
        of a sweep.
    is_refit : bool
        Whether this is a sweep's best trial, or its config's own values, run after the trials.
    scores : dict of int to float
        Each fold's reported score.
    user_attrs : dict
        What the task attached.
    context : dict
        What the sweep's callbacks hand to the task, such as `parent_run_id`.

    """

    number: int | None = None
    objectives: int = 1
    maximizes: bool = True
    unit: str | None = None
    name: str | None = None
    is_refit: bool = False

    def __init__(self) -> None:
        self.scores: dict[int, float] = {}
        self.user_attrs: dict[str, Any] = {}
        self.context: dict[str, Any] = {}

    def report(self, score: float, step: int, unit: str = "fold") -> None:
        """Give the score of one step: a fold of a cross-validation, or a round of boosting."""
        if unit == "fold":
            self.scores[step] = float(score)

    def should_prune(self) -> bool:
        """Whether the trial is hopeless; the task then returns the mean of its scores so far."""
        return False

    def set_user_attr(self, key: str, value: Any) -> None:
        """Attach a JSON value to the trial."""
        self.user_attrs[key] = value

    def set_constraint(self, key: str, value: float) -> None:
        """State a constraint: the trial is feasible if every constraint's value is 0 or less."""
        del key, value


class StudyTrial(Trial):
    """The trial of a study: what the task reports and attaches goes into the study's storage."""

    def __init__(self, trial: "OptunaTrial", overrides: Mapping[str, str], folder: str, unit: str) -> None:
        super().__init__()
        self.number = trial.number
        self.name = f"trial {trial.number}"
        self.overrides = dict(overrides)
        self.folder = folder
        self.unit = unit
        self.study = trial.study
        self.objectives = len(trial.study.directions)
        self.maximizes = trial.study.directions[0].name == "MAXIMIZE"
        self.is_pruned = False
        self._trial = trial

    def report(self, score: float, step: int, unit: str = "fold") -> None:
        """Give the score of one step; a study prunes by its own unit only, and only with one objective."""
        super().report(score, step, unit)
        self.is_pruned = False
        if self.objectives == 1 and unit == self.unit:
            self._trial.report(float(score), step)

    def should_prune(self) -> bool:
        """Whether the study's pruner finds the trial hopeless."""
        if self.objectives > 1 or any(math.isnan(score) for score in self.scores.values()):
            return False
        self.is_pruned = self._trial.should_prune()
        return self.is_pruned

    def set_user_attr(self, key: str, value: Any) -> None:
        """Attach a JSON value to the trial, in the study too."""
        super().set_user_attr(key, value)
        self._trial.set_user_attr(key, value)

    def set_constraint(self, key: str, value: float) -> None:
        """State a constraint: the trial is feasible if every constraint's value is 0 or less."""
        self._trial.set_constraint(key, value)


_current: Trial | None = None


def current() -> Trial:
    """The running task's trial; outside of a sweep, a new one."""
    return _current if _current is not None else Trial()


def set_current_trial(trial: Trial | None) -> None:
    """Set the running task's trial, or None at its end. Only the sweep calls this."""
    global _current
    _current = trial
