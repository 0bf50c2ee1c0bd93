"""A lock that processes on different machines share through MLflow, which has none of its own."""

import time
import uuid

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from wineexp.core.errors import UserError
from wineexp.tracking import _mlflow

# How long a process may hold the lock: others that have watched the same holder for longer take over.
LEASE_SECONDS = 20.0

# How many leases a process waits before it gives up.
MAX_LEASES = 9

POLL_SECONDS = 0.1

# The tag of the lock that names its holder.
HOLDER = "holder"


class Lease:
    """A lock that is a registered model: its name is unique in every store, so that only one process can make it.

    A holder that was killed loses the lock after a while. Only durations on the own clock are compared, never the time
    of another machine.

    Parameters
    ----------
    client : MlflowClient
    name : str
        Of the registered model that is the lock.
    seconds : float, optional
    """

    def __init__(self, client: MlflowClient, name: str, seconds: float = LEASE_SECONDS) -> None:
        self.client = client
        self.name = name
        self.seconds = seconds
        self._id = uuid.uuid4().hex

    def acquire(self) -> None:
        """Wait for the lock and take it.

        Raises
        ------
        UserError
            Other processes held it for `MAX_LEASES` leases.
        """
        start = time.monotonic()
        holder, since = "", start
        while not self._take():
            now = time.monotonic()
            if (current := self._holder()) != holder:
                holder, since = current, now
            elif holder and now - since > self.seconds:
                self._release(holder)
            if now - start > MAX_LEASES * self.seconds:
                raise UserError(
                    f"{self.name} has been held by other decisions for {now - start:.0f} seconds; if there are none, "
                    f"delete the registered model {self.name} in MLflow"
                )
            time.sleep(POLL_SECONDS)

    def release(self) -> None:
        """Give the lock back, unless another process has taken over."""
        self._release(self._id)

    def _take(self) -> bool:
        try:
            self.client.create_registered_model(self.name, {HOLDER: self._id})
        except MlflowException as error:
            # Where two processes make it at once, one of them may find neither the lock nor its own.
            if _mlflow.already_exists(error) or _mlflow.is_missing(error):
                return False
            raise
        return True

    def _holder(self) -> str:
        try:
            return str(self.client.get_registered_model(self.name).tags.get(HOLDER, ""))
        except MlflowException as error:
            if _mlflow.is_missing(error):
                return ""
            raise

    def _release(self, holder: str) -> None:
        if self._holder() == holder:
            self.client.delete_registered_model(self.name)
