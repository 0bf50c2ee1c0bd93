"""Bodies on their way: a request is work once it is here, so that senders who take their time take no place."""

from litestar.types import HTTPReceiveMessage, Receive

# The largest bodies that may be waited for at once, as far as they are here.
ROOM = 16

# In a request's state: the status of one that ended before it had its answer.
ENDED = "ended"

# As nginx has it: the client left.
LEFT = 499


class LeftError(Exception):
    """The client is gone."""


class FullError(Exception):
    """Unfinished bodies take up all the memory that they may."""


class Arrivals:
    """Waits for bodies.

    Parameters
    ----------
    longest : int
        Bytes that one may have.
    """

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self._held = 0

    async def whole(self, headers: dict[bytes, bytes], receive: Receive) -> HTTPReceiveMessage | None:
        """A request's body as one message; None where it has none, or says that it is too long.

        Of one that is too long and does not say so, more than is taken, for the application to refuse.

        Raises
        ------
        LeftError, FullError
        """
        announced = int(headers.get(b"content-length", b"0"))
        if announced > self.longest or (not announced and b"transfer-encoding" not in headers):
            return None
        message = await receive()
        if message["type"] == "http.request" and not message["more_body"]:
            return message
        body = bytearray()
        try:
            while message["type"] == "http.request":
                body += message["body"]
                self._held += len(message["body"])
                if not message["more_body"] or len(body) > self.longest:
                    return {"type": "http.request", "body": bytes(body), "more_body": False}
                if self._held > ROOM * self.longest:
                    raise FullError
                message = await receive()
        finally:
            self._held -= len(body)
        raise LeftError
