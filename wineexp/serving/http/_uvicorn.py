"""uvicorn's server and its HTTP/1.1 protocol, behind methods with meanings of their own.

uvicorn documents the class `HttpToolsProtocol` for `Config(http=...)`, but not the attributes and callbacks below, nor
`Server.shutdown`. They are used here and nowhere else; tests/serving/test_uvicorn.py says which they are.
"""

import asyncio
import select
import socket
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

# Before a server stops listening. Each pass accepts all connections that wait; clients that open ever more of them must
# not keep the server from stopping.
MAX_ACCEPT_PASSES = 100


class _State(ServerState):
    """What a server and its connections share."""

    is_stopping = False


class UvicornServer(uvicorn.Server):
    """A server that accepts, before it stops listening, what clients have already connected.

    To a client, a connection is open once the kernel has accepted it. The kernel resets those that the server has not
    taken from it when the socket is closed, and a request on them would fail.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.server_state: _State = _State()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, let open connections end, and let the application stop."""
        self.server_state.is_stopping = True
        listeners = select.poll()
        for listener in sockets or []:
            listeners.register(listener, select.POLLIN)
        for _ in range(MAX_ACCEPT_PASSES):
            if not listeners.poll(0):
                break
            await asyncio.sleep(0)
        await super().shutdown(sockets)


class _Transport:
    """A transport whose `close` is another function."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._transport = transport
        self.close = close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class UvicornProtocol(HttpToolsProtocol):
    """One connection.

    uvicorn calls one request with its response a cycle. Where a client sends several requests without waiting
    (pipelining), `cycle` is the newest, while an older one may still be answered.
    """

    _active_cycle: RequestResponseCycle | None = None
    # What is being parsed.
    _data = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; and end soon if the server does, which tells only the connections that it knew by then."""
        super().connection_made(transport)
        if isinstance(self.server_state, _State) and self.server_state.is_stopping:
            self.shutdown()

    def data_received(self, data: bytes) -> None:
        self._data = data
        super().data_received(data)
        self._data = b""

    def offers_upgrade(self) -> bool:
        """Whether the request whose head was parsed last offers another protocol; its body is not parsed yet."""
        return bool(self.parser.should_upgrade())

    def _unsupported_upgrade_warning(self) -> None:
        """Go on with HTTP/1.1 after the head of a request that offers another protocol, such as h2c.

        RFC 9110, section 7.8, lets a server ignore the offer. The parser takes whatever follows such a head for the
        other protocol, and reads no further: a new parser, which gets the length of the body first, reads the body
        and the requests after it.
        """
        # uvicorn calls this where it handles HttpParserUpgrade.
        end_of_head = sys.exc_info()[1].args[0]  # type: ignore[union-attr]
        rest = self._data[end_of_head:]
        is_head_parsed = False

        def once_parsed(callback: Callable[..., None]) -> Callable[..., None]:
            return lambda *arguments: callback(*arguments) if is_head_parsed else None

        of_head = ("on_message_begin", "on_url", "on_header", "on_headers_complete")
        callbacks = {name: once_parsed(getattr(self, name)) for name in of_head}
        self.parser = httptools.HttpRequestParser(
            SimpleNamespace(**callbacks, on_body=self.on_body, on_message_complete=self.on_message_complete)
        )
        framing = [(name, value) for name, value in self.headers if name in (b"content-length", b"transfer-encoding")]
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + b"".join(b"%b: %b\r\n" % header for header in framing) + b"\r\n")
        is_head_parsed = True
        if rest:
            self.data_received(rest)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._active_cycle = cycle
        super()._start_asgi_task(cycle, app)

    def call_later(self, seconds: float, callback: Callable[..., Any], *arguments: Any) -> asyncio.TimerHandle:
        """Schedule a call on the connection's event loop."""
        return self.loop.call_later(seconds, callback, *arguments)

    def unsent_bytes(self) -> int:
        """Bytes of responses that the client has not taken."""
        return self.transport.get_write_buffer_size()

    def is_idle(self) -> bool:
        """Whether all requests so far were answered."""
        return self.cycle is None or self.cycle.response_complete

    def is_response_started(self) -> bool:
        """Whether the head of the newest request's response was sent."""
        return self.cycle is not None and self.cycle.response_started

    def honour_keep_alive_of_http_1_0(self) -> None:
        """Keep the connection open after the newest request if its client of HTTP/1.0 asks for it.

        uvicorn closes it. Such a client must read in the response that it stays open.
        """
        if self.scope["http_version"] == "1.0" and self.parser.should_keep_alive():
            self.cycle.keep_alive = True
            self.cycle.default_headers = [*self.cycle.default_headers, (b"connection", b"keep-alive")]

    def close_after_response(self) -> None:
        """Say in the response to the newest request that the connection is closed, and close it then."""
        self.cycle.keep_alive = False

    def close_by(self, close: Callable[[], None]) -> None:
        """Let `close` close the connection once the newest request is answered, if it is to be closed then."""
        self.cycle.transport = _Transport(self.transport, close)  # type: ignore[assignment]

    def newest_state(self) -> dict[str, Any] | None:
        """The ASGI state of the newest request; None before the first."""
        return None if self.cycle is None else self.cycle.scope["state"]

    def active_state(self) -> dict[str, Any] | None:
        """The ASGI state of the request that is being answered; None where there is none."""
        cycle = self._active_cycle
        return None if cycle is None or cycle.response_complete else cycle.scope["state"]

    def disconnect_active(self) -> None:
        """Let the application know that the client of the request that it answers is gone.

        uvicorn itself only does so for the newest request.
        """
        if self._active_cycle is not None:
            self._active_cycle.disconnected = True
            self._active_cycle.message_event.set()

    def restart_keep_alive(self) -> None:
        """Call `timeout_keep_alive_handler` again after the keep-alive timeout."""
        self.timeout_keep_alive_task = self.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
