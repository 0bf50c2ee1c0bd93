"""What is known of the slots of a study, kept from look to look: a look costs as much as there is new to see."""

import threading
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from optuna.study import StudyDirection, create_study
from optuna.trial import FrozenTrial, TrialState

from wineexp.sweep._optuna import fixed_params
from wineexp.sweep.samplers import slot_of
from wineexp.sweep.space import Point

# The user attribute `ended` of a trial in state FAIL: its task raised, its worker died, or it was interrupted.
ERROR, DEAD, INTERRUPTED = "error", "dead", "interrupted"


# The user attribute of a trial that was not run in its study, but taken over from an earlier one.
TAKEN_OVER_FROM = "taken_over_from"


class Slots:
    """The slots of a study, by its trials.

    Parameters
    ----------
    retries : int
        How often a slot is tried again whose worker died.
    points : callable or None
        Gives every point of a space whose points have one trial each; None if the sampler chooses.
    maximizes : bool, optional
        Whether the first value of a trial is better if it is higher.
    min_delta : float, optional
        By how much more than this a trial's value has to be better to be an improvement.

    Attributes
    ----------
    last : dict of int to FrozenTrial
        The last trial of each slot.
    open : set of int
        The slots that are to be filled again.
    n_failures : int
        Trials whose task raised an error.
    n_trials : int
        The trials that have been looked at; also the number of the next one.
    n_stale : int
        The complete and pruned trials since the last improvement.
    best : FrozenTrial or None
        The complete trial with the best first value that violates no constraint, of equal ones the earliest.
    """

    def __init__(
        self,
        retries: int,
        points: Callable[[], Iterator[Point] | None] | None,
        *,
        maximizes: bool = False,
        min_delta: float = 0.0,
    ) -> None:
        self.retries, self.maximizes, self.min_delta = retries, maximizes, min_delta
        self.best: FrozenTrial | None = None
        self.last: dict[int, FrozenTrial] = {}
        self.open: set[int] = set()
        self.n_failures = 0
        self.n_stale = 0
        # The value of the last improvement.
        self._improved_value: float | None = None
        self.n_trials = 0
        # The trials that run, by number.
        self._unfinished: dict[int, FrozenTrial] = {}
        self._deaths: dict[int, int] = {}
        self._ends: list[float] = []
        self._evaluated: dict[frozenset[tuple[str, Any]], FrozenTrial] = {}
        self._unvisited = {_key(point): point for point in points() or ()} if points is not None else {}
        # A line that is updated in a terminal looks from a thread of its own.
        self._lock = threading.Lock()

    def update(self, trials: Sequence[FrozenTrial]) -> None:
        """Look at what is new in all trials of the study, in the order of their numbers.

        A finished trial does not change any more: it is looked at once.
        """
        with self._lock:
            numbers = [*sorted(self._unfinished), *range(self.n_trials, len(trials))]
            self.n_trials = max(self.n_trials, len(trials))
            for number in numbers:
                self._add(trials[number])

    @property
    def n_finished(self) -> int:
        """The slots whose last trial is finished and counts."""
        with self._lock:
            n_running = sum(self.last[slot_of(trial)].number == trial.number for trial in self._unfinished.values())
            return len(self.last) - len(self.open) - n_running

    @property
    def running(self) -> list[FrozenTrial]:
        """The trials that ran at the last look, by number."""
        with self._lock:
            return [self._unfinished[number] for number in sorted(self._unfinished)]

    @property
    def n_unvisited(self) -> int:
        """The points of the space that no trial has."""
        return len(self._unvisited)

    def next_unvisited(self) -> Point | None:
        """The first point that no trial has, in the order of a grid."""
        return next(iter(self._unvisited.values()), None)

    def find_evaluated(self, point: Point) -> FrozenTrial | None:
        """The first complete or pruned trial with exactly these parameters."""
        return self._evaluated.get(_key(point))

    def n_ended_since(self, moment: float) -> int:
        """The trials that have ended since then, in seconds since the epoch."""
        return len(self._ends) - bisect_left(self._ends, moment)

    def _add(self, trial: FrozenTrial) -> None:
        if TAKEN_OVER_FROM in trial.user_attrs:
            return
        slot = slot_of(trial)
        is_last = slot not in self.last or trial.number >= self.last[slot].number
        if is_last:
            self.last[slot] = trial
        # A worker that is suggesting has stored some of the parameters only; those that are fixed are all there.
        self._unvisited.pop(_key(fixed_params(trial) or trial.params), None)
        if not trial.state.is_finished():
            self._unfinished[trial.number] = trial
            self.open.discard(slot)
            return
        self._unfinished.pop(trial.number, None)
        self._unvisited.pop(_key(trial.params), None)
        ended = ended_by(trial)
        self.n_failures += ended == ERROR
        if ended == DEAD:
            self._deaths[slot] = self._deaths.get(slot, 0) + 1
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            self._evaluated.setdefault(_key(trial.params), trial)
            self.n_stale += 1
        if trial.state is TrialState.COMPLETE and self._is_better(trial):
            self.best = trial
            self._count_improvement(trial.values[0])
        if trial.datetime_complete is not None:
            insort(self._ends, trial.datetime_complete.timestamp())
        if is_last:
            leaves_open = ended == INTERRUPTED or (ended == DEAD and self._deaths[slot] <= self.retries)
            (self.open.add if leaves_open else self.open.discard)(slot)

    def _count_improvement(self, value: float) -> None:
        """Begin to count anew if the value of a new best trial is better by more than `min_delta`."""
        if self._improved_value is None or abs(value - self._improved_value) > self.min_delta:
            self._improved_value, self.n_stale = value, 0

    def _is_better(self, trial: FrozenTrial) -> bool:
        """Whether a complete trial is better than the best so far."""
        if any(value > 0 for value in trial.constraints.values()):
            return False
        if self.best is None:
            return True
        sign = -1 if self.maximizes else 1
        return (sign * trial.values[0], trial.number) < (sign * self.best.values[0], self.best.number)


def own_trials(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that were run in their study, not taken over from an earlier one."""
    return [trial for trial in trials if TAKEN_OVER_FROM not in trial.user_attrs]


def best_trials(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> list[FrozenTrial]:
    """The best feasible complete trial, or the Pareto front by number, of those that were run in their study."""
    own = own_trials(trials)
    if len(directions) == 1:
        slots = Slots(0, None, maximizes=directions[0] is StudyDirection.MAXIMIZE)
        for trial in own:
            slots._add(trial)
        return [] if slots.best is None else [slots.best]
    complete = [trial for trial in own if trial.state is TrialState.COMPLETE]
    study = create_study(directions=list(directions))
    study.add_trials(complete)
    return [complete[number] for number in sorted(trial.number for trial in study.best_trials)]


def ended_by(trial: FrozenTrial) -> str | None:
    """ERROR, DEAD or INTERRUPTED of a trial in state FAIL; None of any other.

    A process that found the worker dead may have written that just before the worker, alive, stored its result.
    """
    ended = trial.user_attrs.get("ended") if trial.state is TrialState.FAIL else None
    return None if ended is None else str(ended)


def _key(point: Point) -> frozenset[tuple[str, Any]]:
    return frozenset(point.items())
