"""The URI of the store that a config names."""

import os
from pathlib import Path
from urllib.parse import quote

from wineexp.core.addresses import keep_credentials
from wineexp.core.paths import ROOT

# MLflow's own, which a user sets to record elsewhere than the config says.
URI_VARIABLE = "MLFLOW_TRACKING_URI"

# The byte in a SQLite file's header that says how it is read, and its value where a write-ahead log is used.
SQLITE_READ_VERSION_AT = 19
SQLITE_WAL = b"\x02"


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


def read_only_address(database: Path) -> str:
    """SQLite's `file:` URI that opens a database for reading, and makes no file beside it."""
    with database.open("rb") as file:
        header = file.read(SQLITE_READ_VERSION_AT + 1)
    # Beside a database in WAL mode, a reader makes the log and the shared memory, unless the URI says that no process
    # writes. None does where there is no log.
    has_log_mode = header[SQLITE_READ_VERSION_AT:] == SQLITE_WAL
    is_in_use = database.with_name(f"{database.name}-wal").exists()
    options = "mode=ro" if is_in_use or not has_log_mode else "mode=ro&immutable=1"
    return f"file:{quote(str(database))}?{options}"
