"""Several workers on one socket: each is started anew when it dies, and all are told to stop together."""

import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from types import FrameType

import structlog

from wineexp.core.config import Serve

log = structlog.get_logger()

Work = Callable[[Serve, socket.socket], None]

# Seconds between the starts of two workers in one place: one that cannot start is not to keep a core busy.
PAUSE = 1.0


def supervise(work: Work, settings: Serve, listener: socket.socket, *, shared: str) -> None:
    """Keep `serve.workers` processes at work until SIGTERM or Ctrl-C, then let them finish.

    They are forked from a process that has imported everything and done nothing, which takes a tenth of the time of
    a fresh start, and is safe where forking this one, with its threads, would not be.

    Parameters
    ----------
    work : callable
        What a worker does until it gets SIGTERM.
    settings : Serve
    listener : socket
    shared : str
        The environment variable that tells workers the folder that they share.
    """
    folder = os.environ[shared] = tempfile.mkdtemp(prefix="wineexp-workers-")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "wineexp.serving.app"])
    over = threading.Event()

    def stop(number: int, _: FrameType | None) -> None:
        log.info("stopping", signal=signal.Signals(number).name)
        over.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)

    def started() -> "multiprocessing.context.ForkServerProcess":
        process = context.Process(target=_worker, args=(work, settings, listener, shared, folder))
        process.start()
        return process

    workers, since = [started() for _ in range(settings.serve.workers)], time.monotonic()
    while not over.is_set():
        wait([process.sentinel for process in workers], timeout=0.2)
        for place, process in enumerate(workers):
            if process.is_alive() or over.is_set() or time.monotonic() - since < PAUSE:
                continue
            log.error("worker died", pid=process.pid, exitcode=process.exitcode)
            workers[place], since = started(), time.monotonic()
    for process in workers:
        process.terminate()
    for process in workers:
        process.join()
    shutil.rmtree(folder, ignore_errors=True)


def _worker(work: Work, settings: Serve, listener: socket.socket, shared: str, folder: str) -> None:
    os.environ[shared] = folder
    # Not to go on alone when the supervisor is killed.
    threading.Thread(target=_follow, daemon=True).start()
    work(settings, listener)


def _follow() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
