"""Where a study is kept: the journal file, memory, or a database; and the lock that its workers share."""

import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock

from wineexp.core.errors import UserError

# How a driver that SQLAlchemy names is installed, where the names differ.
PACKAGES = {"psycopg2": "psycopg2-binary", "psycopg": "psycopg[binary]", "MySQLdb": "mysqlclient"}


class KernelLock(BaseJournalFileLock):
    """A lock on a file that the kernel releases when its holder dies, however it dies.

    Optuna's own locks stay behind after a `kill -9` and hold up the next worker for half a minute.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._descriptor = -1

    def acquire(self) -> bool:
        """Wait for the lock."""
        descriptor = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let the next one in."""
        os.close(self._descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file for the length of a with block; waits for it."""
    lock = KernelLock(path)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def journal(folder: Path, path: str | None = None) -> BaseStorage:
    """Optuna's journal in a file, by default `journal.log` in the study's folder."""
    file = Path(path) if path else folder / "journal.log"
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = KernelLock(f"{file}.lock")
    with locked(Path(lock.path)):
        _mend(file)
    backend: BaseJournalBackend = JournalFileBackend(str(file), lock_obj=lock)
    return JournalStorage(backend)


def _mend(file: Path) -> None:
    """Cut off a last line that a crash left half written: the next one would be appended to it."""
    if not file.exists():
        return
    with file.open("rb+") as stream:
        end = stream.seek(0, os.SEEK_END)
        if end == 0:
            return
        stream.seek(end - 1)
        if stream.read(1) != b"\n":
            stream.seek(0)
            stream.truncate(stream.read().rfind(b"\n") + 1)


def memory(folder: Path) -> BaseStorage:  # noqa: ARG001 - every storage is told the folder
    """A study that lives and dies with the process."""
    return InMemoryStorage()


def rdb(folder: Path, url: str) -> BaseStorage:  # noqa: ARG001
    """A database, by SQLAlchemy's URL."""
    # Another worker's transaction is waited for, not failed on.
    options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    return RDBStorage(url, engine_kwargs=options)


def check_storage(conf: Mapping[str, Any]) -> None:
    """Raise UserError for a storage that is not told where it is."""
    if conf.get("url", "") == "???":
        raise UserError("the storage's url is missing: add hydra.sweeper.storage.url=sqlite:///study.db, say")


def open_storage(conf: Mapping[str, Any], folder: Path) -> BaseStorage:
    """The storage that a config of the group `hydra/sweeper/storage` describes.

    Raises
    ------
    UserError
        Where its URL or driver is missing, or it cannot be reached.

    """
    try:
        storage: BaseStorage = instantiate(conf, folder=folder, _convert_="all")
    except Exception as error:
        reason = str(error.__cause__ or error)
        missing = re.search(r"No module named '(\w+)'", reason)
        if missing:
            package = PACKAGES.get(missing[1], missing[1])
            raise UserError(f"this storage needs a package that is missing: pip install '{package}'") from error
        line = reason.strip().splitlines()[0]
        raise UserError(f"the storage {_shown(conf)} cannot be opened: {line}") from error
    return storage


def _shown(conf: Mapping[str, Any]) -> str:
    """The storage without its password."""
    return re.sub(r"://([^:/@]*):[^@]*@", r"://\1:***@", str(conf.get("url") or conf.get("_target_")))
