"""Waiting while a database is away: it is restarted, or the network is down, and the work goes on afterwards."""

import abc
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from wineexp.core.error_messages import error_chain
from wineexp.sweep._optuna import ClaimingStorage, cached

log = logging.getLogger(__name__)

# The pauses between two tries: the first one, and the longest.
FIRST_PAUSE_SECONDS = 0.2
MAX_PAUSE_SECONDS = 5.0

T = TypeVar("T")


def is_outage(error: BaseException) -> bool:
    """Whether a database could not be reached, went away or gave up on a lock, so that the same request may succeed."""
    for link in error_chain(error):
        if isinstance(link, OperationalError | InterfaceError | PoolTimeoutError):
            return True
        if isinstance(link, DBAPIError) and link.connection_invalidated:
            return True
    return False


def wait_out(call: Callable[[], T], max_seconds: float) -> tuple[T, bool]:
    """What a call returns, and whether it had to be repeated because the database was away.

    Raises what the call raises: at once if that is no outage, and an outage that lasts for `max_seconds`.
    """
    since: float | None = None
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            result = call()
        except Exception as error:
            now = time.monotonic()
            if not is_outage(error) or now - (since or now) >= max_seconds:
                raise
            if since is None:
                since = now
                reason = str(error_chain(error)[-1]).strip().partition("\n")[0]
                log.warning("the study's database is away; waiting up to %.0f s for it (%s)", max_seconds, reason)
            time.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)
            continue
        if since is not None:
            log.warning("the study's database is back after %.0f s", time.monotonic() - since)
        return result, since is not None


class PatientStorage(BaseStorage):
    """A database as Optuna's storage, which waits out the outages of a server.

    Attributes
    ----------
    database : ClaimingStorage
    max_outage : float
        Seconds of an outage after which its error is raised; 0 raises it at once.
    """

    def __init__(self, database: ClaimingStorage) -> None:
        self.database, self.max_outage = database, 0.0
        self._cached = cached(database)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Any = None) -> bool:
        """Close a trial, or start one that waits.

        An outage may hide that a first try succeeded; a second one then finds the trial closed by this very process.
        """

        def call() -> bool:
            return self._cached.set_trial_state_values(trial_id, state, values)

        try:
            return wait_out(call, self.max_outage)[0]
        except UpdateFinishedTrialError:
            trial = self.get_trial(trial_id)
            if trial.state is state and trial.values == (None if values is None else list(values)):
                return True
            raise


def _waiting(name: str) -> Callable[..., Any]:
    """The method of this name, which waits out an outage."""

    def method(self: PatientStorage, *args: Any, **options: Any) -> Any:
        return wait_out(lambda: getattr(self._cached, name)(*args, **options), self.max_outage)[0]

    method.__name__ = name
    return method


for _name in dir(BaseStorage):
    if not _name.startswith("_") and _name not in vars(PatientStorage):
        setattr(PatientStorage, _name, _waiting(_name))
abc.update_abstractmethods(cast(type, PatientStorage))


def patient(database: ClaimingStorage) -> PatientStorage:
    """A database as Optuna's storage. Type checkers do not see the methods that the class gets after its definition."""
    storage: PatientStorage = cast(Any, PatientStorage)(database)
    return storage
