"""Answers `/v1/models/NAME:predict`."""

from litestar.types import ASGIApp, Receive, Scope, Send


class PredictPathMiddleware:
    """Lets the application see `/v1/models/NAME/predict` where the path ends with `:predict`.

    Litestar takes only whole segments of a path as parameters.

    Parameters
    ----------
    app : ASGI application
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope.get("path", "")
        if not (path.startswith("/v1/models/") and path.endswith(":predict")):
            await self.app(scope, receive, send)
            return
        inner = scope.copy()
        inner["path"] = path.removesuffix(":predict") + "/predict"
        try:
            await self.app(inner, receive, send)
        finally:
            # Litestar sets it, and the metrics have it as a label.
            scope["path_template"] = inner.get("path_template", "")
