"""Where a study is stored: a journal file, memory, or a database. The functions are targets of conf/hydra/sweeper."""

import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from wineexp.core.addresses import with_credentials
from wineexp.core.errors import UserError
from wineexp.sweep._optuna import ClaimingStorage
from wineexp.sweep.lock import KernelLock, locked
from wineexp.sweep.outages import PatientStorage, patient

# The package that brings a database driver, if its name is not the module's.
PACKAGE_OF_DRIVER = {"psycopg2": "psycopg2-binary", "psycopg": "psycopg[binary]", "MySQLdb": "mysqlclient"}
SQLITE_TIMEOUT_SECONDS = 60
CONNECT_TIMEOUT_SECONDS = 10
MAX_TABLE_RACES = 4
TABLE_PAUSE_SECONDS = 0.5
# A server that acknowledges nothing for so long is gone.
SILENCE_SECONDS = 20


def journal(folder: Path, path: str | None = None) -> BaseStorage:
    """Optuna's journal in a file, by default `journal.log` in the study's folder."""
    file = Path(path) if path else folder / "journal.log"
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = KernelLock(f"{file}.lock")
    with locked(Path(lock.path)):
        _drop_incomplete_line(file)
        _check_lines(file)
    backend: BaseJournalBackend = JournalFileBackend(str(file), lock_obj=lock)
    return JournalStorage(backend)


def _drop_incomplete_line(file: Path) -> None:
    """Remove a last line that a crash left incomplete, to which the next line would be appended."""
    if not file.exists():
        return
    with file.open("rb+") as stream:
        size = stream.seek(0, os.SEEK_END)
        if size == 0:
            return
        stream.seek(size - 1)
        if stream.read(1) != b"\n":
            stream.seek(0)
            stream.truncate(stream.read().rfind(b"\n") + 1)


def _check_lines(file: Path) -> None:
    """Raise UserError if a line, the last one among them, is not what Optuna writes: an object with an `op_code`."""
    if not file.exists():
        return
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                is_entry = "op_code" in json.loads(line)
            except (ValueError, TypeError):
                is_entry = False
            if not is_entry:
                raise UserError(
                    f"{file}, line {number}: this is no entry of a study's journal: {line[:60]!r}; bring the file back "
                    "from a copy, or delete the line and with it what it recorded"
                )


def memory(folder: Path) -> BaseStorage:  # noqa: ARG001 - every storage is called with the folder
    """A study that exists in this process alone."""
    return InMemoryStorage()


def rdb(folder: Path, url: str) -> BaseStorage:  # noqa: ARG001
    """A database, by SQLAlchemy's URL."""
    url = with_credentials(url)
    if is_sqlite(url):
        # Another worker may hold the database for the length of its transaction.
        options: dict[str, Any] = {"connect_args": {"timeout": SQLITE_TIMEOUT_SECONDS}}
    else:
        # A connection that was lost shows at its next use, which is tried again: no request before each one asks.
        options = {"pool_pre_ping": False, "connect_args": _connection_limits(url)}
    for _ in range(MAX_TABLE_RACES):
        # Of several processes that make the tables of a new database at once, all but one fail.
        try:
            return patient(ClaimingStorage(url, engine_kwargs=options))
        except (IntegrityError, ProgrammingError):
            pass
        except OperationalError as error:
            # So MySQL says it.
            if "already exists" not in str(error.orig):
                raise
        time.sleep(TABLE_PAUSE_SECONDS)
    return patient(ClaimingStorage(url, engine_kwargs=options))


def is_sqlite(url: str) -> bool:
    """Whether a database is a file, which processes of one host share."""
    return url.startswith("sqlite")


def _connection_limits(url: str) -> dict[str, Any]:
    """Options by which a driver notices that a server's host is gone, but for those that the URL itself states."""
    backend, _, driver = url.partition(":")[0].partition("+")
    limits: dict[str, Any] = {}
    if (backend, driver) in (("postgresql", ""), ("postgresql", "psycopg"), ("postgresql", "psycopg2")):
        limits = {"tcp_user_timeout": 1000 * SILENCE_SECONDS, "keepalives_idle": SILENCE_SECONDS}
    if limits or driver in ("mysqldb", "pymysql") or (backend in ("mysql", "mariadb") and not driver):
        limits["connect_timeout"] = CONNECT_TIMEOUT_SECONDS
    return {name: value for name, value in limits.items() if f"{name}=" not in url}


def absolute(conf: Mapping[str, Any]) -> dict[str, Any]:
    """A storage's config whose file is found from every folder."""
    made = dict(conf)
    if made.get("path"):
        made["path"] = str(Path(made["path"]).absolute())
    scheme, separator, file = str(made.get("url") or "").partition(":///")
    # SQLite's other forms are its memory, `:memory:`, and a URI, `file:...`, of which the user says what it means.
    if separator and scheme.startswith("sqlite") and file and not file.startswith((":", "file:")):
        made["url"] = f"{scheme}:///{Path(file).absolute()}"
    return made


def is_in_memory(conf: Mapping[str, Any]) -> bool:
    """Whether a config of the group `hydra/sweeper/storage` describes the storage in memory."""
    return bool(conf.get("_target_") == f"{__name__}.{memory.__name__}")


def check_storage(conf: Mapping[str, Any]) -> None:
    """Raise UserError if the storage lacks its URL."""
    if conf.get("url", "") == "???":
        raise UserError("the storage's url is missing: add hydra.sweeper.storage.url=sqlite:///study.db, say")


def open_storage(conf: Mapping[str, Any], folder: Path, max_outage: float = 0.0) -> BaseStorage:
    """The storage that a config of the group `hydra/sweeper/storage` describes.

    Parameters
    ----------
    conf : mapping
    folder : Path
        The study's folder.
    max_outage : float, optional
        Seconds for which a database's server may be away once it is open.

    Raises
    ------
    UserError
        If its driver is missing, or it cannot be reached.

    """
    try:
        storage: BaseStorage = instantiate(conf, folder=folder, _convert_="all")
    except UserError:
        raise
    except Exception as error:
        reason = str(error.__cause__ or error)
        missing = re.search(r"No module named '(\w+)'", reason)
        if missing:
            package = PACKAGE_OF_DRIVER.get(missing[1], missing[1])
            raise UserError(f"this storage needs a package that is missing: pip install '{package}'") from error
        first_line = reason.strip().splitlines()[0]
        raise UserError(
            f"the storage {conf.get('url') or conf.get('_target_')} cannot be opened: {first_line}"
        ) from error
    if isinstance(storage, PatientStorage) and not is_sqlite(str(storage.database.url)):
        storage.max_outage = max_outage
    return storage
