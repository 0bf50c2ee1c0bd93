"""The web page, its files, and the headers that restrict what it may do."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litestar import MediaType, Request, Response, get
from litestar.handlers import HTTPRouteHandler

from wineexp.serving.http.problems import ProblemError
from wineexp.serving.model.predictor import Predictor

FOLDER = Path(__file__).parents[1] / "static"

MEDIA_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}

# The page loads nothing from other servers, runs no inline script, and cannot be framed by other pages.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; frame-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The model card is one document with inline style, in a frame of the page. It comes with a version, from outside the
# server's code, so that it may not run scripts.
CARD_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; sandbox allow-same-origin"
)

HEADERS = {
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    # Browsers revalidate each file, so that the page of a new release never gets a script of an old one.
    "cache-control": "no-cache",
}


@dataclass(frozen=True)
class StaticFile:
    """A file of the page, in memory."""

    content: bytes
    media_type: str
    etag: str


def _static_file(content: bytes, media_type: str) -> StaticFile:
    return StaticFile(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


FILES = {path.name: _static_file(path.read_bytes(), MEDIA_TYPES[path.suffix]) for path in sorted(FOLDER.iterdir())}


@get("/", media_type=MediaType.HTML, include_in_schema=False)
async def page(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Give the page."""
    return _response(request, FILES["index.html"])


@get("/static/{name:str}", media_type="text/*", include_in_schema=False)
async def static_file(request: Request[Any, Any, Any], name: str) -> Response[bytes]:
    """Give a file of the page."""
    if name not in FILES:
        raise ProblemError(404, "the page has no such file")
    return _response(request, FILES[name])


@get("/card", media_type=MediaType.HTML, include_in_schema=False)
async def card(request: Request[Any, Any, Any], predictor: Predictor) -> Response[bytes]:
    """Give the model card of the served version."""
    if predictor.card_page is None:
        raise ProblemError(404, f"version {predictor.lineage.version} was registered without a model card")
    return _response(request, _static_file(predictor.card_page.encode(), "text/html"), CARD_POLICY)


def _response(request: Request[Any, Any, Any], file: StaticFile, policy: str = POLICY) -> Response[bytes]:
    """The file, or 304 where the client has it."""
    headers = HEADERS | {"content-security-policy": policy, "etag": file.etag}
    known_tags = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if known_tags & {file.etag, "*"}:
        return Response(b"", status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


PUBLIC_HANDLERS: list[HTTPRouteHandler] = [page, static_file, card]
