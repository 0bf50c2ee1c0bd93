"""uvicorn's HTTP/1.1 protocol, behind methods with meanings of their own.

uvicorn documents the class `HttpToolsProtocol` for `Config(http=...)`, but not the attributes and callbacks below. They
are used here and nowhere else; tests/serving/test_uvicorn.py says which they are.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle


class UvicornProtocol(HttpToolsProtocol):
    """One connection.

    uvicorn calls one request with its response a cycle. Where a client sends several requests without waiting
    (pipelining), `cycle` is the newest, while an older one may still be answered.
    """

    _active_cycle: RequestResponseCycle | None = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._active_cycle = cycle
        super()._start_asgi_task(cycle, app)

    @property
    def timeout_seconds(self) -> float:
        """The keep-alive timeout."""
        return self.timeout_keep_alive

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
