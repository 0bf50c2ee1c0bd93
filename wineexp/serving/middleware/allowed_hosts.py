"""Refuses requests whose Host header is not allowed."""

from collections.abc import Collection

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from wineexp.serving.middleware.response import send_problem


class AllowedHostsMiddleware:
    """Answers requests for other hosts with 400.

    Litestar has a middleware for this, which answers with plain text.

    Parameters
    ----------
    app : ASGI application
    allowed_hosts : collection of str
        Host names and addresses without ports; an IPv6 address may stand in brackets, as in a URL.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Collection[str]) -> None:
        self.app = app
        self.allowed_hosts = {host.lower().strip("[]") for host in allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == ScopeType.HTTP:
            host = scope["state"]["headers"].get(b"host", b"")
            if host_name(host) not in self.allowed_hosts:
                await send_problem(scope, send, 400, "this server does not answer to the name in the header Host")
                return
        await self.app(scope, receive, send)


def host_name(header: bytes) -> str:
    """The host in a Host header, without its port and without the brackets of an IPv6 address."""
    host = header.decode("latin-1").lower()
    return host[1:].partition("]")[0] if host.startswith("[") else host.rsplit(":", 1)[0]
