"""Waits for whole bodies, so that requests that arrive slowly take no place of those that can be answered.

All bodies together are limited, too, those that arrive and those whose requests are being answered.
"""

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, ReceiveMessage, Scope, Send

from wineexp.serving.http.guards import MAX_INLINE_BYTES
from wineexp.serving.middleware.response import send_problem

# Bodies may together take up the memory of so many bodies of the largest allowed size.
MAX_BODIES = 16


class BodyMiddleware:
    """Calls the application once the body of a request is complete.

    A body that is too large is left to the application to refuse. Of one without a Content-Length, the application gets
    the first bytes, more than are allowed. Small bodies that arrive in one piece are not counted: they are answered at
    once, and not at the cost of large ones.

    Parameters
    ----------
    app : ASGI application
    max_body_bytes : int
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes
        self._counted_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != ScopeType.HTTP or not self._has_acceptable_body(scope["state"]["headers"]):
            await self.app(scope, receive, send)
            return
        message = await receive()
        if message["type"] == "http.request" and not message["more_body"] and len(message["body"]) <= MAX_INLINE_BYTES:
            await self.app(scope, replay(message, receive), send)
            return
        body, n_bytes = bytearray(), 0
        try:
            while True:
                if message["type"] != "http.request":
                    # The client has left, so that there is no response to send.
                    return
                body += message["body"]
                self._counted_bytes += len(message["body"])
                n_bytes += len(message["body"])
                if self._counted_bytes > MAX_BODIES * self.max_body_bytes:
                    detail = "the bodies of other requests take up all the memory that they may; try again in a second"
                    await send_problem(scope, send, 503, detail)
                    return
                if not message["more_body"] or n_bytes > self.max_body_bytes:
                    break
                message = await receive()
            message = {"type": "http.request", "body": bytes(body), "more_body": False}
            del body
            await self.app(scope, replay(message, receive), send)
        finally:
            self._counted_bytes -= n_bytes

    def _has_acceptable_body(self, headers: dict[bytes, bytes]) -> bool:
        content_length = int(headers.get(b"content-length", b"0"))
        return content_length <= self.max_body_bytes and (content_length > 0 or b"transfer-encoding" in headers)


def replay(message: ReceiveMessage, receive: Receive) -> Receive:
    """A `receive` that gives this message first."""
    messages = [message]

    async def receive_again() -> ReceiveMessage:
        return messages.pop() if messages else await receive()

    return receive_again
