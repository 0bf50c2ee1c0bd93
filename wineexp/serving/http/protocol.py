"""HTTP/1.1 as uvicorn speaks it, with the limits on clients that it lacks."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from wineexp.serving.http import problems
from wineexp.serving.http.body import ENDED, LEFT

# Seconds after SIGTERM in which a request is answered that was sent before the client could know.
PARTING = 0.5

# Of a request's line and headers together; those of browsers and proxies stay far below.
HEAD_BYTES = 65_536


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, in which a request must arrive, and its answer be taken, within the keep-alive time.

    The head of a request is limited too: the parser keeps it, however long it is.
    """

    _deadline: asyncio.TimerHandle | None = None
    _answering: RequestResponseCycle | None = None
    _unsent = 0
    _partial = False
    _taking: asyncio.TimerHandle | None = None
    # Of the head that is awaited, None between heads: bytes after the piece in which it began.
    _head: int | None = None
    _began = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a first request."""
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing any more; whatever still works on an answer is told."""
        self._disarm()
        self._taken()
        answering = self._answering
        if answering is not None and not answering.response_complete:
            answering.scope["state"].setdefault(ENDED, LEFT)
            # uvicorn itself tells the newest request, which may wait behind this one.
            answering.disconnected = True
            answering.message_event.set()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        """Expect the rest of a request whose first bytes are here; most are here whole, and start no clock."""
        self._began = False
        super().data_received(data)
        if self._partial and self._deadline is None:
            self._arm()
        if self._head is not None and not self._began:
            self._head += len(data)
            if self._head > HEAD_BYTES and not self.transport.is_closing():
                told = f"the request's line and headers are longer than {HEAD_BYTES} bytes"
                self._refuse(b"HTTP/1.1 431 Request Header Fields Too Large\r\n", 431, told)

    def on_message_begin(self) -> None:
        """The first bytes of a request are here."""
        self._partial = True
        self._head, self._began = 0, True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is here."""
        self._head = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is here."""
        self._partial = False
        self._disarm()
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Expect the client to take what is ready for it: the answer to its next request waits for that, for good."""
        super().pause_writing()
        self._expect_taken()

    def resume_writing(self) -> None:
        """It has taken enough."""
        self._taken()
        super().resume_writing()

    def shutdown(self) -> None:
        """Close when what is under way is answered; what may be on its way to an idle connection gets a moment."""
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(PARTING, super().shutdown)
        else:
            super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; cut one off whose client has taken nothing of its answer for as long."""
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent != self._unsent:
            self._unsent = unsent
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        elif unsent:
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, as a problem."""
        self._refuse(b"HTTP/1.1 400 Bad Request\r\n", 400, msg)

    def _late(self) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is not None and self.cycle.response_started:
            self.transport.close()
        else:
            if self.cycle is not None:
                self.cycle.scope["state"][ENDED] = 408
            told = f"the request did not arrive within {self.timeout_keep_alive:g} s"
            self._refuse(b"HTTP/1.1 408 Request Timeout\r\n", 408, told)

    def _refuse(self, line: bytes, status: int, detail: str) -> None:
        content = problems.encode(status, detail, "")
        head = f"content-type: {problems.MEDIA_TYPE}\r\ncontent-length: {len(content)}\r\nconnection: close\r\n\r\n"
        self.transport.write(line + head.encode() + content)
        self.transport.close()

    def _expect_taken(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        self._taking = self.loop.call_later(self.timeout_keep_alive, self._untaken, unsent)

    def _taken(self) -> None:
        if self._taking is not None:
            self._taking.cancel()

    def _untaken(self, unsent: int) -> None:
        """Cut off a client that has taken nothing meanwhile."""
        if self.transport.get_write_buffer_size() < unsent:
            self._expect_taken()
        else:
            self.transport.abort()

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(self.timeout_keep_alive, self._late)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
