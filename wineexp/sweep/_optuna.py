"""Private names of Optuna 5 that the sweeper relies on; `tests/sweep/test_optuna_adapter.py` says what of each."""

from collections.abc import Callable, Mapping
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, QMCSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

__all__ = [
    "BaseJournalFileLock",
    "ClaimingStorage",
    "IndexedQMCSampler",
    "NumberTakenError",
    "StoppableStudy",
    "cached",
    "contains",
    "fixed_params",
    "frozen",
    "share_search_space",
    "start_trial",
    "storage_of",
    "trial_id",
    "trial_template",
]

# The system attribute that `Study.enqueue_trial` writes and suggestions read.
FIXED_PARAMS = "fixed_params"


def storage_of(study: Study) -> BaseStorage:
    """The storage that a study reads and writes, with the cache that Optuna has put before it."""
    return study._storage


def trial_id(trial: Trial | FrozenTrial) -> int:
    """The trial's id in its storage, which is not its number in its study."""
    return trial._trial_id


def trial_template(user_attrs: Mapping[str, Any], fixed_params: Mapping[str, Any]) -> FrozenTrial:
    """A trial to be created as running, whose suggestions give the fixed parameters as `Study.enqueue_trial` does."""
    return create_trial(
        state=TrialState.RUNNING,
        user_attrs=dict(user_attrs),
        system_attrs={FIXED_PARAMS: dict(fixed_params)} if fixed_params else {},
    )


def frozen(trial: Trial) -> FrozenTrial:
    """A running trial as this process has made it, without asking the storage."""
    return trial._cached_frozen_trial


def fixed_params(trial: FrozenTrial) -> dict[str, Any]:
    """The parameters that a trial was created with; empty if a sampler was to suggest all of them."""
    return dict(trial.system_attrs.get(FIXED_PARAMS, {}))


def start_trial(study: Study, new_trial_id: int) -> Trial:
    """A created trial, ready to suggest; what `Study.ask` does after it has created one."""
    study._thread_local.cached_all_trials = None
    return Trial(study, new_trial_id)


def share_search_space(sampler: BaseSampler, other: BaseSampler) -> None:
    """Let a new sampler know which parameters all trials have in common, as far as another one has seen them.

    It is found out trial by trial, and does not depend on the sampler's seed.
    """
    found_out = getattr(other, "_search_space", None)
    if isinstance(found_out, IntersectionSearchSpace):
        sampler._search_space = found_out  # type: ignore[attr-defined]


def contains(distribution: IntDistribution | FloatDistribution, value: float) -> bool:
    """Whether a number is one that the distribution can give, its step considered."""
    return distribution._contains(value)


class NumberTakenError(Exception):
    """A trial was not created: another process has created one since this process has looked."""


class ClaimingStorage(RDBStorage):
    """Optuna's database, which creates a trial only if it gets the number `expected_number`, unless that is None.

    Optuna locks the study, adds the trial and counts those before it, all in one transaction; a number that is not the
    expected one rolls it back. So of workers that have seen the same trials and chosen the same slot, one gets it.
    """

    expected_number: int | None = None

    def _get_prepared_new_trial(self, study_id: int, template_trial: FrozenTrial | None, session: Any) -> Any:
        trial = super()._get_prepared_new_trial(study_id, template_trial, session)
        if self.expected_number not in (None, trial.number):
            raise NumberTakenError(f"the trial would be number {trial.number}, not {self.expected_number}")
        return trial


def cached(database: RDBStorage) -> BaseStorage:
    """A database behind the cache that Optuna puts before it: what has finished is read once."""
    return get_storage(database)


class IndexedQMCSampler(QMCSampler):
    """Optuna's QMC sampler, which takes the point of its sequence at `index` instead of counting in the storage."""

    index = 0

    def _find_sample_id(self, study: Study, search_space: dict[str, BaseDistribution]) -> int:
        return self.index


class StoppableStudy:
    """A study as a sampler's `after_trial` sees it, whose `stop` calls a function; Optuna's own allows it in loops."""

    def __init__(self, study: Study, on_stop: Callable[[], None]) -> None:
        self._study, self._on_stop = study, on_stop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def stop(self) -> None:
        """Tell that there is nothing left to suggest."""
        self._on_stop()
