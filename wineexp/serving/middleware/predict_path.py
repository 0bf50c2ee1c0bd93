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
        if path.startswith("/v1/models/") and path.endswith(":predict"):
            scope["path"] = path.removesuffix(":predict") + "/predict"
        await self.app(scope, receive, send)
