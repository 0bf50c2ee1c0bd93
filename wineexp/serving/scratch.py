"""Folders that a server needs while it runs: removed at its end or, where it was killed, when the next one starts."""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

PREFIX = "wineexp-server-"

# The file that a server holds locked while it runs: the system takes the lock of a killed one away.
LOCK = "lock"


class ScratchFolder:
    """A folder of one server, which no other user may enter.

    Attributes
    ----------
    path : Path
    """

    def __init__(self) -> None:
        _remove_left()
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        unlocked = self.path / f"{LOCK}.new"
        self._lock = unlocked.open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        # Another server, which starts now, sees no lock or one that is held.
        unlocked.rename(self.path / LOCK)

    def remove(self) -> None:
        """Remove the folder and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _remove_left() -> None:
    """Remove the folders of this user's servers that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            if path.lstat().st_uid != os.getuid():
                continue
            with (path / LOCK).open() as lock:
                # Fails where a server holds it.
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
