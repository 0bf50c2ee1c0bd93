"""Which slot of the budget each trial of a study fills, which worker runs it, and how it ended.

A slot is one of the `n_trials` of a study. Trial and slot usually have the same number. A trial whose worker died or
was interrupted leaves its slot open; a later trial fills it with the same parameters and the same seed. All of this is
stored in the trials themselves, so that there is no second record which a crash could leave behind.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from wineexp.sweep._optuna import (
    NumberTakenError,
    StoppableStudy,
    fixed_params,
    frozen,
    start_trial,
    trial_id,
    trial_template,
)
from wineexp.sweep.leases import REFIT, Leases
from wineexp.sweep.lock import locked
from wineexp.sweep.outages import PatientStorage
from wineexp.sweep.slots import DEAD, INTERRUPTED, Slots, best_trials
from wineexp.sweep.space import Point
from wineexp.sweep.worker_id import current_worker_id, is_alive, is_on_this_host

# The user attribute `note`, for who looks at a study in a dashboard, which shows such trials as errors.
NOTES = {
    DEAD: "No error of the task: its worker died, and the same parameters are tried again if retries allow.",
    INTERRUPTED: "No error of the task: the sweep was interrupted, and tries these parameters again when it goes on.",
}
# The system attribute of a study that holds the process which runs the best trial again.
REFIT_CLAIM = "wineexp:refit"
# The user attribute of a study that says why it ended before its budget was spent.
ENDED_EARLY = "ended_early"


@dataclass(frozen=True)
class Terminator:
    """When a study ends before its budget is spent: after `patience` trials none of which is better by `min_delta`."""

    patience: int
    min_delta: float = 0.0

    def __str__(self) -> str:
        by = f" by more than {self.min_delta:g}" if self.min_delta else ""
        return f"none of {self.patience} trials in a row was better{by}"


@dataclass(frozen=True)
class Budget:
    """How much a study may spend; None is no limit."""

    n_trials: int | None
    max_failures: int | None
    retries: int
    terminator: Terminator | None = None


class Ledger:
    """Starts and closes the trials of one study, for all of its workers.

    Parameters
    ----------
    study : Study
        Optuna's.
    storage : BaseStorage
        The storage that holds the study.
    folder : Path
        The study's folder, with the lock file that the workers share.
    budget : Budget
        What may be spent.
    enqueued : sequence of dict
        Fixed parameters of the first slots.
    is_complete : callable
        Whether a trial has a value for each of its parameters.
    points : callable or None
        Gives every point of a space whose points have one trial each; None if the sampler chooses.
    leases : Leases or None
        Those of a study in a database's server, whose workers may be on hosts that share no folder.

    """

    def __init__(
        self,
        study: Study,
        storage: BaseStorage,
        folder: Path,
        budget: Budget,
        enqueued: Sequence[Point] = (),
        is_complete: Callable[[Point], bool] = bool,
        points: Callable[[], Iterator[Point] | None] | None = None,
        leases: Leases | None = None,
    ) -> None:
        self.study, self.storage, self.folder, self.budget = study, storage, folder, budget
        self.enqueued, self.is_complete, self.points, self.leases = enqueued, is_complete, points, leases
        self.directions = study.directions
        maximizes = self.directions[0] is StudyDirection.MAXIMIZE
        min_delta = budget.terminator.min_delta if budget.terminator else 0.0
        self._slots = Slots(budget.retries, points, maximizes=maximizes, min_delta=min_delta)
        self.study_id = storage.get_study_id_from_name(study.study_name)
        self.worker_id = current_worker_id(is_exact=leases is not None)

    @property
    def lock_file(self) -> Path:
        """The file that workers lock for what must not happen twice."""
        return self.folder / ".lock"

    # Reading the study.

    def trials(self) -> list[FrozenTrial]:
        """All trials by number, not to be changed."""
        return self.storage.get_all_trials(self.study_id, deepcopy=False)

    def slots(self) -> Slots:
        """The slots as they are now."""
        self._slots.update(self.trials())
        return self._slots

    def n_remaining(self) -> int | None:
        """The number of slots that have no trial or are open; None without a limit."""
        slots = self.slots()
        if self._has_given_up(slots):
            return 0
        n_trials = self.n_trials(slots)
        return None if n_trials is None else len(slots.open) + max(0, n_trials - len(slots.last))

    def is_spent(self) -> bool:
        """Whether no more trials may begin, whatever becomes of those that run."""
        return self._has_given_up(self._slots)

    def n_trials(self, slots: Slots) -> int | None:
        """How many slots the study will have: its budget, or as many as its space has points; None without a limit."""
        if self.points is None:
            return self.budget.n_trials
        n_slots = len(slots.last) + slots.n_unvisited
        return n_slots if self.budget.n_trials is None else min(n_slots, self.budget.n_trials)

    def find_duplicate(self, point: Point) -> FrozenTrial | None:
        """A complete or pruned trial with exactly these parameters, among those that were seen at the last look."""
        return self._slots.find_evaluated(point)

    def best(self, slots: Slots | None = None) -> list[FrozenTrial]:
        """The best feasible complete trial, or the Pareto front by number; empty if there is none.

        With slots, of what they have seen; else as it is now.
        """
        if len(self.directions) == 1:
            best = (slots or self.slots()).best
            return [] if best is None else [best]
        return best_trials(self.trials(), self.directions)

    def was_best(self, number: int) -> bool:
        """Whether this trial was the best at the last look; a later one may be better by now, and none be worse."""
        best = self._slots.best
        return best is not None and best.number == number

    def running_on_other_hosts(self) -> list[FrozenTrial]:
        """The running trials whose workers this host cannot see, so that only a person can know if they are alive."""
        if self.leases is not None:
            return []
        return [trial for trial in self.running() if not is_on_this_host(_worker_of(trial))]

    def has_other_workers(self) -> bool:
        """Whether another process, one whose end this process would notice, runs a trial."""
        workers = map(_worker_of, self.running())
        return any(worker != self.worker_id and (self.leases or is_on_this_host(worker)) for worker in workers)

    def running(self) -> list[FrozenTrial]:
        """The trials that run now."""
        return self.slots().running

    def _has_given_up(self, slots: Slots) -> bool:
        """Whether no more trials may begin: too many failed, all points are visited, or the terminator ended it."""
        limit = self.budget.max_failures
        if limit is not None and slots.n_failures > limit:
            return True
        attrs = self.storage.get_study_user_attrs(self.study_id)
        return bool(attrs.get("exhausted")) or self._is_ended_early(attrs)

    def _is_ended_early(self, attrs: Mapping[str, Any]) -> bool:
        """Whether a terminator as this one has ended the study, in any process; another one looks anew."""
        return self.budget.terminator is not None and attrs.get(ENDED_EARLY) == str(self.budget.terminator)

    @property
    def ended_early(self) -> str | None:
        """Why the study ended before its budget was spent; None if the terminator has not ended it."""
        attrs = self.storage.get_study_user_attrs(self.study_id)
        return str(attrs[ENDED_EARLY]) if self._is_ended_early(attrs) else None

    def _end_early(self, slots: Slots) -> bool:
        """Let all workers end if the terminator says so; what their last trials give does not begin the study again."""
        terminator = self.budget.terminator
        if terminator is None or slots.n_stale < terminator.patience:
            return False
        self.storage.set_study_user_attr(self.study_id, ENDED_EARLY, str(terminator))
        return True

    # Starting and closing trials.

    def start_next_trial(self, make_sampler: Callable[[int], BaseSampler]) -> Trial | None:
        """Start a trial, in an open slot if there is one; None if the budget is spent.

        `make_sampler` gives the sampler of a slot.
        """
        while True:
            with self._exclusive():
                slot, fixed_params = self._next_slot()
                if slot is None:
                    return None
                claimed = self._claim(slot, fixed_params)
            if claimed is not None:
                self.study.sampler = make_sampler(slot)
                return start_trial(self.study, claimed)

    def _exclusive(self) -> AbstractContextManager[None]:
        """Keep other workers out while this one looks and claims; not needed where a claim fails after a change."""
        return nullcontext() if isinstance(self.storage, PatientStorage) else locked(self.lock_file)

    def _claim(self, slot: int, fixed_params: Point) -> int | None:
        """Create the trial of a slot and give its id; None if another process has created one since the last look."""
        template = trial_template({"slot": slot, "worker": self.worker_id}, fixed_params)
        if not isinstance(self.storage, PatientStorage):
            return self.storage.create_new_trial(self.study_id, template)
        database = self.storage.database
        database.expected_number = self._slots.n_trials
        try:
            return self.storage.create_new_trial(self.study_id, template)
        except NumberTakenError:
            # After an outage it may be this very process that has created it: the answer was lost.
            own = [trial for trial in self.running() if _worker_of(trial) == self.worker_id]
            return trial_id(own[-1]) if own else None
        finally:
            database.expected_number = None

    def _next_slot(self) -> tuple[int | None, Point]:
        """The slot to be filled next and its fixed parameters; no slot if the budget is spent."""
        slots = self.slots()
        if self._has_given_up(slots) or self._end_early(slots):
            return None, {}
        if slots.open:
            slot = min(slots.open)
            trial = slots.last[slot]
            return slot, trial.params if self.is_complete(trial.params) else fixed_params(trial)
        n_slots = len(slots.last)
        if self.budget.n_trials is not None and n_slots >= self.budget.n_trials:
            return None, {}
        if self.points is None:
            return n_slots, self.enqueued[n_slots] if n_slots < len(self.enqueued) else {}
        point = slots.next_unvisited()
        return (None, {}) if point is None else (n_slots, point)

    def close(self, trial: Trial, state: TrialState, values: Sequence[float] | None = None, **attrs: Any) -> bool:
        """Close a trial after setting its user attributes; False if another process has closed it already."""
        try:
            for key, value in attrs.items():
                trial.set_user_attr(key, value)
            stoppable = StoppableStudy(self.study, lambda: self.study.set_user_attr("exhausted", True))
            self.study.sampler.after_trial(stoppable, frozen(trial), state, values)  # type: ignore[arg-type]
            return self.storage.set_trial_state_values(trial_id(trial), state, values)
        except UpdateFinishedTrialError:
            return False

    def close_interrupted(self) -> None:
        """Close what this worker still runs as interrupted, which leaves its slots open."""
        for trial in self.running():
            if _worker_of(trial) == self.worker_id:
                self._close_failed(trial, INTERRUPTED)

    def close_dead(self, include_other_hosts: bool = False) -> list[FrozenTrial]:
        """Close the trials whose workers have died, and give them; workers of other hosts may be counted as dead."""
        closed = []
        with self._exclusive():
            for trial in self.running():
                worker = _worker_of(trial)
                if self.is_dead(worker, include_other_hosts) and self._close_failed(trial, DEAD):
                    closed.append(self.storage.get_trial(trial_id(trial)))
        return closed

    def is_dead(self, worker: str, include_other_hosts: bool = False) -> bool:
        """Whether a worker has died: its process on this host has ended, or its lease is lost."""
        if is_on_this_host(worker):
            return not is_alive(worker)
        return include_other_hosts or (self.leases is not None and self.leases.is_lost(worker))

    @property
    def is_stopped(self) -> bool:
        """Whether the study's workers are to stop, as of the last beat of this process."""
        return self.leases is not None and self.leases.is_stopped

    # Running the best trial again, which one process does.

    def claim_refit(self) -> bool:
        """Take the refit for this process; False if another one has it."""
        if self.leases is not None:
            return self.leases.claim(REFIT, self.worker_id, self.is_dead)
        with locked(self.lock_file):
            holder = self._refit_holder()
            if holder not in ("", self.worker_id) and (not is_on_this_host(holder) or is_alive(holder)):
                return False
            self.storage.set_study_system_attr(self.study_id, REFIT_CLAIM, self.worker_id)
            return True

    def release_refit(self) -> None:
        """Give the refit back."""
        if self.leases is not None:
            self.leases.end(REFIT)
            return
        self.storage.set_study_system_attr(self.study_id, REFIT_CLAIM, "")

    def close_dead_refit(self, include_other_hosts: bool = False) -> bool:
        """Release the refit if the process that had it has died; a process of another host may be counted as dead."""
        with self._exclusive():
            holder = self._refit_holder()
            if not holder or not self.is_dead(holder, include_other_hosts):
                return False
            self.release_refit()
            return True

    def _refit_holder(self) -> str:
        if self.leases is not None:
            return self.leases.holder(REFIT) or ""
        return str(self.storage.get_study_system_attrs(self.study_id).get(REFIT_CLAIM, ""))

    def _close_failed(self, trial: FrozenTrial, ended: str) -> bool:
        """Close a trial that has not ended by itself; False if another process has closed it first."""
        try:
            self.storage.set_trial_user_attr(trial_id(trial), "ended", ended)
            self.storage.set_trial_user_attr(trial_id(trial), "note", NOTES[ended])
            return self.storage.set_trial_state_values(trial_id(trial), TrialState.FAIL)
        except UpdateFinishedTrialError:
            return False


def has_dead_worker(trial: FrozenTrial) -> bool:
    """Whether a trial's worker was one of this host and has ended."""
    worker = _worker_of(trial)
    return bool(worker) and is_on_this_host(worker) and not is_alive(worker)


def _worker_of(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get("worker", ""))
