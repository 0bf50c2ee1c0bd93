"""Runs commands in processes that have imported the libraries: children of `multiprocessing`'s fork server.

Importing libraries is most of what a test's command does. The server imports them once, and nothing of the project:
each command finds that by its own PYTHONPATH. What is settled at the import of a library is the same for all commands:
warnings of that time are not seen, strings hash alike, and an environment variable that is read then is read once. A
command whose environment differs in more than `READ_LATE` therefore needs a Python of its own.
"""

import gc
import importlib
import multiprocessing
import os
import runpy
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from unittest.mock import patch

import numpy as np

ROOT = Path(__file__).resolve().parents[1]

# Environment variables that are read at each use, not at an import.
READ_LATE = ("COLUMNS", "HYDRA_FULL_ERROR", "MLFLOW_TRACKING_URI", "PYTHONPATH")

forkserver = multiprocessing.get_context("forkserver")
# The exit code of a process can be read once: of two threads that ask at the same time, one would get none.
lock = threading.Lock()


def read_at_import(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that libraries may read when they are imported."""
    return {name: value for name, value in environment.items() if name not in READ_LATE}


def start_server(environment: Mapping[str, str]) -> None:
    """Start the fork server with an environment; it imports the libraries in the background."""
    with patch.dict(os.environ, {**read_at_import(environment), "PYTHONPATH": str(ROOT)}, clear=True):
        forkserver.set_forkserver_preload(["tests.libraries", __name__])
        ensure_running()


def run(
    command: list[str], folder: Path, environment: Mapping[str, str], timeout: float, *, merge_streams: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run `python <command>` in a forked process and wait for it; several threads may do so at the same time.

    Parameters
    ----------
    command
        Arguments of `python`: `-m` and a module's name, or the path of a script; then the arguments of that program.
    folder
        The working directory.
    environment
        All environment variables.
    timeout
        Seconds after which the process is killed.
    merge_streams
        Whether errors go to the standard output, as with `2>&1`.

    Raises
    ------
    subprocess.TimeoutExpired
        If the process was killed.
    """
    with tempfile.TemporaryDirectory() as outputs:
        stdout, stderr = Path(outputs, "stdout"), Path(outputs, "stderr")
        stdout.touch()
        stderr.touch()
        streams = (stdout, stdout if merge_streams else stderr)
        process = forkserver.Process(target=_become, args=(command, folder, dict(environment), streams))
        # The child would otherwise import the file that was run here, which is pytest's.
        with lock, patch.object(sys.modules["__main__"], "__file__", None, create=True):
            process.start()
        ended = wait([process.sentinel], timeout)
        with lock:
            if not ended:
                process.kill()
            process.join()
            code = process.exitcode
            process.close()
        if not ended:
            raise subprocess.TimeoutExpired(command, timeout, stdout.read_bytes(), stderr.read_bytes())
        assert code is not None
        return subprocess.CompletedProcess(command, code, stdout.read_text(), stderr.read_text())


def _become(command: list[str], folder: Path, environment: dict[str, str], streams: tuple[Path, Path]) -> None:
    """Take over in the child what Python would find at the start of `python <command>`, and do what that does."""
    for descriptor, path in enumerate(streams, 1):
        with path.open("ab") as file:
            os.dup2(file.fileno(), descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [str(folder), *paths, *(path for path in sys.path if path not in ("", str(ROOT)))]
    sys.orig_argv[:] = [sys.executable, *command]
    importlib.invalidate_caches()
    # NumPy's global generator, unlike others, would continue alike in all children.
    np.random.seed()
    multiprocessing.current_process().name = "MainProcess"
    multiprocessing.set_start_method(None, force=True)
    try:
        if command[0] == "-m":
            sys.argv = command[1:]
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = command
            runpy.run_path(command[0], run_name="__main__")
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
    finally:
        _close_databases()


def _close_databases() -> None:
    """Close SQLite databases, as the end of a Python of its own would: their logs are then written into them."""
    for item in gc.get_objects():
        if isinstance(item, sqlite3.Connection):
            with suppress(sqlite3.ProgrammingError):
                item.close()
