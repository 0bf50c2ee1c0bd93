"""The refresh process: all work of a server that needs MLflow, pandas or scikit-learn.

It asks the registry, verifies versions and explains predictions. The monitor starts it when there is such work, and
ends it when it is idle, which gives its memory back.
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog

from wineexp.core.config import Serve
from wineexp.serving import logs
from wineexp.serving.refresh.messages import (
    ExplanationReply,
    RefreshRequest,
    WorkerStart,
    describe_error,
    serve_requests,
)

log = structlog.get_logger()


class RefreshWorker:
    """Handles the requests of the refresh monitor.

    Parameters
    ----------
    settings : Serve
    cache, fallback : Path
        See `WorkerStart`.
    """

    def __init__(self, settings: Serve, cache: Path, fallback: Path) -> None:
        # These imports take seconds, in which requests wait at the socket.
        from wineexp.serving.refresh.alias_checker import AliasChecker
        from wineexp.serving.refresh.explanations import Explainer

        self._checker = AliasChecker(settings, cache, fallback)
        self._make_explainer = Explainer
        self._explainer: Explainer | None = None
        self._explaining = threading.Lock()

    def handle(self, request: RefreshRequest, send: Callable[[Any], None]) -> None:
        """Reply to one request."""
        if request.kind == "check":
            assert request.state is not None  # noqa: S101  for mypy: the monitor sends it with every request
            send(self._checker.check(request.state))
        else:
            # One at a time, so that checks are not held up by many of them.
            with self._explaining:
                send(self._explain(request))

    def _explain(self, request: RefreshRequest) -> ExplanationReply:
        version = request.state.version if request.state else None
        if version is None or version.identity != request.identity:
            return ExplanationReply(409)
        try:
            verified = self._checker.verified_version(version)
        except Exception as error:
            # Files that were verified once may be broken by now, in any way.
            reasons = "; ".join(describe_error(error))
            return ExplanationReply(503, detail=f"the version that is to be explained cannot be loaded: {reasons}")
        try:
            if self._explainer is None or self._explainer.verified is not verified:
                self._explainer = self._make_explainer(verified)
            return self._explainer.explain(request.row) if request.kind == "explain" else ExplanationReply(200)
        except Exception as error:
            log.error("explanation failed", exc_info=error)
            return ExplanationReply(500, detail="the explanation failed; the server's log tells more")


def main() -> None:
    """Serve requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logs.configure()
    start = msgspec.json.decode(sys.stdin.buffer.readline(), type=WorkerStart)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import numpy as np
    from threadpoolctl import threadpool_limits

    from wineexp.evaluation.cross_validation import NATIVE_THREADS

    worker = RefreshWorker(start.settings, Path(start.cache), Path(start.fallback))
    # After the imports, whose libraries it limits.
    threadpool_limits(NATIVE_THREADS)
    # Results that are not finite are found and refused at the end.
    np.seterr(all="ignore")
    serve_requests(socket.socket(fileno=start.listener), worker.handle)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
