"""The edge of the application: what is done for every request, whether a route takes it or none does."""

import os
import re
import time
from typing import Any

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPReceiveMessage, HTTPScope, Message, Receive, Scope, Send

from wineexp.core.config import Server
from wineexp.serving.http import problems
from wineexp.serving.http.body import ENDED, LEFT, Arrivals, FullError, LeftError
from wineexp.serving.logs import Access
from wineexp.serving.metrics import Metrics
from wineexp.serving.routes.fast_path import PATH, Shortcut

log = structlog.get_logger()

# Of these a metric is kept by name; what else a client makes up is one.
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

# Answered however many requests are under way: an orchestrator that gets no answer kills the process.
ALWAYS = {"/livez", "/readyz", "/metrics", "/ping", "/v2/health/live", "/v2/health/ready"}

NOSNIFF = (b"x-content-type-options", b"nosniff")
JSON = (b"content-type", b"application/json")

# A client's own request id is kept where it can do no harm in a log.
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Edge:
    """Wraps an application: request ids, allowed hosts, the limit on requests at once, metrics, log.

    Parameters
    ----------
    app : ASGI application
    settings : Server
    metrics : Metrics
    shortcut : Shortcut
    """

    def __init__(self, app: ASGIApp, settings: Server, metrics: Metrics, shortcut: Shortcut) -> None:
        self.app = app
        self.hosts = {host.lower() for host in settings.allowed_hosts}
        self.concurrency = settings.max_concurrent_requests
        self.metrics = metrics
        self.shortcut = shortcut
        self._access = Access()
        self._arrivals = Arrivals(settings.max_body_bytes)
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
        given = headers.get(b"x-request-id")
        request_id = given.decode() if given and REQUEST_ID.fullmatch(given) else os.urandom(16).hex()
        request = _Request(scope, request_id, send)
        self.metrics.in_flight.inc()
        try:
            if self.hosts and _name(headers.get(b"host", b"")) not in self.hosts:
                told = "this server does not answer under the name in the header Host"
                await _answer(request.send, request_id, 400, told)
            else:
                await self._work(request, headers, await self._arrivals.whole(headers, receive), receive)
        except LeftError:
            # Nobody is there to be answered; the log says so.
            pass
        except FullError:
            told = "bodies that are on their way take up all the memory that they may; come again in a second"
            await _answer(request.send, request_id, 503, told)
        except Exception as error:
            log.error("failed", request_id=request_id, exc_info=error)
            if request.status == 0:
                told = f"the server failed; its log tells more under {request_id}"
                await _answer(request.send, request_id, 500, told)
        finally:
            self.metrics.in_flight.dec()
            self._note(request, time.perf_counter() - began)

    async def _work(
        self, request: "_Request", headers: dict[bytes, bytes], body: HTTPReceiveMessage | None, receive: Receive
    ) -> None:
        """Answer a request that is here, in short where that fits, where there is a place."""
        self._under_way += 1
        try:
            if self._under_way > self.concurrency and request.scope["path"] not in ALWAYS:
                told = f"more than {self.concurrency} requests are under way; come again in a second"
                await _answer(request.send, request.id, 503, told)
            elif (short := self._short(request, headers, body)) is not None:
                request.route = PATH
                await request.answer(short)
            else:
                first = [body] if body else []

                async def again() -> Any:
                    return first.pop() if first else await receive()

                await self.app(request.inner(), again, request.send)
        finally:
            self._under_way -= 1

    def _short(self, request: "_Request", headers: dict[bytes, bytes], body: HTTPReceiveMessage | None) -> bytes | None:
        if body is None or body["type"] != "http.request" or not self.shortcut.fits(request.scope, headers):
            return None
        return self.shortcut.answer(body["body"], request.id)

    def _note(self, request: "_Request", seconds: float) -> None:
        scope, route = request.scope, request.found()
        method = scope["method"]
        status = scope.get("state", {}).get(ENDED) or request.status or LEFT
        self.metrics.count_request(method if method in METHODS else "other", route, status, seconds)
        client = scope["client"]
        self._access.write(request.id, method, route, status, round(1000 * seconds, 3), client[0] if client else None)


class _Request:
    """A request under way.

    Parameters
    ----------
    scope : HTTPScope
    id : str
    send : Send

    Attributes
    ----------
    status : int
        Of its answer; 0 before.
    route : str
        Where the edge answers itself.
    """

    __slots__ = ("_inner", "_send", "id", "route", "scope", "status")

    def __init__(self, scope: HTTPScope, request_id: str, send: Send) -> None:
        self.scope = scope
        self.id = request_id
        self.status = 0
        self.route = ""
        self._send = send
        self._inner: HTTPScope | None = None

    def inner(self) -> HTTPScope:
        """The scope as the application sees it."""
        self.scope.setdefault("state", {})["request_id"] = self.id
        # The body of an answer to HEAD is left out by uvicorn, which looks at the method of its own scope.
        self._inner = self.scope.copy()
        if self.scope["method"] == "HEAD":
            self._inner["method"] = "GET"
        return self._inner

    def found(self) -> str:
        """The template of its route."""
        return self.route or str((self._inner and self._inner.get("path_template")) or "none")

    async def send(self, message: Message) -> None:
        """Send what the application says, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], (b"x-request-id", self.id.encode()), NOSNIFF]
        await self._send(message)

    async def answer(self, body: bytes) -> None:
        """Send a JSON text."""
        self.status = 200
        length = b"%d" % len(body)
        headers = [JSON, (b"content-length", length), (b"x-request-id", self.id.encode()), NOSNIFF]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


def _name(host: bytes) -> str:
    """The name in a header Host, without a port."""
    told = host.decode("latin-1").lower()
    return told if "]" in told else told.rsplit(":", 1)[0]


async def _answer(send: Send, request_id: str, status: int, detail: str) -> None:
    """Send a problem without any route's help."""
    body = problems.encode(status, detail, request_id)
    headers = [(b"content-type", problems.MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    if status == 503:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
