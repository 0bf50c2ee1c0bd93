"""Logs of a server: one JSON object a line, whoever writes it."""

import asyncio
import logging
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog


def configure() -> None:
    """Send structlog's events and the standard library's records to standard output, as JSON."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(_json)],
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
                structlog.processors.JSONRenderer(_json),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers, root.level = [handler], logging.WARNING
    # What this says of every start and stop is said by ours.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


# Seconds that a request's line waits for others.
DELAY = 0.005


class _Line(msgspec.Struct, frozen=True):
    """The line of one request, as structlog would write it."""

    request_id: str
    method: str
    route: str
    status: int
    milliseconds: float
    client: str | None
    event: str
    level: str
    timestamp: datetime


class Access:
    """Writes a line for each request, without structlog's detours, and all that are due at once."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._encoder = msgspec.json.Encoder()

    def write(
        self, request_id: str, method: str, route: str, status: int, milliseconds: float, client: str | None
    ) -> None:
        """Write a line, within `DELAY`."""
        if not self._lines:
            asyncio.get_running_loop().call_later(DELAY, self._flush)
        line = _Line(request_id, method, route, status, milliseconds, client, "request", "info", datetime.now(UTC))
        self._lines.append(self._encoder.encode(line))

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        sys.stdout.buffer.write(b"\n".join([*lines, b""]))
        sys.stdout.buffer.flush()


def _json(event: Any, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()
