"""The API documentation: Swagger UI, from files that this server has itself."""

import html
import importlib.util
from pathlib import Path
from typing import Any

from litestar import MediaType, Request, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response

from wineexp.serving.model.predictor import Predictor

# The package that carries Swagger UI.
PACKAGE = "fastapi_offline"

MEDIA_TYPES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css", "favicon.png": "image/png"}

CACHED = {"cache-control": "public, max-age=86400"}

# Starts Swagger UI; a file of its own, since the page may run no inline script.
START_FILE = "start.js"
START = b"""const url = new URL("../schema", document.currentScript.src).href;
SwaggerUIBundle({ url, dom_id: "#swagger-ui", validatorUrl: null });
"""

# Swagger UI sets styles within its elements, and its style sheet holds images.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="icon" href="{root}docs/favicon.png">
<link rel="stylesheet" href="{root}docs/swagger-ui.css">
</head><body><div id="swagger-ui"></div><script src="{root}docs/swagger-ui-bundle.js"></script>
<script src="{root}docs/start.js"></script></body></html>
"""


@get("/docs", include_in_schema=False, media_type=MediaType.HTML)
async def docs(request: Request[Any, Any, Any], predictor: Predictor) -> Response[str]:
    """Give the page of Swagger UI, whose links are relative, since a proxy may put the server below a path."""
    # Litestar's own path has no slash at its end.
    root = "../" if request.scope["raw_path"].endswith(b"/") else ""
    page = PAGE.format(title=html.escape(predictor.lineage.name), root=root)
    return Response(page, media_type=MediaType.HTML, headers={"content-security-policy": POLICY})


@get("/docs/{name:str}", include_in_schema=False, media_type="*/*")
async def docs_file(name: str) -> Response[bytes]:
    """Give one of Swagger UI's files."""
    if name == START_FILE:
        return Response(START, media_type="text/javascript", headers=CACHED)
    if name not in MEDIA_TYPES:
        raise NotFoundException
    # The package is not imported, since FastAPI would come with it.
    package = importlib.util.find_spec(PACKAGE)
    assert package is not None  # noqa: S101  it is among the requirements
    assert package.origin is not None  # noqa: S101
    content = (Path(package.origin).parent / "static" / name).read_bytes()
    return Response(content, media_type=MEDIA_TYPES[name], headers=CACHED)


PUBLIC_HANDLERS: list[HTTPRouteHandler] = [docs, docs_file]
