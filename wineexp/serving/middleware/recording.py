"""Request ids, metrics, the access log, and the last resort for exceptions."""

import os
import re
import time

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from wineexp.serving.answers import ANSWERED_VERSION, STARTED_AT
from wineexp.serving.http import problems
from wineexp.serving.http.protocol import CLIENT_CLOSED_REQUEST, FINAL_STATUS
from wineexp.serving.logs import AccessLog
from wineexp.serving.metrics import Metrics
from wineexp.serving.middleware.response import send_problem
from wineexp.serving.tracing import Trace, Tracer, continue_trace

log = structlog.get_logger()

# Methods that are metric labels. Clients can make up others, which share one label.
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

NOSNIFF = (b"x-content-type-options", b"nosniff")

# A client's own request id is used where it is harmless in a log.
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RecordingMiddleware:
    """Gives each request an id, counts and logs it, and answers with a problem where the application fails.

    Where two versions share the traffic, `x-model-version` says which of them has answered.

    A request that is a part of a trace has the trace's id in its line of the log. Its response has a `traceparent` with
    the same id and a span of its own, so that a client, or a proxy, finds the request in the trace.

    The request's ASGI state holds `request_id`, `started_at`, and `headers` as a dict, for what is within.

    Parameters
    ----------
    app : ASGI application
    metrics : Metrics
    tracer : Tracer, optional
        Exports a span for each request.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, tracer: Tracer | None = None) -> None:
        self.app = app
        self.metrics = metrics
        self.tracer = tracer
        self._access_log = AccessLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return
        started_at = time.perf_counter()
        headers = dict(scope["headers"])
        own_id = headers.get(b"x-request-id")
        request_id = own_id.decode() if own_id and REQUEST_ID.fullmatch(own_id) else os.urandom(16).hex()
        state = scope.setdefault("state", {})
        state["request_id"], state["headers"], state[STARTED_AT] = request_id, headers, started_at
        added = [(b"x-request-id", request_id.encode()), NOSNIFF]
        traceparent = headers.get(b"traceparent", b"")
        trace = self.tracer.start(traceparent) if self.tracer else continue_trace(traceparent)
        if trace is not None:
            added.append((b"traceparent", trace.traceparent))
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if ANSWERED_VERSION in state:
                    added.append((b"x-model-version", b"%d" % state[ANSWERED_VERSION]))
                message["headers"] = [*message["headers"], *added]
            await send(message)

        self.metrics.in_flight.inc()
        try:
            await self.app(scope, receive, send_with_headers)
        except Exception as error:
            log.error("failed", request_id=request_id, exc_info=error)
            if status == 0:
                await send_problem(scope, send_with_headers, 500, problems.server_error(request_id))
        finally:
            self.metrics.in_flight.dec()
            status = state.get(FINAL_STATUS) or status or CLIENT_CLOSED_REQUEST
            self._record(scope, request_id, status, time.perf_counter() - started_at, trace)

    def record_refusal(self, status: int, client: str | None) -> None:
        """Count and log a request that is refused before it is parsed; `client` is an address."""
        self.metrics.count_request("other", "none", status, 0.0)
        self._access_log.write(os.urandom(16).hex(), "other", "none", status, 0.0, client, None)

    def _record(self, scope: HTTPScope, request_id: str, status: int, seconds: float, trace: Trace | None) -> None:
        route, method, client = str(scope.get("path_template") or "none"), scope["method"], scope["client"]
        known_method = method if method in METHODS else "other"
        self.metrics.count_request(known_method, route, status, seconds)
        if self.tracer is not None and trace is not None:
            self.tracer.end(trace, request_id, known_method, route, status)
        trace_id = trace.trace_id if trace is not None else None
        address = client[0] if client else None
        self._access_log.write(request_id, method, route, status, round(1000 * seconds, 3), address, trace_id)
