"""The tracking store: opened, or made where it is missing, by however many processes at once."""

import errno
import fcntl
import os
import shlex
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import mlflow
import requests
from mlflow.exceptions import MlflowException
from sqlalchemy import Engine, event
from sqlalchemy.exc import SQLAlchemyError

from wineexp.core.addresses import with_credentials, without_credentials
from wineexp.core.environment import restoring
from wineexp.core.error_messages import FILE_SYSTEM_REMEDIES
from wineexp.core.errors import UnavailableError as UnavailableError
from wineexp.core.errors import UserError
from wineexp.tracking import _mlflow
from wineexp.tracking.uri import URI_VARIABLE, database_path, reader_address, resolve_uri

CONNECT_TIMEOUT_SECONDS = 5

# Where `mlflow ui` listens.
UI_ADDRESS = "http://127.0.0.1:5000"

# Of servers, and of proxies whose URL names no port.
DEFAULT_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}

# What a proxy answers by itself where it cannot reach a server.
PROXY_FAILURES = (502, 503, 504)

# How long a writer waits for another one to finish.
SQLITE_BUSY_TIMEOUT_MS = 30_000

# Beside a local database, the folder of its artifacts.
FILES_FOLDER = "mlruns"

# Errors of the file system that the user can remedy.
DISK_ERRORS = (*FILE_SYSTEM_REMEDIES, errno.ENOENT)

# MLflow's own, for a server's basic authentication.
CREDENTIAL_VARIABLES = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")

# What this process has put into them, from the URI that it used last.
_authenticated: tuple[str, str] | None = None

# The URI that this process opened last.
_opened_uri: str | None = None

_mlflow.silence_database_log()
# With a server, MLflow would ask for and print two addresses at the end of each run; `train` prints one of its own.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")


class Access(Enum):
    """What a store is opened for. Only `CREATE` makes a local one that is missing.

    `READ` makes nothing, and changes a local one only where it names files at a place that they have left, if it can.
    """

    CREATE, WRITE, READ = "create", "write", "read"


def connect(uri: str, access: Access = Access.CREATE) -> str:
    """Point MLflow at a tracking store; `MLFLOW_TRACKING_URI` wins.

    Parameters
    ----------
    uri : str
    access : Access, optional
        A database that cannot be written is read, whatever is asked for.

    Returns
    -------
    str
        The URI that is used.

    Raises
    ------
    UnavailableError
        The store cannot be reached or opened, or is missing.
    """
    global _opened_uri
    uri = resolve_uri(uri)
    try:
        if (database := database_path(uri)) is not None:
            if access is not Access.CREATE and not database.exists():
                raise UnavailableError(
                    f"tracking.uri={uri}: there is no such database; correct the address, or train first: "
                    "`python -m wineexp.train` makes it"
                )
            is_writable = all(os.access(path, os.W_OK) for path in (database, database.parent) if path.exists())
            if is_writable and (access is not Access.READ or _has_moved_files(database)):
                _use(uri)
                _create(database)
            else:
                _open_for_reading(database)
        else:
            check_reachable(uri)
            _use(uri)
    except (OSError, sqlite3.Error, MlflowException) as error:
        raise UnavailableError(
            f"tracking.uri={uri}: the store cannot be opened: {str(error).splitlines()[0]}; start it, name another "
            "one, or record nothing with tracking=off"
        ) from error
    _opened_uri = uri
    return uri


def _use(uri: str) -> None:
    """Make MLflow use a store.

    MLflow also writes the URI into the environment, where it would win over the config of whatever this process opens
    next. So the variable keeps what the user gave it.
    """
    with restoring(URI_VARIABLE):
        if urlsplit(uri).scheme in ("http", "https"):
            # MLflow prints the addresses of runs, and would print a password in them.
            _authenticate(uri)
            mlflow.set_tracking_uri(uri)
        else:
            mlflow.set_tracking_uri(with_credentials(uri))


def _authenticate(uri: str) -> None:
    """Hand the credentials of a server's URI to MLflow by its variables, unless the user has set these."""
    global _authenticated
    parts = urlsplit(with_credentials(uri))
    variables = tuple(map(os.environ.get, CREDENTIAL_VARIABLES))
    if os.environ.get("MLFLOW_TRACKING_TOKEN") or (any(variables) and variables != _authenticated):
        return
    user, password = parts.username, parts.password
    _authenticated = (unquote(user), unquote(password or "")) if user else None
    for name, value in zip(CREDENTIAL_VARIABLES, _authenticated or (None, None), strict=True):
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn the failures of a store into one message that says what to do.

    Raises
    ------
    UnavailableError
        Its server cannot be reached.
    UserError
        The store is full, read-only, gone, or refuses a request.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error) as error:
        kind = UnavailableError if isinstance(error, MlflowException) and _mlflow.is_unreachable(error) else UserError
        raise kind(
            f"the store {_opened_uri or mlflow.get_tracking_uri()} failed: {str(error).splitlines()[0]}"
        ) from error
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        place = f"{error.filename}: " if error.filename else ""
        raise UserError(f"{place}{error.strerror}; make room or give the rights") from error


@event.listens_for(Engine, "connect")
def _set_pragmas(connection: Any, _: Any) -> None:
    """Flush to the disk at checkpoints instead of at every commit, which took most of the time of a short run.

    In WAL mode a crash of the machine may then cost the last commits; a killed process costs none, and neither of the
    two damages the database.
    """
    if isinstance(connection, sqlite3.Connection):
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        if mode == "wal":
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(f"PRAGMA busy_timeout={SQLITE_BUSY_TIMEOUT_MS}")


def how_to_view(uri: str, experiment_id: str) -> str:
    """The address to open in a browser to see the runs of an experiment; of a local store also the command before.

    MLflow's page of an experiment shows what language models did, unless its address says otherwise.
    """
    page = f"#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    if not uri.startswith("sqlite:///"):
        return f"{uri.rstrip('/')}/{page}"
    store = "" if uri == f"sqlite:///{Path.cwd()}/mlflow.db" else f" --backend-store-uri {shlex.quote(uri)}"
    return f"mlflow ui{store}, then {UI_ADDRESS}/{page}"


def _create(database: Path) -> None:
    """Make and migrate the database under a lock: two processes that do it at the same time would break each other."""
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_name(f"{database.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with sqlite3.connect(database) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        mlflow.search_experiments(max_results=1)
        with connection:
            _follow_moved_files(database, connection)
        connection.close()


def _open_for_reading(database: Path) -> None:
    """Use a database without making or migrating it, and keep no connection to it open between two requests.

    A connection keeps the write-ahead log, which would damage another database that is put in this one's place.
    """
    # With the driver's name, since MLflow makes the folder of what follows `sqlite:///`, which is no path here.
    _use(f"sqlite+pysqlite:///{reader_address(database)}&uri=true")
    with _mlflow.without_connection_pool():
        mlflow.search_experiments(max_results=1)
        mlflow.MlflowClient().search_registered_models(max_results=1)


def _has_moved_files(database: Path) -> bool:
    """Whether a database names files at another place than beside it, where they are."""
    with closing(sqlite3.connect(reader_address(database), uri=True)) as connection:
        return bool(_moved_locations(database, connection))


def _follow_moved_files(database: Path, connection: sqlite3.Connection) -> None:
    """Make the database of a folder that was moved or copied name the files that lie beside it.

    MLflow stores absolute paths, so that a moved project would go on writing to its old place.
    """
    for old, new in _moved_locations(database, connection).items():
        _mlflow.replace_location(connection, old, new)


def _moved_locations(database: Path, connection: sqlite3.Connection) -> dict[str, str]:
    """The locations in a database of a folder that was moved or copied, and the locations beside it."""
    moved = {}
    for location in _mlflow.experiment_locations(connection):
        path = local_path(location)
        if path is None or FILES_FOLDER not in path.parts:
            continue
        position = len(path.parts) - path.parts[::-1].index(FILES_FOLDER)
        recorded_folder, rest = Path(*path.parts[: position - 1]), Path(FILES_FOLDER, *path.parts[position:])
        here = database.parent / rest
        if not here.exists() or (path.exists() and path.samefile(here)):
            continue
        # Where the folder was copied, the original database still lies beside the original files.
        if not path.exists() or (recorded_folder / database.name).exists():
            moved[location] = here.as_uri() if "://" in location else str(here)
    return moved


def local_path(location: str) -> Path | None:
    """The path of an absolute local location, a path or a `file:` URI; None of any other."""
    parts = urlsplit(location)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(location) if location.startswith("/") else None


def check_reachable(uri: str) -> None:
    """Raise OSError at once where no server listens; MLflow itself would retry for minutes.

    As MLflow's client does, it goes through the proxy that `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` say.
    """
    if urlsplit(uri).scheme not in ("http", "https"):
        return
    proxy = requests.utils.select_proxy(uri, requests.utils.get_environ_proxies(uri))
    if proxy is None:
        _connect(uri)
        return
    proxy_name = without_credentials(proxy if "://" in proxy else f"http://{proxy}").partition("://")[2]
    try:
        _connect(proxy)
        # Only a request tells whether the proxy reaches the server; any answer of the server's own will do.
        status = requests.head(uri, timeout=CONNECT_TIMEOUT_SECONDS, allow_redirects=False).status_code
    except requests.exceptions.SSLError:
        # The server is there. MLflow's client knows which certificates to trust.
        return
    except OSError as error:
        raise OSError(f"{error} (through the proxy {proxy_name})") from error
    if status in PROXY_FAILURES:
        raise OSError(f"the proxy {proxy_name} answers {status} for it")


def _connect(url: str) -> None:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    port = parts.port or DEFAULT_PORTS.get(parts.scheme, DEFAULT_PORTS["http"])
    socket.create_connection((parts.hostname or "", port), timeout=CONNECT_TIMEOUT_SECONDS).close()


def experiment_id(uri: str, name: str) -> str:
    """Id of the experiment, which is made where it is missing.

    Raises
    ------
    UserError
        The experiment was deleted, or its files are gone.
    """
    experiment, database = mlflow.get_experiment_by_name(name), database_path(uri)
    if experiment is None:
        # Artifacts lie beside the database, wherever the command was started; a server has a place of its own.
        location = (database.parent / FILES_FOLDER / name).as_uri() if database is not None else None
        try:
            return str(mlflow.create_experiment(name, artifact_location=location))
        except MlflowException:
            # Another process may have made it in the meantime.
            experiment = mlflow.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        raise UserError(f"experiment {name} was deleted in MLflow; bring it back with `mlflow experiments restore`")
    folder = local_path(experiment.artifact_location)
    if database is not None and folder is not None and not folder.exists():
        here = database.parent / FILES_FOLDER / name
        if folder != here:
            raise UserError(
                f"experiment {name} keeps its files in {folder}, which does not exist: the database was moved without "
                f"them, or a disk is not mounted; move them to {here}, beside the database, or make this folder empty "
                "where they are lost"
            )
    return str(experiment.experiment_id)
