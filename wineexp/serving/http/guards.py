"""What stands before a route: the body as bytes, its type, the types that a client takes, its key."""

import asyncio
import hmac
import os
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar

from litestar import MediaType, Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from wineexp.core.errors import UserError
from wineexp.serving.http.problems import Refused

Read = TypeVar("Read")

# A body that has more is read beside the event loop, where it holds up nobody; for fewer a thread costs more than that.
INLINE_BYTES = 32_768


async def body(request: Request[Any, Any, Any], *media_types: str, unsaid: str | None = None) -> tuple[bytes, str]:
    """The whole body and its media type, which must be one of these; `unsaid` is what one without a type has.

    Raises
    ------
    Refused
        415: another type, an encoding, or another character set than UTF-8.
    """
    media_type, parameters = request.content_type
    media_type = media_type or unsaid or ""
    if media_type.lower() not in media_types:
        told = f"is {media_type[:60]}" if media_type else "is missing"
        raise Refused(415, f"Content-Type {told}; this path takes {' or '.join(media_types)}")
    if (charset := parameters.get("charset", "utf-8").strip('"').lower()) not in ("utf-8", "utf8", "us-ascii"):
        raise Refused(415, f"charset is {charset[:60]}; this path takes utf-8")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "this path takes bodies without a Content-Encoding", headers={"accept-encoding": "identity"})
    return await request.body(), media_type.lower()


async def read(reading: Callable[[bytes], Read], content: bytes) -> Read:
    """What a function makes of a body; of a large one beside the event loop, where nobody waits for it."""
    if len(content) <= INLINE_BYTES:
        return reading(content)
    return await asyncio.to_thread(reading, content)


async def acceptable(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Guard: the client takes what the route gives."""
    given: Any = getattr(handler, "media_type", None) or MediaType.JSON
    given = given.value if isinstance(given, Enum) else given
    accept = connection.headers.get("accept", "")
    if accept and not any(_covers(wanted, given.split(";")[0].strip()) for wanted in accept.split(",")):
        raise Refused(406, f"this path answers with {given}, which the header Accept leaves out")


class Key:
    """A guard that asks for the API key in an environment variable, None for none.

    Parameters
    ----------
    variable : str or None
    setting : str
        That names it.

    Attributes
    ----------
    asks : bool

    Raises
    ------
    UserError
        The variable is not set, or empty.
    """

    def __init__(self, variable: str | None, setting: str) -> None:
        self._secret = os.environ.get(variable, "").encode() if variable else b""
        self.asks = bool(self._secret)
        if variable and not self.asks:
            raise UserError(
                f"{setting}={variable}: this environment variable holds no key; set it, or say {setting}=null"
            )

    async def __call__(self, connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        """Guard."""
        headers = connection.headers
        if self.asks and not self.opens(headers.get("authorization", ""), headers.get("x-api-key", "")):
            told = "an API key is wanted, as Authorization: Bearer KEY or X-API-Key: KEY"
            raise Refused(401, told, headers={"www-authenticate": "Bearer"})

    def opens(self, authorization: str, x_api_key: str) -> bool:
        """Whether one of these headers holds the key."""
        scheme, *token = authorization.split(maxsplit=1)[:2] or [""]
        given = token[0] if scheme.lower() == "bearer" and token else x_api_key
        # In a time that does not depend on how much of it is right.
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._secret)


def _covers(wanted: str, given: str) -> bool:
    """Whether one range of an Accept header (RFC 9110, 12.5.1) covers a media type."""
    media_range, *parameters = (part.strip().lower() for part in wanted.split(";"))
    if any(part.replace(" ", "") in ("q=0", "q=0.0", "q=0.00", "q=0.000") for part in parameters):
        return False
    return media_range in ("*/*", given, f"{given.partition('/')[0]}/*")
