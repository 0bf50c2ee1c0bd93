"""Request ids, metrics, the access log, and the last resort for exceptions."""

import os
import re
import time

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from wineexp.serving.http import problems
from wineexp.serving.http.protocol import CLIENT_CLOSED_REQUEST, FINAL_STATUS
from wineexp.serving.logs import AccessLog
from wineexp.serving.metrics import Metrics
from wineexp.serving.middleware.response import send_problem

log = structlog.get_logger()

# Methods that are metric labels. Clients can make up others, which share one label.
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

NOSNIFF = (b"x-content-type-options", b"nosniff")

# A trace's id, the caller's span and flags (W3C Trace Context), of which versions beyond 00 may have more parts. Ids of
# zeros, and the version ff, are not valid.
TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-((?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?")

# A client's own request id is used where it is harmless in a log.
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RecordingMiddleware:
    """Gives each request an id, counts and logs it, and answers with a problem where the application fails.

    A request that is a part of a trace has the trace's id in its line of the log. Its response has a `traceparent` with
    the same id and a span of its own, so that a client, or a proxy, finds the request in the trace.

    The request's ASGI state holds `request_id`, and `headers` as a dict, for the middleware within.

    Parameters
    ----------
    app : ASGI application
    metrics : Metrics
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics
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
        state["request_id"], state["headers"] = request_id, headers
        added = [(b"x-request-id", request_id.encode()), NOSNIFF]
        trace = TRACEPARENT.fullmatch(headers.get(b"traceparent", b""))
        if trace is not None:
            added.append((b"traceparent", b"00-%b-%b-%b" % (trace[1], os.urandom(8).hex().encode(), trace[2])))
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
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
            trace_id = trace[1].decode() if trace else None
            self._record(scope, request_id, status, time.perf_counter() - started_at, trace_id)

    def record_refusal(self, status: int, client: str | None) -> None:
        """Count and log a request that is refused before it is parsed; `client` is an address."""
        self.metrics.count_request("other", "none", status, 0.0)
        self._access_log.write(os.urandom(16).hex(), "other", "none", status, 0.0, client, None)

    def _record(self, scope: HTTPScope, request_id: str, status: int, seconds: float, trace_id: str | None) -> None:
        route, method, client = str(scope.get("path_template") or "none"), scope["method"], scope["client"]
        self.metrics.count_request(method if method in METHODS else "other", route, status, seconds)
        address = client[0] if client else None
        self._access_log.write(request_id, method, route, status, round(1000 * seconds, 3), address, trace_id)
