"""Commands that need not import the libraries again: a process that has, and forks one for each of them.

Most of what a test's command does is to import libraries, the same ones each time. Run as a script, this file is a
process that has imported them, and nothing of the project: that every child finds by its own PYTHONPATH. A child has
the folder, environment, arguments and streams that it is asked for, goes through the program's own `main`, and ends
with its exit code. What it shares with the others is what is settled while libraries are imported: their warnings of
that time go unseen, strings hash alike, and an environment variable that is read then is read once. So a command with
another environment, but for the names in `LATE`, is started afresh, as is whatever is run in the background, stopped,
or served.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import IO, NoReturn

ROOT = Path(__file__).resolve().parents[1]

# What is looked up at each use.
LATE = ("COLUMNS", "HYDRA_FULL_ERROR", "MLFLOW_TRACKING_URI", "PYTHONPATH")

LIBRARIES = (
    *("alembic.command", "git", "hydra._internal.hydra", "hydra._internal.logging_config", "jinja2", "joblib"),
    *("matplotlib.backends.backend_agg", "matplotlib.figure", "mlflow.data.pandas_dataset", "mlflow.pyfunc"),
    *("mlflow.sklearn", "mlflow.store.model_registry.sqlalchemy_store", "mlflow.store.tracking.sqlalchemy_store"),
    *("optuna", "pandera.pandas", "rich.progress", "skops.io", "skrub", "sklearn.calibration", "sklearn.dummy"),
    *("sklearn.ensemble", "sklearn.inspection", "sklearn.neural_network", "xgboost"),
)

Done = subprocess.CompletedProcess[str]


class Zygote:
    """The process, as whoever wants commands run sees it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        self.pid = self._process.pid
        atexit.register(self.close)

    def close(self) -> None:
        """End it, as the end of this process would, too."""
        self._control.close()
        self._process.wait()

    def run(
        self, command: list[str], folder: Path, environment: Mapping[str, str], timeout: float, *, mixed: bool = False
    ) -> Done:
        """What `python <command>` gives, whose errors may be mixed into its output; several may run at once."""
        asked = json.dumps([command, str(folder), dict(environment)]).encode()
        told, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with told, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            with theirs:
                streams = [out.fileno(), (out if mixed else err).fileno(), theirs.fileno()]
                socket.send_fds(self._control, [asked], streams)
            pid = int(told.recv(100))
            told.settimeout(timeout)
            try:
                status = int(told.recv(100))
            except BaseException as error:
                os.kill(pid, signal.SIGKILL)
                told.settimeout(None)
                told.recv(100)
                if isinstance(error, TimeoutError):
                    raise subprocess.TimeoutExpired(command, timeout, text(out), text(err)) from None
                raise
            return Done(command, os.waitstatus_to_exitcode(status), text(out), text(err))


def settled(environment: Mapping[str, str]) -> dict[str, str]:
    """What of an environment has had its say once libraries are imported."""
    return {name: value for name, value in environment.items() if name not in LATE}


def text(file: IO[bytes]) -> str:
    """All that was written to a file."""
    file.seek(0)
    return file.read().decode()


def serve(control: socket.socket) -> list[str]:
    """Fork a process for each command that is asked for; returns the command in every one of them."""
    # Nobody waits for the keepers.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        asked, descriptors, *_ = socket.recv_fds(control, 1 << 20, 3)
        if not asked:
            sys.exit()
        if fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control.close()
            *streams, asking = descriptors
            if (pid := fork()) == 0:
                os.close(asking)
                return become(*json.loads(asked), streams)
            keep(pid, socket.socket(fileno=asking))
        for descriptor in descriptors:
            os.close(descriptor)


def fork() -> int:
    """As `os.fork`."""
    with warnings.catch_warnings():
        # Later Pythons warn of OpenBLAS' threads, which that library itself stops before a fork.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def keep(pid: int, asking: socket.socket) -> NoReturn:
    """Tell who asked for a command which process it is, and how it ended."""
    asking.send(str(pid).encode())
    asking.send(str(os.waitpid(pid, 0)[1]).encode())
    os._exit(0)


def become(command: list[str], folder: str, environment: dict[str, str], descriptors: list[int]) -> list[str]:
    """Take over what Python itself would have taken over at the start of `python <command>`."""
    for own, descriptor in enumerate(descriptors, 1):
        os.dup2(descriptor, own)
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [str(Path.cwd()), *paths, *sys.path]
    sys.orig_argv[:] = [sys.executable, *command]
    importlib.invalidate_caches()
    # All others draw afresh after a fork.
    importlib.import_module("numpy").random.seed()
    return command


def go(program: str) -> int:
    """Run what `sys.argv` says as Python itself would; gives its exit code."""
    try:
        if program == "-m":
            runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(program, run_name="__main__")
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        print(stop.code, file=sys.stderr)
        return 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def end(code: int) -> NoReturn:
    """End the process without taking all libraries apart first, which takes longer than most commands do."""
    threading._shutdown()
    atexit._run_exitfuncs()
    for each in gc.get_objects():
        # It writes its log into the database when it is closed.
        if isinstance(each, sqlite3.Connection):
            with contextlib.suppress(sqlite3.ProgrammingError):
                each.close()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    # Some variables are for the libraries to find, and the package sets them.
    sys.path[0] = str(ROOT)
    import wineexp  # noqa: F401

    del sys.modules["wineexp"], sys.path[0]
    for library in LIBRARIES:
        importlib.import_module(library)
    # What MLflow looks up in all installed packages, once a process, before it stores a model.
    importlib.import_module("mlflow.utils.requirements_utils")._init_modules_to_packages_map()
    # So that a child does not look through all that again and again, which would copy it, too.
    gc.collect()
    gc.freeze()
    program, *sys.argv[1:] = serve(socket.socket(fileno=int(sys.argv[1])))
    end(go(program))
