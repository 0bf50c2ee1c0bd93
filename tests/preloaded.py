"""Runs commands in processes that have imported the libraries: children of `multiprocessing`'s fork server.

Importing libraries is most of what a test's command does. The server imports them once, and nothing of the project:
each command finds that by its own PYTHONPATH. What is settled at the import of a library is the same for all commands:
warnings of that time are not seen, hashes of strings are the same, and an environment variable that is read then is
read once. A command whose environment differs in more than `READ_LATE` therefore needs a new Python.
"""

import ctypes
import fcntl
import gc
import importlib
import multiprocessing
import os
import runpy
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.forkserver import ensure_running
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from tests.preloaded_python import NAMESPACES

ROOT = Path(__file__).resolve().parents[1]

# Environment variables that are read at each use, not at an import.
READ_LATE = ("COLUMNS", "HYDRA_FULL_ERROR", "MLFLOW_TRACKING_URI", "PYTHONPATH")

forkserver = multiprocessing.get_context("forkserver")
# The exit code of a process can be read once: of two threads that ask at the same time, one would get none.
lock = threading.Lock()


def read_at_import(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that libraries may read when they are imported."""
    return {name: value for name, value in environment.items() if name not in READ_LATE}


def spare_garbage_collector() -> None:
    """Have it leave out what is there now, which it would look through again and again, and come less often.

    In a forked process, looking would also copy the memory.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def start_server(environment: Mapping[str, str]) -> None:
    """Start the fork server with an environment; it imports the libraries in the background."""
    with patch.dict(os.environ, {**read_at_import(environment), "PYTHONPATH": str(ROOT)}, clear=True):
        forkserver.set_forkserver_preload(["tests.libraries", __name__])
        ensure_running()


class Process:
    """`python <command>` in a forked process, which leads a process group of its own.

    Parameters
    ----------
    command
        Arguments of `python`: `-m` and a module's name, or the path of a script; then the arguments of that program.
    folder
        The working directory.
    environment
        All environment variables.
    merge_streams
        Whether errors go to the standard output, as with `2>&1`.
    descriptors
        Open files that the process gets, by the number that each has there; by default 1 and 2 are files, which `wait`
        reads.
    executable
        What the process takes for the Python that runs it; by default that is what runs this process.
    umask
        By default that of the fork server.
    beside
        A process whose network and host name it gets, as a child of that process would; by default the fork server's.
    """

    def __init__(
        self,
        command: list[str],
        folder: Path,
        environment: Mapping[str, str],
        *,
        merge_streams: bool = False,
        descriptors: Mapping[int, int] | None = None,
        executable: str | None = None,
        umask: int | None = None,
        beside: int | None = None,
    ) -> None:
        self.command = command
        self.outputs = tempfile.TemporaryDirectory()
        self.stdout, self.stderr = (Path(self.outputs.name, name) for name in ("stdout", "stderr"))
        with ExitStack() as files:
            written = [files.enter_context(path.open("ab")).fileno() for path in (self.stdout, self.stderr)]
            descriptors = descriptors or {1: written[0], 2: written[0 if merge_streams else 1]}
            self.process = forkserver.Process(
                target=_become,
                args=(
                    *(command, folder, dict(environment)),
                    *(Descriptors(descriptors), executable or sys.executable, umask, beside),
                ),
            )
            # The child would otherwise import the file that was run here, which is pytest's.
            with lock, patch.object(sys.modules["__main__"], "__file__", None, create=True):
                self.process.start()
        self.pid = self.process.pid

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return not wait([self.process.sentinel], 0)

    def wait(self, timeout: float) -> subprocess.CompletedProcess[str]:
        """Wait for the end, after `timeout` seconds kill the process and all that it has started.

        Raises
        ------
        subprocess.TimeoutExpired
            If it was killed.
        """
        ended = wait([self.process.sentinel], timeout)
        with lock:
            if not ended:
                with suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
                self.process.kill()
            self.process.join()
            code = self.process.exitcode
            self.process.close()
        with self.outputs:
            stdout, stderr = self.stdout.read_text(), self.stderr.read_text()
        if not ended:
            raise subprocess.TimeoutExpired(self.command, timeout, stdout, stderr)
        return subprocess.CompletedProcess(self.command, code, stdout, stderr)


class Descriptors:
    """Open files on their way to a child of the fork server, by the number that each gets there."""

    def __init__(self, numbers: Mapping[int, int]) -> None:
        self.numbers = numbers

    def __getstate__(self) -> dict[int, Any]:
        """Called while the child is started: only then can a file be handed over."""
        return {number: DupFd(descriptor) for number, descriptor in self.numbers.items()}

    def __setstate__(self, received: dict[int, Any]) -> None:
        # First out of the way of the numbers that they get.
        self.numbers = {number: fcntl.fcntl(file.detach(), fcntl.F_DUPFD, 500) for number, file in received.items()}

    def take_over(self) -> None:
        """Give each its number."""
        # What has such a number now is the fork server's; of that a child needs nothing, but may use the tracker.
        resource_tracker._resource_tracker._fd = None
        for number, descriptor in self.numbers.items():
            os.dup2(descriptor, number)
            os.close(descriptor)


def _become(
    command: list[str],
    folder: Path,
    environment: dict[str, str],
    descriptors: Descriptors,
    executable: str,
    umask: int | None,
    beside: int | None,
) -> None:
    """Take over in the child what Python would find at the start of `python <command>`, and do what that does."""
    os.setsid()
    descriptors.take_over()
    if umask is not None:
        os.umask(umask)
    if beside is not None:
        _enter_namespaces(beside)
    sys.executable = executable
    # Those of the server may be of another kind: a pipe has no position, for one.
    if 0 in descriptors.numbers:
        sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  open until the end
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  open until the end
    sys.stderr = sys.__stderr__ = open(  # noqa: SIM115
        2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
    )
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [str(folder), *paths, *(path for path in sys.path if path not in ("", str(ROOT)))]
    sys.orig_argv[:] = [sys.executable, *command]
    importlib.invalidate_caches()
    # NumPy's global generator, unlike others, would give all children the same numbers.
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
        # Joblib ends its idle workers at the end of Python, before which multiprocessing would wait for them here.
        for child in multiprocessing.active_children():
            child.terminate()


def _enter_namespaces(pid: int) -> None:
    """Enter the network and UTS namespaces of a process, which takes root."""
    for name in NAMESPACES:
        with Path(f"/proc/{pid}/ns/{name}").open("rb") as namespace:
            # Python has it from 3.12 on.
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0):
                raise OSError(ctypes.get_errno(), f"cannot enter {namespace.name}")


def _close_databases() -> None:
    """Close SQLite databases, as the end of Python does: their write-ahead logs are then merged into them."""
    for item in gc.get_objects():
        if isinstance(item, sqlite3.Connection):
            with suppress(sqlite3.ProgrammingError):
                item.close()
