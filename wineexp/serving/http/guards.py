"""Checks before a handler runs: content type and encoding of the body, the Accept header, the API key."""

import asyncio
import hmac
import os
import zlib
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar

from litestar import MediaType, Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from wineexp.core.errors import UserError
from wineexp.serving.http.problems import ProblemError

Parsed = TypeVar("Parsed")

# Larger bodies are parsed in a thread, so that other requests need not wait; for smaller ones a thread costs more.
MAX_INLINE_BYTES = 32_768

# Tells zlib to expect the header and the check sum of gzip.
GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS


async def read_body(
    request: Request[Any, Any, Any], *media_types: str, default: str | None = None
) -> tuple[bytes, str]:
    """Read the whole body, inflated where it came as gzip.

    Parameters
    ----------
    request : Request
    *media_types : str
        Those that the path accepts.
    default : str, optional
        The media type of a body without a Content-Type.

    Returns
    -------
    body : bytes
    media_type : str

    Raises
    ------
    ProblemError
        400, 413: see `inflate`. 415: the body has another media type, another content encoding than gzip, or another
        character set than UTF-8.
    """
    media_type, parameters = request.content_type
    media_type = media_type or default or ""
    if media_type.lower() not in media_types:
        message = f"is {media_type[:60]}" if media_type else "is missing"
        raise ProblemError(415, f"Content-Type {message}; this path accepts {' or '.join(media_types)}")
    if (charset := parameters.get("charset", "utf-8").strip('"').lower()) not in ("utf-8", "utf8", "us-ascii"):
        raise ProblemError(415, f"charset is {charset[:60]}; this path accepts utf-8")
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding not in ("identity", "gzip"):
        message = f"Content-Encoding is {encoding[:60]}; this path accepts gzip, or none"
        raise ProblemError(415, message, headers={"accept-encoding": "gzip, identity"})
    body = await request.body()
    if encoding == "gzip":
        max_bytes = request.route_handler.resolve_request_max_body_size() or len(body)
        # In a thread, since a small body may inflate to a large one.
        body = await asyncio.to_thread(inflate, body, max_bytes)
    return body, media_type.lower()


def inflate(body: bytes, max_bytes: int) -> bytes:
    """What a gzip body holds; no more than one byte over the limit is ever inflated.

    Raises
    ------
    ProblemError
        400: it is not a whole gzip file. 413: it holds more than `max_bytes`.
    """
    decompressor = zlib.decompressobj(wbits=GZIP_WINDOW_BITS)
    try:
        content = decompressor.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise ProblemError(400, f"the body is not gzip, which Content-Encoding says: {error}") from error
    if len(content) > max_bytes:
        raise ProblemError(413, f"the body inflates to more than {max_bytes} bytes, which is more than is accepted")
    if not decompressor.eof or decompressor.unused_data:
        raise ProblemError(400, "the body is not one whole gzip file, which Content-Encoding says")
    return content


async def parse_body(parse: Callable[[bytes], Parsed], body: bytes) -> Parsed:
    """Call `parse` with a body; with a large one in a thread, so that other requests need not wait."""
    if len(body) <= MAX_INLINE_BYTES:
        return parse(body)
    return await asyncio.to_thread(parse, body)


async def check_accept(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Refuse a request whose Accept header excludes the handler's media type; a Litestar guard.

    Raises
    ------
    ProblemError
        406.
    """
    media_type: Any = getattr(handler, "media_type", None) or MediaType.JSON
    media_type = media_type.value if isinstance(media_type, Enum) else media_type
    accept = connection.headers.get("accept", "")
    if accept and not any(_covers(each, media_type.split(";")[0].strip()) for each in accept.split(",")):
        raise ProblemError(406, f"this path responds with {media_type}, which the header Accept excludes")


class ApiKey:
    """A Litestar guard that requires an API key.

    Parameters
    ----------
    variable : str or None
        Name of the environment variable that holds the key; None requires none.
    setting : str
        The setting that names the variable, for error messages.

    Attributes
    ----------
    required : bool

    Raises
    ------
    UserError
        The variable is not set, or empty.
    """

    def __init__(self, variable: str | None, setting: str) -> None:
        self._secret = os.environ.get(variable, "").encode() if variable else b""
        self.required = bool(self._secret)
        if variable and not self.required:
            raise UserError(
                f"{setting}={variable}: this environment variable holds no key; set it, or say {setting}=null"
            )

    async def __call__(self, connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        """Refuse a request without the key.

        Raises
        ------
        ProblemError
            401.
        """
        headers = connection.headers
        if self.required and not self.matches(headers.get("authorization", ""), headers.get("x-api-key", "")):
            message = "an API key is required, as Authorization: Bearer KEY or X-API-Key: KEY"
            raise ProblemError(401, message, headers={"www-authenticate": "Bearer"})

    def matches(self, authorization: str, x_api_key: str) -> bool:
        """Whether one of these two headers holds the key."""
        scheme, *token = authorization.split(maxsplit=1)[:2] or [""]
        key = token[0] if scheme.lower() == "bearer" and token else x_api_key
        # The comparison takes the same time however much of the key is right.
        return hmac.compare_digest(key.encode("utf-8", "surrogateescape"), self._secret)


def _covers(accepted: str, media_type: str) -> bool:
    """Whether one range of an Accept header (RFC 9110, 12.5.1) covers a media type."""
    media_range, *parameters = (part.strip().lower() for part in accepted.split(";"))
    if any(part.replace(" ", "") in ("q=0", "q=0.0", "q=0.00", "q=0.000") for part in parameters):
        return False
    return media_range in ("*/*", media_type, f"{media_type.partition('/')[0]}/*")
