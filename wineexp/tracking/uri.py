"""The URI of the store that a config names."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from wineexp.core.addresses import keep_credentials
from wineexp.core.paths import ROOT

# MLflow's own, which a user sets to record elsewhere than the config says.
URI_VARIABLE = "MLFLOW_TRACKING_URI"


def database_path(uri: str) -> Path | None:
    """The file of a SQLite database's URI, which may end with options (`?timeout=30`); None for another store."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:///") else None


def resolve_uri(uri: str) -> str:
    """The URI of a store; `MLFLOW_TRACKING_URI` wins, and a local store lies in the project's root.

    Credentials are cut from it: `with_credentials` gives them back.
    """
    stated = os.environ.get(URI_VARIABLE)
    uri = keep_credentials(stated or uri)
    if uri.startswith("sqlite:///"):
        # MLflow reads a relative path in its variable from the current folder. DVC runs a queued experiment in a copy
        # of the project that it deletes afterwards, and names the project's own folder in DVC_ROOT.
        root = os.environ.get("DVC_ROOT", ROOT)
        uri = f"sqlite:///{(Path.cwd() if stated else Path(root)) / uri.removeprefix('sqlite:///')}"
    return uri


def reader_address(database: Path) -> str:
    """SQLite's `file:` URI for one who reads a database: it makes none, and leaves no file beside it.

    The database is never opened but by SQLite: on Linux a process that closes a file gives up all locks that it has on
    it, those of its other connections too, and then others might write or delete what these still use.
    """
    place = f"file:{quote(str(database))}"
    may_make_files = os.access(database.parent, os.W_OK)
    if may_make_files and os.access(database, os.W_OK):
        # Only a connection that may write can remove the write-ahead log that reading makes.
        return f"{place}?mode=rw"
    address = f"{place}?mode=ro"
    if database.with_name(f"{database.name}-wal").exists():
        return address
    if not may_make_files:
        error = read_error(address, 0)
        # A locked one is written at this moment.
        if error is None or error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return address
    # The log cannot be made, or would remain; and none is there, so that no process writes.
    return f"{address}&immutable=1"


def read_error(address: str, timeout_seconds: float) -> sqlite3.Error | None:
    """Why a database cannot be read, by SQLite's `file:` URI, within this time if others lock it; None where it can."""
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=timeout_seconds)) as connection:
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    except sqlite3.Error as error:
        return error
    return None
