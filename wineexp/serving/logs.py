"""Logs of a server: one JSON object a line, from structlog and from the standard library alike."""

import asyncio
import logging
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from wineexp.core.addresses import without_credentials

# A line of the access log waits this long for others, so that they are written together.
FLUSH_DELAY_SECONDS = 0.005


def configure() -> None:
    """Send structlog's events and the standard library's records to standard output, as JSON."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(_encode)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(_encode),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers, root.level = [handler], logging.WARNING
    # uvicorn would report its start and stop at level INFO; the server logs events of its own for both.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


class _AccessRecord(msgspec.Struct, frozen=True):
    """A line of the access log, with the keys that structlog would give it."""

    request_id: str
    method: str
    route: str
    status: int
    milliseconds: float
    client: str | None
    trace_id: str | None
    event: str
    level: str
    timestamp: datetime


class AccessLog:
    """Writes a line for each request, bypassing structlog, which takes longer than many a request."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._encoder = msgspec.json.Encoder()

    def write(
        self,
        request_id: str,
        method: str,
        route: str,
        status: int,
        milliseconds: float,
        client: str | None,
        trace_id: str | None,
    ) -> None:
        """Write a line, within `FLUSH_DELAY_SECONDS`."""
        if not self._lines:
            asyncio.get_running_loop().call_later(FLUSH_DELAY_SECONDS, self._flush)
        record = _AccessRecord(
            request_id, method, route, status, milliseconds, client, trace_id, "request", "info", datetime.now(UTC)
        )
        self._lines.append(self._encoder.encode(record))

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        sys.stdout.buffer.write(b"\n".join([*lines, b""]))
        sys.stdout.buffer.flush()


def _encode(event: Any, **_: Any) -> str:
    return without_credentials(msgspec.json.encode(event, enc_hook=str).decode())
