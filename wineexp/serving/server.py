"""Processes and sockets: uvicorn behind one of them, and what is started beside it."""

import gc
import os
import signal
import socket
import sys
from functools import partial

import structlog
import uvicorn
from litestar.types import ASGIApp

from wineexp.core.config import Serve
from wineexp.core.errors import UserError
from wineexp.core.signals import stop
from wineexp.serving import logs
from wineexp.serving.http.protocol import Protocol
from wineexp.serving.refresh.messages import Link
from wineexp.serving.refresh.monitor import Sentry
from wineexp.serving.supervisor import supervise

log = structlog.get_logger()


def run(settings: Serve) -> None:
    """Serve until SIGTERM, then answer what is under way and return.

    Raises
    ------
    UserError
        The address is taken, or there is nothing to serve.
    """
    logs.configure()
    # A registry that is down is asked again at the next look, not by MLflow for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    # As where models are trained: the last bits depend on how many threads share a computation.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    # Seconds that a large request may keep the event loop waiting for its turn.
    sys.setswitchinterval(0.001)
    listener = _listen(settings.serve.host, settings.serve.port)
    with Sentry(settings) as sentry:
        from wineexp.serving.app import build

        # In several processes too: what is wrong is told once, and the cache is filled once.
        app = build(settings, sentry.link)
        host, port, *_ = listener.getsockname()
        log.info("listening", url=f"http://{f'[{host}]' if ':' in host else host}:{port}", pid=os.getpid())
        if settings.serve.workers == 1:
            _serve(settings, app, listener)
        else:
            supervise(partial(work, link=sentry.link), settings, listener, shared="PROMETHEUS_MULTIPROC_DIR")
    log.info("stopped")


def work(settings: Serve, listener: socket.socket, link: Link) -> None:
    """Be one of several workers."""
    logs.configure()
    from wineexp.serving.app import build

    # As in any program, SIGTERM that comes before uvicorn listens to it ends the process.
    signal.signal(signal.SIGTERM, stop)
    _serve(settings, build(settings, link), listener)


def _serve(settings: Serve, app: ASGIApp, listener: socket.socket) -> None:
    server = settings.serve
    # What is there now stays: looked through at each collection, it would hold up the request that comes in between.
    gc.collect()
    gc.freeze()
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=server.request_timeout_seconds,
        timeout_graceful_shutdown=server.shutdown_timeout_seconds,
    )
    try:
        uvicorn.Server(config).run([listener])
    except SystemExit as error:
        # uvicorn has drained and then raises the signal again; the alarm that `signals.stop` sets is called off.
        signal.setitimer(signal.ITIMER_REAL, 0)
        if error.code != 128 + signal.SIGTERM:
            raise


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"serve.host={host}, serve.port={port}: {reason}; choose another port, or 0 for a free one"
        ) from error
    listener.set_inheritable(True)
    return listener
