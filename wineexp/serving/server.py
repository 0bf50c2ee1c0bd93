"""Runs a server: opens the socket, starts the refresh monitor, and runs uvicorn in one process or in several."""

import ctypes
import gc
import os
import signal
import socket
import sys
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import structlog
import uvicorn

from wineexp.core.config import Serve
from wineexp.core.errors import UserError
from wineexp.core.signals import stop
from wineexp.serving import logs
from wineexp.serving.http._uvicorn import UvicornServer
from wineexp.serving.http.protocol import TimeoutProtocol
from wineexp.serving.middleware.recording import RecordingMiddleware
from wineexp.serving.refresh.messages import RefreshPaths
from wineexp.serving.refresh.monitor import RefreshMonitor
from wineexp.serving.supervisor import supervise

if TYPE_CHECKING:
    from wineexp.serving.challenger.live_test import ChallengerPaths

log = structlog.get_logger()

# Connections that may wait to be accepted.
BACKLOG = 2048

# How long a thread with a large request may keep the event loop waiting for the interpreter.
SWITCH_INTERVAL_SECONDS = 0.001

# Blocks of memory from this size on go back to the system as soon as they are freed. Without it, glibc raises the size
# to that of the largest block so far, keeps what smaller ones leave between each other, and does not give it back.
RETURNED_BLOCK_BYTES = 262_144
M_MMAP_THRESHOLD = -3


def run(settings: Serve) -> None:
    """Serve until SIGTERM, then finish open requests and return.

    Raises
    ------
    UserError
        The address is taken, or there is nothing to serve.
    """
    logs.configure()
    # What this process and its children keep, files and sockets, is readable by their user alone.
    os.umask(0o077)
    # A registry that is down is asked again at the next poll; MLflow's own retries would take minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    # As in training: the last bits depend on how many threads share a computation.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    listener = _listen(settings.serve.host, settings.serve.port)
    with ExitStack() as stack:
        monitor = stack.enter_context(RefreshMonitor(settings))
        # Imported while the refresh process starts.
        from wineexp.serving.app import build
        from wineexp.serving.challenger.live_test import following_challenger

        challenger = stack.enter_context(following_challenger(settings))
        # Built here even where workers build their own: errors are reported once, and the cache is filled once.
        app = build(settings, monitor.paths, challenger)
        host, port, *_ = listener.getsockname()
        log.info("listening", url=f"http://{f'[{host}]' if ':' in host else host}:{port}", pid=os.getpid())
        if settings.serve.workers == 1:
            _serve(settings, app, listener)
        else:
            work = partial(run_worker, paths=monitor.paths, challenger=challenger)
            supervise(work, settings, listener, folder_variable="PROMETHEUS_MULTIPROC_DIR")
    log.info("stopped")


def run_worker(
    settings: Serve, listener: socket.socket, paths: RefreshPaths, challenger: "ChallengerPaths | None"
) -> None:
    """Serve as one of several workers until SIGTERM."""
    logs.configure()
    from wineexp.serving.app import build

    # Until uvicorn has its own handler, SIGTERM ends the process.
    signal.signal(signal.SIGTERM, stop)
    _serve(settings, build(settings, paths, challenger), listener)


def _serve(settings: Serve, app: RecordingMiddleware, listener: socket.socket) -> None:
    server = settings.serve
    # Of glibc; other libraries have no such function.
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, RETURNED_BLOCK_BYTES)
    # Objects that exist now stay for good. Left out of later collections, they do not slow down requests.
    gc.collect()
    gc.freeze()
    protocol = partial(
        TimeoutProtocol, request_timeout_seconds=server.request_timeout_seconds, record_refusal=app.record_refusal
    )
    config = uvicorn.Config(
        app,
        http=protocol,  # type: ignore[arg-type]
        ws="none",
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=server.keep_alive_seconds,
        timeout_graceful_shutdown=server.shutdown_timeout_seconds,
    )
    try:
        UvicornServer(config).run([listener])
    except SystemExit as error:
        # uvicorn finishes open requests and then raises the signal again; this cancels the alarm of `signals.stop`.
        signal.setitimer(signal.ITIMER_REAL, 0)
        if error.code != 128 + signal.SIGTERM:
            raise
    finally:
        if app.tracer is not None:
            app.tracer.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"serve.host={host}, serve.port={port}: {reason}; choose another port, or 0 for a free one"
        ) from error
    listener.set_inheritable(True)
    return listener
