"""The file lock that the workers of a study share."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wineexp.sweep._optuna import BaseJournalFileLock


class KernelLock(BaseJournalFileLock):
    """A lock on a file that the kernel releases when its holder dies.

    The lock files of Optuna's own locks stay behind after a `kill -9` and block the next worker for half a minute.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._descriptor = -1

    def acquire(self) -> bool:
        """Wait for the lock and take it."""
        descriptor = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Release the lock."""
        os.close(self._descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock on this file, and hold it for the length of a with block."""
    lock = KernelLock(path)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()
