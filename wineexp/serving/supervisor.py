"""Runs several worker processes on one socket: restarts those that die, and stops all of them together."""

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from types import FrameType

import structlog

from wineexp.core.config import Serve
from wineexp.serving.scratch import ScratchFolder

log = structlog.get_logger()

# The function that a worker process runs.
Work = Callable[[Serve, socket.socket], None]

# Between two restarts, so that workers that cannot start do not keep a core busy.
RESTART_PAUSE_SECONDS = 1.0

# Between two looks at workers that show no sign of having died.
WAIT_SECONDS = 0.2


def supervise(work: Work, settings: Serve, listener: socket.socket, *, folder_variable: str) -> None:
    """Keep `serve.workers` processes running until SIGTERM or Ctrl-C, then let them finish.

    They are forked from a process that has imported the application and has no threads. That takes a tenth of the
    time of a fresh start; to fork this process, which has threads, would not be safe.

    Parameters
    ----------
    work : callable
        Serves until SIGTERM.
    settings : Serve
    listener : socket
    folder_variable : str
        The environment variable that names, in each worker, the folder that workers share.
    """
    scratch = ScratchFolder()
    folder = os.environ[folder_variable] = str(scratch.path)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "wineexp.serving.app"])
    stopping = threading.Event()

    def stop(number: int, _: FrameType | None) -> None:
        log.info("stopping", signal=signal.Signals(number).name)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)

    def start_worker() -> "multiprocessing.context.ForkServerProcess":
        process = context.Process(target=_run_worker, args=(work, settings, listener, folder_variable, folder))
        process.start()
        return process

    workers, last_start = [start_worker() for _ in range(settings.serve.workers)], time.monotonic()
    while not stopping.is_set():
        wait([process.sentinel for process in workers], timeout=WAIT_SECONDS)
        for position, process in enumerate(workers):
            if process.is_alive() or stopping.is_set() or time.monotonic() - last_start < RESTART_PAUSE_SECONDS:
                continue
            log.error("worker died", pid=process.pid, exitcode=process.exitcode)
            workers[position], last_start = start_worker(), time.monotonic()
    # Closed here first: the last worker that closes it then refuses connections, instead of leaving them to wait.
    listener.close()
    for process in workers:
        process.terminate()
    for process in workers:
        process.join()
    scratch.remove()


def _run_worker(work: Work, settings: Serve, listener: socket.socket, folder_variable: str, folder: str) -> None:
    os.environ[folder_variable] = folder
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work(settings, listener)


def _end_with_parent() -> None:
    """Stop when the supervisor is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
