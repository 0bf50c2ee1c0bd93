"""Refuses requests whose Host header is missing, repeated, or not allowed."""

from collections.abc import Collection

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from wineexp.serving.middleware.response import send_problem


class HostMiddleware:
    """Answers requests without exactly one Host header, and those for other hosts, with 400.

    HTTP/1.1 requires the header (RFC 9112, section 3.2). Litestar's own middleware for allowed hosts answers with plain
    text.

    Parameters
    ----------
    app : ASGI application
    allowed_hosts : collection of str
        Host names and addresses without ports, an IPv6 address also in brackets, as in a URL; empty to allow all.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Collection[str]) -> None:
        self.app = app
        self.allowed_hosts = {host.lower().strip("[]") for host in allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == ScopeType.HTTP:
            hosts = [value for name, value in scope["headers"] if name == b"host"]
            if len(hosts) != 1 and (hosts or scope["http_version"] == "1.1"):
                await send_problem(scope, send, 400, f"a request must have one header Host, but this has {len(hosts)}")
                return
            if self.allowed_hosts and host_name(*hosts or (b"",)) not in self.allowed_hosts:
                await send_problem(scope, send, 400, "this server does not answer to the name in the header Host")
                return
        await self.app(scope, receive, send)


def host_name(header: bytes) -> str:
    """The host in a Host header, without its port and without the brackets of an IPv6 address."""
    host = header.decode("latin-1").lower()
    return host[1:].partition("]")[0] if host.startswith("[") else host.rsplit(":", 1)[0]
