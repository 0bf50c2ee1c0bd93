"""HTTP/1.1 by uvicorn, with limits on slow clients that uvicorn does not have."""

import asyncio
from collections.abc import Callable
from typing import Any

from wineexp.serving.http import problems
from wineexp.serving.http._uvicorn import UvicornProtocol

# Idle connections are closed so long after SIGTERM. A client that sends a request by then is answered, and the response
# says that the connection is closed: a connection that is closed without that word looks like a failure to it.
SHUTDOWN_GRACE_SECONDS = 2.0

# Limit on a request's line and headers together; those of browsers and proxies stay far below.
MAX_HEAD_BYTES = 65_536

# Of a request that is answered before all of it has arrived, a body that is too large for one, so many bytes are read
# and discarded: to close a connection with unread bytes would reset it, and the client might lose the answer.
MAX_DISCARDED_BYTES = 64 * 2**20

# Key in a request's ASGI state: the status to log and count for a request that ends without a response of its own.
FINAL_STATUS = "final_status"

# nginx's status for a client that left before its response.
CLIENT_CLOSED_REQUEST = 499


class TimeoutProtocol(UvicornProtocol):
    """A connection whose client must send each request, and take each response, in time.

    The length of a request's head is limited, too: the parser would keep a head of any length in memory.

    Parameters
    ----------
    request_timeout_seconds : float
    record_refusal : callable
        Records a request that was refused before the application was called: the status and the client's address.
    **parts
        What uvicorn gives to a connection.
    """

    # Runs while a request is awaited.
    _arrival_timer: asyncio.TimerHandle | None = None
    # Runs while the client does not take a response.
    _write_timer: asyncio.TimerHandle | None = None
    _request_incomplete = False
    _is_shutting_down = False
    # Bytes that arrived since the last answer on this connection; None before.
    _discarded_bytes: int | None = None
    _unsent_bytes_at_timeout = 0
    # Bytes of an incomplete head, from the second piece of data on; None while no head is incomplete.
    _head_bytes: int | None = None
    _head_began = False

    def __init__(
        self, *, request_timeout_seconds: float, record_refusal: Callable[[int, str | None], None], **parts: Any
    ) -> None:
        super().__init__(**parts)
        self._request_timeout_seconds = request_timeout_seconds
        self._record_refusal = record_refusal

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Await a first request."""
        super().connection_made(transport)
        self._start_arrival_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers, and let the application know."""
        self._stop_arrival_timer()
        self._stop_write_timer()
        if (state := self.active_state()) is not None:
            state.setdefault(FINAL_STATUS, CLIENT_CLOSED_REQUEST)
            self.disconnect_active()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse data; await the rest of a request that is incomplete.

        Most requests arrive in one piece, so that no timer is started for them.
        """
        self._head_began = False
        super().data_received(data)
        if self._request_incomplete and self._arrival_timer is None:
            self._start_arrival_timer()
        if self._request_incomplete and self._head_bytes is None:
            self.close_by(self._discard_and_close)
        if self._discarded_bytes is not None:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > MAX_DISCARDED_BYTES:
                self.transport.close()
        if self._head_bytes is not None and not self._head_began:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                message = f"the request's line and headers are longer than {MAX_HEAD_BYTES} bytes"
                self._refuse(b"HTTP/1.1 431 Request Header Fields Too Large\r\n", 431, message)

    def on_message_begin(self) -> None:
        """The first bytes of a request arrived."""
        self._request_incomplete = True
        self._head_bytes, self._head_began = 0, True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head of a request is complete."""
        self._head_bytes = None
        super().on_headers_complete()
        self.honour_keep_alive_of_http_1_0()
        if self._is_shutting_down:
            self.close_after_response()

    def on_message_complete(self) -> None:
        """A request is complete, unless its body is still to be parsed."""
        if self.offers_upgrade():
            return
        self._request_incomplete = False
        self._stop_arrival_timer()
        super().on_message_complete()
        if self._discarded_bytes is not None:
            self.transport.close()

    def pause_writing(self) -> None:
        """The write buffer is full: expect the client to take some of it, or its next request would wait forever."""
        super().pause_writing()
        self._start_write_timer()

    def resume_writing(self) -> None:
        """The client took enough of the write buffer."""
        self._stop_write_timer()
        super().resume_writing()

    def shutdown(self) -> None:
        """Close the connection when its next requests are answered, an idle one after `SHUTDOWN_GRACE_SECONDS`."""
        self._is_shutting_down = True
        if self.is_idle():
            self.call_later(SHUTDOWN_GRACE_SECONDS, self._close_if_idle)
        else:
            super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, and abort one whose client took nothing of its response in that time."""
        unsent = self.unsent_bytes()
        if unsent and unsent != self._unsent_bytes_at_timeout:
            self._unsent_bytes_at_timeout = unsent
            self.restart_keep_alive()
        elif unsent:
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP with a problem."""
        self._refuse(b"HTTP/1.1 400 Bad Request\r\n", 400, msg)

    def _close_if_idle(self) -> None:
        """Close the connection unless a request is arriving, which is answered or ends at its own time limit."""
        if not self._request_incomplete:
            super().shutdown()

    def _discard_and_close(self) -> None:
        """Close the connection once the rest of its last request has arrived, or its time is over."""
        if self._request_incomplete:
            self._discarded_bytes = 0
        else:
            self.transport.close()

    def _handle_late_request(self) -> None:
        if self.transport.is_closing():
            return
        if self.is_response_started():
            self.transport.close()
            return
        if (state := self.newest_state()) is not None:
            state[FINAL_STATUS] = 408
        message = f"the request did not arrive within {self._request_timeout_seconds:g} s"
        self._refuse(b"HTTP/1.1 408 Request Timeout\r\n", 408, message)

    def _refuse(self, status_line: bytes, status: int, detail: str) -> None:
        """Send a problem and close the connection.

        A request whose head is complete is recorded by the application.
        """
        if self.is_idle():
            self._record_refusal(status, self.client[0] if self.client else None)
        content = problems.encode(status, detail, "")
        head = f"content-type: {problems.MEDIA_TYPE}\r\ncontent-length: {len(content)}\r\nconnection: close\r\n\r\n"
        self.transport.write(status_line + head.encode() + content)
        self.transport.close()

    def _start_arrival_timer(self) -> None:
        self._arrival_timer = self.call_later(self._request_timeout_seconds, self._handle_late_request)

    def _stop_arrival_timer(self) -> None:
        if self._arrival_timer is not None:
            self._arrival_timer.cancel()
            self._arrival_timer = None

    def _start_write_timer(self) -> None:
        self._write_timer = self.call_later(self._request_timeout_seconds, self._check_progress, self.unsent_bytes())

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()

    def _check_progress(self, unsent_before: int) -> None:
        """Abort the connection if the client took nothing since the timer started."""
        if self.unsent_bytes() < unsent_before:
            self._start_write_timer()
        else:
            self.transport.abort()
