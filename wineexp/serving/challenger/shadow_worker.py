"""The challenger's process: predicts what the champion has answered, and logs it beside that."""

import asyncio
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import structlog

from wineexp.core.config import Serve
from wineexp.monitoring.format import CHALLENGER
from wineexp.serving import logs
from wineexp.serving.answers import Answer
from wineexp.serving.challenger.follower import ChallengerFollower
from wineexp.serving.challenger.messages import ShadowReply, ShadowRequest, ShadowStart, encode, read
from wineexp.serving.metrics import Metrics
from wineexp.serving.model.predictor import Predictor
from wineexp.serving.prediction_log import PredictionLog
from wineexp.serving.refresh.messages import RefreshPaths, describe_error

log = structlog.get_logger()

# Between two lines of the log about requests that the challenger cannot answer.
COMPLAINT_SECONDS = 60.0


class ShadowWorker:
    """Answers requests as the challenger would, for the log alone.

    Parameters
    ----------
    settings : Serve
        Whose alias is the challenger's.
    paths : RefreshPaths
        Of the challenger's refresh monitor.
    """

    def __init__(self, settings: Serve, paths: RefreshPaths) -> None:
        self.follower = ChallengerFollower(settings, paths)
        # `serve` has checked that there is a log.
        self._metrics = Metrics()
        self.log = PredictionLog(str(settings.serve.log), settings.serve, self._metrics)
        self._complained_at = -COMPLAINT_SECONDS
        self._reported_dropped = 0

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one serving process until it closes the connection."""
        with suppress(OSError, asyncio.IncompleteReadError, msgspec.MsgspecError):
            while True:
                requests = await read(reader, list[ShadowRequest])
                reply = await asyncio.to_thread(self.answer, requests)
                writer.write(encode(msgspec.structs.replace(reply, dropped=self._newly_dropped())))
                await writer.drain()
        writer.close()

    def answer(self, requests: list[ShadowRequest]) -> ShadowReply:
        """Predict and log the rows of some requests."""
        predictor, why = self.follower.predictor, self.follower.absent
        answered = failed = skipped = 0
        for request in requests:
            if predictor is None or request.version == predictor.lineage.version:
                skipped += len(request.rows)
                why = why or "the challenger's alias names the champion's version"
                continue
            try:
                self._answer(predictor, request)
                answered += len(request.rows)
            except Exception as error:
                # A challenger may be broken in any way; that is a part of what the test finds out.
                failed += len(request.rows)
                why = "; ".join(describe_error(error))
                self._complain(why)
        if why is None and self.log.failing:
            why = f"its answers cannot be logged {self.log.failing}"
        return ShadowReply(answered, failed, skipped, 0, predictor.lineage.version if predictor else None, why)

    def _newly_dropped(self) -> int:
        """Rows that the log has dropped since this was last asked, which the server's metrics count."""
        before, self._reported_dropped = self._reported_dropped, self._metrics.count_dropped_rows_here()
        return self._reported_dropped - before

    def _answer(self, predictor: Predictor, request: ShadowRequest) -> None:
        started_at = time.perf_counter()
        names = list(predictor.parser.features)
        if missing := [name for name in names if name not in request.features]:
            raise ValueError(f"the champion's rows lack features of the challenger: {', '.join(missing)}")
        rows = request.rows
        if names != request.features:
            order = [request.features.index(name) for name in names]
            rows = [tuple(row[position] for position in order) for row in rows]
        outputs = predictor.outputs(rows)
        milliseconds = 1000 * (time.perf_counter() - started_at)
        self.log.receive(
            Answer(request.time, milliseconds, request.request_id, predictor, rows, outputs, variant=CHALLENGER)
        )

    def _complain(self, why: str) -> None:
        if time.monotonic() - self._complained_at >= COMPLAINT_SECONDS:
            self._complained_at = time.monotonic()
            log.error("challenger failed", why=why)


async def serve(worker: ShadowWorker, listener: socket.socket) -> None:
    """Answer until standard input ends."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _at_end, ended)
    async with worker.follower.follow(None), worker.log.written(None):
        server = await asyncio.start_unix_server(worker.converse, sock=listener)
        await ended.wait()
        server.close()


def _at_end(ended: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 1024):
        ended.set()


def main() -> None:
    """Read what is to be done from standard input, and do it until that ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # The server, which gets the same signal, ends it.
        signal.signal(number, signal.SIG_IGN)
    logs.configure()
    line = b""
    while not line.endswith(b"\n"):
        if not (part := os.read(sys.stdin.fileno(), 65_536)):
            return
        line += part
    start = msgspec.json.decode(line, type=ShadowStart)
    # Results that are not finite are found and refused at the end.
    np.seterr(all="ignore")
    paths = RefreshPaths(Path(start.socket), Path(start.cache), Path(start.fallback))
    asyncio.run(serve(ShadowWorker(start.settings, paths), socket.socket(fileno=start.listener)))


if __name__ == "__main__":
    main()
