"""Limits the number of requests that are answered at one time."""

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from wineexp.serving.middleware.response import send_problem

# An orchestrator that gets no response from these ends the process, so that they are not limited.
UNLIMITED_PATHS = {"/livez", "/readyz", "/metrics", "/ping", "/health", "/v2/health/live", "/v2/health/ready"}

# Explanations wait for one process, for seconds while it starts, so that they have places of their own.
EXPLANATION_PATH = "/explain"
MAX_CONCURRENT_EXPLANATIONS = 16


class ConcurrencyLimitMiddleware:
    """Answers requests beyond the limit with 503.

    Parameters
    ----------
    app : ASGI application
    max_concurrent_requests : int
        Beside explanations, of which there are no more than `MAX_CONCURRENT_EXPLANATIONS`.
    """

    def __init__(self, app: ASGIApp, max_concurrent_requests: int) -> None:
        self.app = app
        self._limits = {
            "requests": max_concurrent_requests,
            "explanations": min(max_concurrent_requests, MAX_CONCURRENT_EXPLANATIONS),
        }
        self._running = dict.fromkeys(self._limits, 0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return
        kind = "explanations" if scope["path"].rstrip("/") == EXPLANATION_PATH else "requests"
        self._running[kind] += 1
        try:
            if self._running[kind] > self._limits[kind] and scope["path"] not in UNLIMITED_PATHS:
                detail = f"more than {self._limits[kind]} {kind} are being answered; try again in a second"
                await send_problem(scope, send, 503, detail)
            else:
                await self.app(scope, receive, send)
        finally:
            self._running[kind] -= 1
