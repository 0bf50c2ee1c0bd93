"""Answers HEAD by the handlers of GET."""

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send


class HeadMiddleware:
    """Lets the application see GET where the method is HEAD; uvicorn, which sees HEAD, sends no body.

    Parameters
    ----------
    app : ASGI application
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != ScopeType.HTTP or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        inner = scope.copy()
        inner["method"] = "GET"
        try:
            await self.app(inner, receive, send)
        finally:
            # Litestar sets it, and the metrics have it as a label.
            scope["path_template"] = inner.get("path_template", "")
