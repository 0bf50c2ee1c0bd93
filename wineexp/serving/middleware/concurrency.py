"""Limits the number of requests that are answered at one time."""

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from wineexp.serving.middleware.response import send_problem

# An orchestrator that gets no response from these ends the process, so that they are not limited.
UNLIMITED_PATHS = {"/livez", "/readyz", "/metrics", "/ping", "/v2/health/live", "/v2/health/ready"}


class ConcurrencyLimitMiddleware:
    """Answers requests beyond the limit with 503.

    Parameters
    ----------
    app : ASGI application
    max_concurrent_requests : int
    """

    def __init__(self, app: ASGIApp, max_concurrent_requests: int) -> None:
        self.app = app
        self.max_concurrent_requests = max_concurrent_requests
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return
        self._running += 1
        try:
            if self._running > self.max_concurrent_requests and scope["path"] not in UNLIMITED_PATHS:
                detail = f"more than {self.max_concurrent_requests} requests are being answered; try again in a second"
                await send_problem(scope, send, 503, detail)
            else:
                await self.app(scope, receive, send)
        finally:
            self._running -= 1
