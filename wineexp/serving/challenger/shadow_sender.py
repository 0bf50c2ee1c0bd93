"""Sends answered requests to the challenger's process, off the request's way: nothing that it does delays an answer."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from wineexp.serving.answers import Answer
from wineexp.serving.background import running
from wineexp.serving.challenger.messages import ShadowReply, ShadowRequest, encode, read
from wineexp.serving.metrics import Metrics

# Rows that may wait for the challenger; what comes beyond them is dropped and counted.
MAX_WAITING_ROWS = 10_000

# Requests are sent together after this time, in messages of so many rows, between which the requests that have arrived
# are answered. A larger request is encoded in a thread.
FLUSH_SECONDS = 0.02
ROWS_AT_ONCE = 100

# Between two attempts to connect to the challenger's process.
RECONNECT_SECONDS = 0.5

# What a connection to a process that ends fails with; uvloop raises the RuntimeError where it is closed already.
CONNECTION_ERRORS = (OSError, asyncio.IncompleteReadError, msgspec.MsgspecError, RuntimeError)


class ShadowSender:
    """Takes answered requests and sends them to the challenger's process.

    Parameters
    ----------
    socket : Path
    metrics : Metrics
        Where rows are counted by what became of them.

    Attributes
    ----------
    version : int or None
        The challenger's, as far as its process has said.
    absent : str or None
        Why it does not answer.
    """

    def __init__(self, socket: Path, metrics: Metrics) -> None:
        self.version: int | None = None
        self.absent: str | None = "its process has not answered yet"
        self._socket = socket
        self._metrics = metrics
        self._waiting: deque[Answer] = deque()
        self._waiting_rows = 0
        self._unanswered_rows = 0
        # Large requests are answered in threads.
        self._lock = threading.Lock()

    def receive(self, answer: Answer) -> None:
        """Take an answered request, or drop and count its rows where too many are waiting; see `answers`."""
        n_rows = len(answer.outputs)
        with self._lock:
            has_room = self._waiting_rows + n_rows <= MAX_WAITING_ROWS
            if has_room:
                self._waiting_rows += n_rows
                self._waiting.append(answer)
        if not has_room:
            self._metrics.count_challenger("dropped", n_rows)

    @asynccontextmanager
    async def sending(self, _: Any) -> AsyncIterator[None]:
        """Send as long as the application runs."""
        async with running(self._run()):
            yield

    async def _run(self) -> None:
        while True:
            with suppress(*CONNECTION_ERRORS):
                reader, writer = await asyncio.open_unix_connection(str(self._socket))
                replies = asyncio.create_task(self._read_replies(reader))
                try:
                    await self._send(writer, replies)
                finally:
                    replies.cancel()
                    with suppress(asyncio.CancelledError, *CONNECTION_ERRORS):
                        await replies
                    writer.close()
            # It has ended, or was killed, and is started again.
            self.version, self.absent = None, "its process has ended and is started again"
            self._metrics.count_challenger("dropped", self._unanswered_rows)
            self._unanswered_rows = 0
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _send(self, writer: asyncio.StreamWriter, replies: "asyncio.Task[None]") -> None:
        while not replies.done():
            await asyncio.sleep(FLUSH_SECONDS)
            while self._waiting:
                requests, n_rows = self._take()
                self._unanswered_rows += n_rows
                # As the process does not read, this waits, and the buffer fills.
                writer.write(
                    await asyncio.to_thread(_encoded, requests) if n_rows > ROWS_AT_ONCE else _encoded(requests)
                )
                await writer.drain()
                await asyncio.sleep(0)

    def _take(self) -> tuple[list[Answer], int]:
        taken: list[Answer] = []
        n_rows = 0
        with self._lock:
            while self._waiting and (not taken or n_rows + len(self._waiting[0].outputs) <= ROWS_AT_ONCE):
                taken.append(self._waiting.popleft())
                n_rows += len(taken[-1].outputs)
            self._waiting_rows -= n_rows
        return taken, n_rows

    async def _read_replies(self, reader: asyncio.StreamReader) -> None:
        while True:
            reply = await read(reader, ShadowReply)
            self.version, self.absent = reply.version, reply.why
            self._unanswered_rows -= reply.answered + reply.failed + reply.skipped
            self._metrics.dropped_rows.inc(reply.dropped)
            self._metrics.count_challenger("answered", reply.answered)
            self._metrics.count_challenger("failed", reply.failed)
            self._metrics.count_challenger("skipped", reply.skipped)


def _encoded(answers: list[Answer]) -> bytes:
    return encode(
        [
            ShadowRequest(
                answer.time,
                answer.request_id,
                answer.predictor.lineage.version,
                list(answer.predictor.parser.features),
                answer.rows.tolist() if isinstance(answer.rows, np.ndarray) else answer.rows,
            )
            for answer in answers
        ]
    )
