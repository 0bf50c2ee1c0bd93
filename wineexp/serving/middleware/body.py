"""Waits for whole bodies, so that requests that arrive slowly take no place of those that can be answered."""

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPReceiveMessage, Receive, ReceiveMessage, Scope, Send

from wineexp.serving.middleware.response import send_problem

# Bodies that are incomplete may together take up the memory of so many bodies of the largest allowed size.
MAX_INCOMPLETE_BODIES = 16


class ClientDisconnectedError(Exception):
    """The client left before its request was complete."""


class IncompleteBodiesFullError(Exception):
    """Incomplete bodies take up all the memory that they may."""


class BodyMiddleware:
    """Calls the application once the body of a request is complete.

    A body that is too large is left to the application to refuse.

    Parameters
    ----------
    app : ASGI application
    max_body_bytes : int
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes
        self._incomplete_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != ScopeType.HTTP or not self._has_acceptable_body(scope["state"]["headers"]):
            await self.app(scope, receive, send)
            return
        try:
            message = await self._read(receive)
        except ClientDisconnectedError:
            # The client has left, so that there is no response to send.
            return
        except IncompleteBodiesFullError:
            detail = "incomplete bodies take up all the memory that they may; try again in a second"
            await send_problem(scope, send, 503, detail)
            return
        await self.app(scope, replay(message, receive), send)

    def _has_acceptable_body(self, headers: dict[bytes, bytes]) -> bool:
        content_length = int(headers.get(b"content-length", b"0"))
        return content_length <= self.max_body_bytes and (content_length > 0 or b"transfer-encoding" in headers)

    async def _read(self, receive: Receive) -> HTTPReceiveMessage:
        """Read a body as one message.

        Of a body without a Content-Length that is too large, it holds the first bytes, more than are allowed.

        Raises
        ------
        ClientDisconnectedError, IncompleteBodiesFullError
        """
        message = await receive()
        if message["type"] == "http.request" and not message["more_body"]:
            return message
        body = bytearray()
        try:
            while message["type"] == "http.request":
                body += message["body"]
                self._incomplete_bytes += len(message["body"])
                if not message["more_body"] or len(body) > self.max_body_bytes:
                    return {"type": "http.request", "body": bytes(body), "more_body": False}
                if self._incomplete_bytes > MAX_INCOMPLETE_BODIES * self.max_body_bytes:
                    raise IncompleteBodiesFullError
                message = await receive()
        finally:
            self._incomplete_bytes -= len(body)
        raise ClientDisconnectedError


def replay(message: ReceiveMessage, receive: Receive) -> Receive:
    """A `receive` that gives this message first."""
    messages = [message]

    async def receive_again() -> ReceiveMessage:
        return messages.pop() if messages else await receive()

    return receive_again
