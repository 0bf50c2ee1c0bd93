"""The page, its files, and the headers that keep it from doing anything but its work."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litestar import MediaType, Request, Response, get
from litestar.handlers import HTTPRouteHandler

from wineexp.serving.http.problems import Refused
from wineexp.serving.model.predictor import Predictor

FOLDER = Path(__file__).parents[1] / "static"

TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}

# Nothing from elsewhere, nothing inline, in nobody else's frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; frame-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# One document with its style in it, in a frame of the page. It comes with a version, so it runs no script.
CARD_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; sandbox allow-same-origin"
)

HEADERS = {
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    # Asked anew each time, answered by 304 mostly: a new release's page never meets an old one's script.
    "cache-control": "no-cache",
}


@dataclass(frozen=True)
class File:
    """A file of the page, read once."""

    content: bytes
    media_type: str
    etag: str


def _file(content: bytes, media_type: str) -> File:
    return File(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


FILES = {path.name: _file(path.read_bytes(), TYPES[path.suffix]) for path in sorted(FOLDER.iterdir())}


@get("/", media_type=MediaType.HTML, include_in_schema=False)
async def page(request: Request[Any, Any, Any]) -> Response[bytes]:
    """The page."""
    return _given(request, FILES["index.html"])


@get("/static/{name:str}", media_type="text/*", include_in_schema=False)
async def file(request: Request[Any, Any, Any], name: str) -> Response[bytes]:
    """A file of the page."""
    if name not in FILES:
        raise Refused(404, "the page has no such file")
    return _given(request, FILES[name])


@get("/card", media_type=MediaType.HTML, include_in_schema=False)
async def card(request: Request[Any, Any, Any], predictor: Predictor) -> Response[bytes]:
    """The model card of the version that answers, which brings its own style and pictures, and runs nothing."""
    if predictor.card_page is None:
        raise Refused(404, f"version {predictor.lineage.version} was registered without a model card")
    return _given(request, _file(predictor.card_page.encode(), "text/html"), CARD_POLICY)


def _given(request: Request[Any, Any, Any], file: File, policy: str = POLICY) -> Response[bytes]:
    headers = HEADERS | {"content-security-policy": policy, "etag": file.etag}
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if known & {file.etag, "*"}:
        return Response(b"", status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


OPEN: list[HTTPRouteHandler] = [page, file, card]
