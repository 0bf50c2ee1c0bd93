"""Where MLflow keeps its records: a store that is found or made, once, by however many processes."""

import errno
import fcntl
import logging
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mlflow
from mlflow.exceptions import MlflowException
from sqlalchemy import Engine, event
from sqlalchemy.exc import SQLAlchemyError

from wineexp.core.errors import UserError
from wineexp.tracking.uri import resolve_uri

# What it logs with a traceback, a failed commit, it raises as well.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def connect(uri: str) -> str:
    """Point MLflow at a tracking store, making a local one that is missing; `MLFLOW_TRACKING_URI` wins.

    Returns
    -------
    str
        The URI that is used.

    Raises
    ------
    UserError
        The store cannot be reached or opened.
    """
    uri = resolve_uri(uri)
    try:
        if uri.startswith("sqlite:///"):
            mlflow.set_tracking_uri(uri)
            _create(Path(uri.removeprefix("sqlite:///")))
        else:
            knock(uri)
            mlflow.set_tracking_uri(uri)
    except (OSError, sqlite3.Error, MlflowException) as error:
        raise UserError(
            f"tracking.uri={uri}: the store cannot be opened: {str(error).splitlines()[0]}; start it, name another "
            "one, or record nothing with tracking=off"
        ) from error
    return uri


@contextmanager
def told() -> Iterator[None]:
    """Turn what a store fails with into a message for who can mend it.

    Raises
    ------
    UserError
        The store is full, read-only, gone, or refuses a request.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error) as error:
        raise UserError(f"the store {mlflow.get_tracking_uri()} failed: {str(error).splitlines()[0]}") from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOENT):
            raise
        raise UserError(
            f"{error.filename or mlflow.get_tracking_uri()}: {error.strerror}; make room or give the rights"
        ) from error


@event.listens_for(Engine, "connect")
def _spare_the_disk(connection: Any, _: Any) -> None:
    """Wait for the disk at checkpoints, not at every commit, which was most of the cost of a short run's record.

    In WAL mode a crash of the machine may then cost the last commits; a killed process none, and neither the database.
    """
    if isinstance(connection, sqlite3.Connection):
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        if mode == "wal":
            connection.execute("PRAGMA synchronous=NORMAL")
            # Milliseconds that a writer waits for another one's turn to end.
            connection.execute("PRAGMA busy_timeout=30000")


def how_to_look(uri: str) -> str:
    """What to type, or to open in a browser, to see a store."""
    if not uri.startswith("sqlite:///"):
        return uri
    return "mlflow ui" if uri == f"sqlite:///{Path.cwd()}/mlflow.db" else f"mlflow ui --backend-store-uri {uri}"


def _create(database: Path) -> None:
    """Make and migrate the database once: two processes that do it at the same time would break each other."""
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_name(f"{database.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with sqlite3.connect(database) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
        mlflow.search_experiments(max_results=1)


def knock(uri: str) -> None:
    """Fail at once where no server listens, with OSError; MLflow itself would go on trying for minutes."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    socket.create_connection((parts.hostname or "", port), timeout=5).close()


def experiment_id(uri: str, name: str) -> str:
    """Id of the experiment, made where it is missing."""
    found = mlflow.get_experiment_by_name(name)
    if found is None:
        # Beside the database, wherever the command was started; a server has a place of its own.
        database = Path(uri.removeprefix("sqlite:///"))
        location = (database.parent / "mlruns" / name).as_uri() if uri.startswith("sqlite:///") else None
        try:
            return str(mlflow.create_experiment(name, artifact_location=location))
        except MlflowException:
            # Another process was faster.
            found = mlflow.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise UserError(f"experiment {name} was deleted in MLflow; bring it back with `mlflow experiments restore`")
    return str(found.experiment_id)
