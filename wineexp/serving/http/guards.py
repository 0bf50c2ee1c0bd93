"""Checks before a handler runs: content type and encoding of the body, the Accept header, the API key."""

import asyncio
import hmac
import os
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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

# What tells zlib the format of each content encoding; deflate is the format of zlib (RFC 9110, section 8.4.1).
WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}

# Reads the bodies that take long, one at a time: what a body becomes while it is read takes more memory than the body.
_reader = ThreadPoolExecutor(1, thread_name_prefix="reader")


@dataclass(frozen=True)
class Body:
    """A whole body as it came.

    Attributes
    ----------
    content : bytes
    media_type : str
    encoding : str
        One of `WINDOW_BITS`, or `identity`.
    max_bytes : int
        No more may be in it once it is inflated.
    """

    content: bytes
    media_type: str
    encoding: str
    max_bytes: int


async def read_body(request: Request[Any, Any, Any], *media_types: str, default: str | None = None) -> Body:
    """Receive the whole body.

    Parameters
    ----------
    request : Request
    *media_types : str
        Those that the path accepts.
    default : str, optional
        The media type of a body without a Content-Type.

    Raises
    ------
    ProblemError
        415: the body has another media type, a content encoding that is none of `WINDOW_BITS`, or another character
        set than UTF-8.
    """
    media_type, parameters = request.content_type
    media_type = media_type or default or ""
    if media_type.lower() not in media_types:
        message = f"is {media_type[:60]}" if media_type else "is missing"
        raise ProblemError(415, f"Content-Type {message}; this path accepts {' or '.join(media_types)}")
    if (charset := parameters.get("charset", "utf-8").strip('"').lower()) not in ("utf-8", "utf8", "us-ascii"):
        raise ProblemError(415, f"charset is {charset[:60]}; this path accepts utf-8")
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding not in ("identity", *WINDOW_BITS):
        message = f"Content-Encoding is {encoding[:60]}; this path accepts gzip and deflate, or none"
        raise ProblemError(415, message, headers={"accept-encoding": "gzip, deflate, identity"})
    # Not by `request.body()`, which keeps it in the scope, and so in memory until the garbage collector runs.
    content = b"".join([chunk async for chunk in request.stream() if chunk])
    max_bytes = request.route_handler.resolve_request_max_body_size() or len(content)
    return Body(content, media_type.lower(), encoding, max_bytes)


async def parse_body(parse: Callable[[bytes], Parsed], body: Body) -> Parsed:
    """Call `parse` with what is in a body.

    One that is large, or inflates to a large one, is read in a thread, so that other requests need not wait, and
    after those that came before it, so that the memory that reading takes does not grow with their number.

    Raises
    ------
    ProblemError
        400, 413: see `inflate`. And what `parse` raises.
    """
    if len(body.content) <= MAX_INLINE_BYTES:
        content = _inflate(body, min(MAX_INLINE_BYTES, body.max_bytes))
        if content is not None:
            return parse(content)
    return await asyncio.get_running_loop().run_in_executor(_reader, lambda: parse(inflate(body)))


def inflate(body: Body) -> bytes:
    """What is in a body; no more than one byte over its limit is ever inflated.

    Raises
    ------
    ProblemError
        400: it is not in the encoding that it names, or not whole. 413: it holds more than `max_bytes`.
    """
    content = _inflate(body, body.max_bytes)
    if content is None:
        message = f"the body inflates to more than {body.max_bytes} bytes, which is more than is accepted"
        raise ProblemError(413, message)
    return content


def _inflate(body: Body, max_bytes: int) -> bytes | None:
    """What is in a body; None where that is more than `max_bytes`."""
    if body.encoding == "identity":
        return body.content if len(body.content) <= max_bytes else None
    decompressor = zlib.decompressobj(wbits=WINDOW_BITS[body.encoding])
    try:
        content = decompressor.decompress(body.content, max_bytes + 1)
    except zlib.error as error:
        message = f"the body is not {body.encoding}, which Content-Encoding says: {error}"
        raise ProblemError(400, message) from error
    if len(content) > max_bytes:
        return None
    if not decompressor.eof or decompressor.unused_data:
        raise ProblemError(400, f"the body is not {body.encoding} from its first to its last byte")
    return content


async def check_accept(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Refuse a request whose Accept header excludes the handler's media types; a Litestar guard.

    A handler with several has them in its option `media_types`.

    Raises
    ------
    ProblemError
        406.
    """
    media_type: Any = getattr(handler, "media_type", None) or MediaType.JSON
    media_types = handler.opt.get("media_types", [media_type.value if isinstance(media_type, Enum) else media_type])
    offered = [each.split(";")[0].strip() for each in media_types]
    accept = connection.headers.get("accept", "")
    if accept and not any(_covers(accepted, each) for accepted in accept.split(",") for each in offered):
        raise ProblemError(406, f"this path responds with {' or '.join(offered)}, which the header Accept excludes")


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
