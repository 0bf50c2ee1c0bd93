"""The study's book: which place of the budget each trial fills, who runs it, and what became of it.

A place (slot) is one of the `n_trials` of a study. Usually trial and slot have the same number; a trial whose worker
died leaves its slot open, and a later trial, with the same parameters and the same seed, fills it. Everything is read
off the trials themselves, so there is no second record that a crash could leave behind.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from wineexp.sweep.process import identity, is_alive, is_here
from wineexp.sweep.samplers import slot_of
from wineexp.sweep.space import Point
from wineexp.sweep.storage import locked

# How a trial ended, in its user attribute `ended`, where its state does not say: by itself, with its worker, by Ctrl-C.
ERROR, DEAD, INTERRUPTED = "error", "dead", "interrupted"


@dataclass(frozen=True)
class Budget:
    """How much a study may spend; None is no limit."""

    n_trials: int | None
    max_failures: int | None
    retries: int


class Ledger:
    """Hands out and closes the trials of one study, for all of its workers.

    Parameters
    ----------
    study : Study
        Optuna's.
    storage : BaseStorage
        The one the study is in.
    folder : Path
        The study's folder: its lock file serialises what must not happen twice.
    budget : Budget
        What may be spent.
    defaults : sequence of dict
        Fixed parameters of the first slots.
    complete : callable
        Whether a trial's parameters are all there.

    """

    def __init__(
        self,
        study: Study,
        storage: BaseStorage,
        folder: Path,
        budget: Budget,
        defaults: Sequence[Point] = (),
        complete: Callable[[Point], bool] = bool,
    ) -> None:
        self.study, self.storage, self.folder, self.budget = study, storage, folder, budget
        self.defaults, self.complete = defaults, complete
        self.study_id = storage.get_study_id_from_name(study.study_name)
        self.me = identity()

    @property
    def lock(self) -> Path:
        """The file that workers lock."""
        return self.folder / ".lock"

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number; not to be changed."""
        return self.storage.get_all_trials(self.study_id, deepcopy=False)

    def claim(self, sampler_for: Callable[[int], Any]) -> Trial | None:
        """Begin the next trial, an open slot's before a new one's; None when the budget is spent."""
        with locked(self.lock):
            slot, fixed = self._next()
            if slot is None:
                return None
            template = create_trial(
                state=TrialState.RUNNING,
                user_attrs={"slot": slot, "worker": self.me},
                system_attrs={"fixed_params": dict(fixed)} if fixed else {},
            )
            trial_id = self.storage.create_new_trial(self.study_id, template)
        self.study.sampler = sampler_for(slot)
        # What Study.ask does after creating the trial; it would create a second one.
        self.study._thread_local.cached_all_trials = None
        return Trial(self.study, trial_id)

    def _next(self) -> tuple[int | None, Point]:
        trials = self.trials()
        if self.stopped(trials):
            return None, {}
        last = self._last(trials)
        for slot in sorted(last):
            trial, is_open = last[slot]
            if is_open:
                return slot, trial.params if self.complete(trial.params) else self._default(slot)
        if self.budget.n_trials is not None and len(last) >= self.budget.n_trials:
            return None, {}
        return len(last), self._default(len(last))

    def _last(self, trials: Sequence[FrozenTrial]) -> dict[int, tuple[FrozenTrial, bool]]:
        """Each slot's last trial, and whether it leaves the slot open."""
        last: dict[int, FrozenTrial] = {}
        deaths: dict[int, int] = {}
        for trial in trials:
            slot = slot_of(trial)
            last[slot] = trial
            if trial.user_attrs.get("ended") == DEAD:
                deaths[slot] = deaths.get(slot, 0) + 1
        return {slot: (trial, self._open(trial, deaths.get(slot, 0))) for slot, trial in last.items()}

    def stopped(self, trials: Sequence[FrozenTrial]) -> bool:
        """Whether no more trials may begin: too many failed, or every point has been visited."""
        limit = self.budget.max_failures
        if limit is not None and self.failures(trials) > limit:
            return True
        return bool(self.storage.get_study_user_attrs(self.study_id).get("exhausted"))

    def left(self) -> int | None:
        """How many slots wait for a trial; None for no limit."""
        trials = self.trials()
        if self.stopped(trials):
            return 0
        last = self._last(trials)
        if self.budget.n_trials is None:
            return None
        return sum(is_open for _, is_open in last.values()) + max(0, self.budget.n_trials - len(last))

    def running_here(self) -> bool:
        """Whether some process of this host, other than this one, still runs a trial."""
        return any(
            trial.state is TrialState.RUNNING
            and is_here(str(trial.user_attrs.get("worker", "")))
            and trial.user_attrs.get("worker") != self.me
            for trial in self.trials()
        )

    def _default(self, slot: int) -> Point:
        return self.defaults[slot] if slot < len(self.defaults) else {}

    def _open(self, trial: FrozenTrial, deaths: int) -> bool:
        ended = trial.user_attrs.get("ended")
        return ended == INTERRUPTED or (ended == DEAD and deaths <= self.budget.retries)

    def finish(self, trial: Trial, state: TrialState, values: Sequence[float] | None = None, **attrs: Any) -> bool:
        """Close a trial, its attributes first; False if someone has closed it already."""
        try:
            for key, value in attrs.items():
                trial.set_user_attr(key, value)
            frozen = self.storage.get_trial(trial._trial_id)
            self.study.sampler.after_trial(_Stoppable(self.study), frozen, state, values)  # type: ignore[arg-type]
            return self.storage.set_trial_state_values(trial._trial_id, state, values)
        except UpdateFinishedTrialError:
            return False

    def reap(self, take_over: bool = False) -> list[FrozenTrial]:
        """Close the trials whose workers are dead, and give them; `take_over` counts other hosts' workers as dead."""
        dead = []
        with locked(self.lock):
            for trial in self.storage.get_all_trials(self.study_id, deepcopy=False, states=(TrialState.RUNNING,)):
                worker = str(trial.user_attrs.get("worker", ""))
                gone = not is_alive(worker) if is_here(worker) else take_over
                if gone:
                    self.storage.set_trial_user_attr(trial._trial_id, "ended", DEAD)
                    self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
                    dead.append(self.storage.get_trial(trial._trial_id))
        return dead

    def abandon(self) -> None:
        """Close what this worker still runs: it was interrupted, and the slots stay open."""
        for trial in self.trials():
            if trial.state is TrialState.RUNNING and trial.user_attrs.get("worker") == self.me:
                self.storage.set_trial_user_attr(trial._trial_id, "ended", INTERRUPTED)
                self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)

    def elsewhere(self) -> list[FrozenTrial]:
        """The trials that run on other hosts, alive or not: only a person can know."""
        return [
            trial
            for trial in self.trials()
            if trial.state is TrialState.RUNNING and not is_here(str(trial.user_attrs.get("worker", "")))
        ]

    def failures(self, trials: Sequence[FrozenTrial]) -> int:
        """How many trials failed by themselves."""
        return sum(trial.user_attrs.get("ended") == ERROR for trial in trials)

    def finished(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """The trials that count: finished, and their slots not open."""
        return [trial for trial, is_open in self._last(trials).values() if trial.state.is_finished() and not is_open]

    def duplicate(self, point: Point) -> FrozenTrial | None:
        """An earlier trial with these very parameters, complete or pruned."""
        for trial in self.trials():
            if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and trial.params == point:
                return trial
        return None

    def best(self) -> list[FrozenTrial]:
        """The best feasible complete trial, or the Pareto front by number; empty while there is none."""
        try:
            if len(self.study.directions) == 1:
                return [self.study.best_trial]
        except ValueError:
            return []
        return sorted(self.study.best_trials, key=lambda trial: trial.number)


class _Stoppable:
    """A study on which a sampler may call `stop`, which Optuna forbids outside of `optimize`."""

    def __init__(self, study: Study) -> None:
        self._study = study

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def stop(self) -> None:
        """Remember that there is nothing left to suggest."""
        self._study.set_user_attr("exhausted", True)
