"""The edge of the application: what is done for every request, whether a route takes it or none does."""

import re
import time
import uuid

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from wineexp.config import Server
from wineexp.serving import problems
from wineexp.serving.metrics import Metrics

log = structlog.get_logger()

# Of these a metric is kept by name; what else a client makes up is one.
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

# Answered however many requests are under way: an orchestrator that gets no answer kills the process.
ALWAYS = {"/livez", "/readyz", "/metrics", "/ping", "/v2/health/live", "/v2/health/ready"}

# A client's own request id is kept where it can do no harm in a log.
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Edge:
    """Wraps an application: request ids, allowed hosts, the limit on requests at once, metrics, log.

    Parameters
    ----------
    app : ASGI application
    settings : Server
    metrics : Metrics
    """

    def __init__(self, app: ASGIApp, settings: Server, metrics: Metrics) -> None:
        self.app = app
        self.hosts = {host.lower() for host in settings.hosts}
        self.concurrency = settings.concurrency
        self.metrics = metrics
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == ScopeType.HTTP:
            await self._http(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _http(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        headers = dict(scope["headers"])
        request_id = _request_id(headers.get(b"x-request-id", b""))
        scope.setdefault("state", {})["request_id"] = request_id
        # Its body is left out by uvicorn, which looks at the method of its own scope.
        inner = scope.copy()
        if scope["method"] == "HEAD":
            inner["method"] = "GET"
        status = 0

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        self._under_way += 1
        self.metrics.in_flight.inc()
        try:
            if refusal := self._refusal(scope, headers.get(b"host", b"")):
                await _answer(told, request_id, *refusal)
            else:
                await self.app(inner, receive, told)
        except Exception as error:
            log.error("failed", request_id=request_id, exc_info=error)
            if status == 0:
                await _answer(told, request_id, 500, f"the server failed; its log tells more under {request_id}")
        finally:
            self._under_way -= 1
            self.metrics.in_flight.dec()
            self._note(inner, scope["method"], status, time.perf_counter() - began, request_id)

    def _refusal(self, scope: HTTPScope, host: bytes) -> tuple[int, str] | None:
        if self._under_way > self.concurrency and scope["path"] not in ALWAYS:
            return 503, f"more than {self.concurrency} requests are under way; come again in a second"
        name = host.decode("latin-1").rsplit(":", 1)[0] if b"]" not in host else host.decode("latin-1")
        if self.hosts and name.lower() not in self.hosts:
            return 400, "this server does not answer under the name in the header Host"
        return None

    def _note(self, scope: HTTPScope, method: str, status: int, seconds: float, request_id: str) -> None:
        route = str(scope.get("path_template") or "none")
        known = method if method in METHODS else "other"
        # 499 as nginx has it: the client left before its answer.
        self.metrics.requests.labels(known, route, str(status or 499)).inc()
        self.metrics.seconds.labels(known, route).observe(seconds)
        log.info(
            "request",
            request_id=request_id,
            method=method,
            route=route,
            status=status or 499,
            milliseconds=round(1000 * seconds, 3),
            client=scope["client"][0] if scope["client"] else None,
        )


def _request_id(given: bytes) -> str:
    return given.decode() if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


async def _answer(send: Send, request_id: str, status: int, detail: str) -> None:
    """Send a problem without any route's help."""
    body = problems.encode(status, detail, request_id)
    headers = [(b"content-type", problems.MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    if status == 503:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
