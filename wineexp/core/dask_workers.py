"""The workers of a Dask cluster that compute something together, each a part of it, all at the same time."""

import functools
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from distributed import Client, Future, KilledWorker, LocalCluster, MultiLock, get_worker, wait

from wineexp.core.errors import UserError

CONNECT_SECONDS = 30.0
# How long those that have lost one of them may take to say why.
FAULT_SECONDS = 5.0
POLL_SECONDS = 0.1
# Begins the messages of XGBoost about a worker that it does not hear from any more.
PEER_LOST = "/collective/"

log = logging.getLogger(__name__)


class LostWorkerError(Exception):
    """One of the workers ended, or cannot be reached."""


def reach(key: str, address: str, timeout: float) -> Client:
    """A client of the scheduler at an address, once it has a worker.

    Parameters
    ----------
    key : str
        That says the address, for the message.
    address : str
    timeout : float
        In seconds.

    Raises
    ------
    UserError
        None answers there, or it has no worker.
    """
    client = None
    try:
        client = Client(address, timeout=timeout)
        client.wait_for_workers(1, timeout=timeout)
    # A ValueError is of an address that is none.
    except (OSError, TimeoutError, ValueError) as error:
        if client is not None:
            client.close()
        raise UserError(
            f"{key}={address}: no scheduler with a worker answers there within {timeout:g} s; start "
            "them by `dask scheduler` and, on each host, `dask worker tcp://HOST:8786 --nthreads 1`"
        ) from error
    return client


class DaskWorkers:
    """All workers that a cluster had when it was reached; one that is lost is replaced by one that has come since.

    Attributes
    ----------
    client : Client
    n_workers : int
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.n_workers = len(self._addresses())

    def _addresses(self) -> list[str]:
        # A scheduler that is gone has none.
        try:
            return sorted(self.client.nthreads())
        except (OSError, RuntimeError):
            return []

    def check_files(self, paths: Sequence[Path]) -> None:
        """Check that every worker can read the same files as this process.

        Raises
        ------
        UserError
            Workers cannot, or lack a package; one sentence for each worker.
        """
        try:
            found = self.client.run(_file_sizes, list(paths))
        except ImportError as error:
            raise UserError(
                f"data.engine=dask: a Dask worker lacks a package ({error}); install on its host what is installed here"
            ) from error
        faults = []
        for address, (host, sizes) in sorted(found.items()):
            unread = [
                f"{path} ({size if isinstance(size, str) else f'{size:,} bytes, here {path.stat().st_size:,}'})"
                for path, size in zip(paths, sizes, strict=True)
                if size != path.stat().st_size
            ]
            if unread:
                faults.append(
                    f"data.engine=dask: the Dask worker {address} on host {host} cannot read {len(unread)} of "
                    f"{len(paths)} files as they are here: {', '.join(unread[:3])}"
                    f"{', ...' if len(unread) > 3 else ''}; give it the same files at the "
                    "same paths, as on a shared disk"
                )
        if faults:
            raise UserError(*faults)

    def run(self, attempt: Callable[[], tuple[Callable[..., Any], Sequence[Sequence[Any]]]]) -> list[Any]:
        """The results of a function for several arguments, each on a worker of its own, all at the same time.

        Where a worker is lost and another one has come, as Dask's nannies start one, all is done a second time.

        Parameters
        ----------
        attempt : callable
            Gives the function, and its arguments for each of at most `n_workers` workers.

        Raises
        ------
        UserError
            A worker was lost, and so was one in the second attempt, or none came in its place.
        """
        try:
            return self._run(*attempt())
        # Dask raises an OSError where it does not reach the scheduler; one of a task is a UserError by now.
        except (LostWorkerError, OSError) as error:
            if self.client.status != "running":
                raise _lost(error) from error
            log.warning("data.engine=dask: %s; training once more, as soon as another one comes", error)
        try:
            return self._run(*attempt())
        except (LostWorkerError, OSError) as error:
            raise _lost(error) from error

    def _run(self, function: Callable[..., Any], arguments: Sequence[Sequence[Any]]) -> list[Any]:
        with suppress(TimeoutError):
            self.client.wait_for_workers(self.n_workers, timeout=CONNECT_SECONDS)
        addresses = self._addresses()[: len(arguments)]
        if len(addresses) < len(arguments):
            raise LostWorkerError(f"of {self.n_workers} Dask workers, {len(addresses)} are left")
        # Two trainings that have half of the workers each would wait for each other.
        with MultiLock(addresses, client=self.client):
            futures = [
                self.client.submit(function, *words, workers=[address], pure=False)
                for words, address in zip(arguments, addresses, strict=True)
            ]
            try:
                return self._results(futures, addresses)
            finally:
                # Also after Ctrl-C: they see it, and end; see `is_cancelled`.
                self.client.cancel(futures)

    def _results(self, futures: list[Future], addresses: list[str]) -> list[Any]:
        while not all(future.status == "finished" for future in futures):
            lost = sorted({*addresses} - {*self._addresses()})
            if lost or any(future.done() and future.status != "finished" for future in futures):
                with suppress(TimeoutError):
                    wait(futures, timeout=FAULT_SECONDS)
                errors = [future.exception() for future in futures if future.status == "error"]
                for error in errors:
                    if isinstance(error, OSError):
                        raise UserError(f"data.engine=dask: on a Dask worker: {error}") from error
                    if PEER_LOST not in str(error) and not isinstance(error, KilledWorker):
                        raise error
                lost = lost or sorted({*addresses} - {*self._addresses()})
                raise LostWorkerError(f"the Dask worker {', '.join(lost)} was lost in training")
            time.sleep(POLL_SECONDS)
        results: list[Any] = self.client.gather(futures)
        return results


def _lost(error: Exception) -> UserError:
    what = error if isinstance(error, LostWorkerError) else f"the scheduler does not answer ({error})"
    return UserError(
        f"data.engine=dask: {what}: a host or a process ended, mostly for want of memory; see the logs of Dask's "
        "workers and scheduler, start again what is missing, and run this command again"
    )


@functools.cache
def connect(scheduler: str | None) -> DaskWorkers:
    """The workers of a scheduler or, where it is None, of a cluster of processes on this machine, one for each core.

    Raises
    ------
    UserError
        As of `reach`; or this process is itself a Dask worker.
    """
    # It tells of every connection, and with a traceback of one that is lost, which `DaskWorkers.run` says.
    logging.getLogger("distributed").setLevel(logging.WARNING)
    logging.getLogger("distributed.utils").setLevel(logging.CRITICAL)
    with suppress(ValueError):
        address = get_worker().address
        raise UserError(
            f"data.engine=dask: this process is itself a Dask worker, {address}, and would wait for itself; begin the "
            "sweep without hydra/launcher=dask, so that its trials, one after the other, have the whole cluster"
        )
    if scheduler is None:
        cluster = LocalCluster(n_workers=os.cpu_count(), threads_per_worker=1, dashboard_address=None)
        return DaskWorkers(Client(cluster))
    return DaskWorkers(reach("data.scheduler", scheduler, CONNECT_SECONDS))


def _file_sizes(paths: Sequence[Path]) -> tuple[str, list[int | str]]:
    """The name of this host, and the size of each file in bytes, or why it cannot be read."""
    sizes: list[int | str] = []
    for path in paths:
        try:
            with path.open("rb") as file:
                sizes.append(os.fstat(file.fileno()).st_size)
        except OSError as error:
            sizes.append(str(error.strerror))
    return socket.gethostname(), sizes


def is_cancelled() -> bool:
    """Whether the task that this thread computes on a Dask worker was cancelled."""
    worker = get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    return task is None or task.state == "cancelled"
