"""The companion of a server: a process of its own for all that is heavy, so that no request waits for it.

It asks the registry, verifies versions and explains answers. The server's side starts it, and starts it again.
"""

import os
import shutil
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import structlog

from wineexp.config import Serve
from wineexp.program import uninterrupted
from wineexp.serving import logs
from wineexp.serving.link import Link, Question, Told, line

log = structlog.get_logger()

# Seconds between two starts: one that cannot start is not to keep a core busy.
PAUSE = 1.0

# Requests come first, wherever cores are few, once there is something to answer with.
NICE = 5

ROOT = Path(__file__).resolve().parents[2]


class Order(msgspec.Struct, frozen=True):
    """What a companion is told at its start."""

    settings: Serve
    socket: str
    cache: str


class Companion:
    """Keeps the process alive as long as the context lasts.

    Parameters
    ----------
    settings : Serve

    Attributes
    ----------
    link : Link
    """

    def __init__(self, settings: Serve) -> None:
        self.settings = settings
        self._folder = Path(tempfile.mkdtemp(prefix="wineexp-"))
        self.link = Link(self._folder / "socket", _usable(settings.serve.cache) or self._folder / "cache")
        self._over = threading.Event()
        self._process = self._started()
        self._keeper = threading.Thread(target=self._keep, name="companion", daemon=True)

    def __enter__(self) -> Self:
        self._keeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with uninterrupted():
            self._over.set()
            # It has nothing to finish: what it keeps, it keeps all at once.
            self._process.kill()
            self._keeper.join()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _started(self) -> "subprocess.Popen[bytes]":
        places = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        process = subprocess.Popen(
            [sys.executable, "-m", "wineexp.serving.companion"],
            stdin=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(places)},
        )
        assert process.stdin is not None  # noqa: S101  for mypy
        order = Order(self.settings, str(self.link.socket), str(self.link.cache))
        try:
            process.stdin.write(line(order))
            process.stdin.flush()
        except BrokenPipeError:
            log.error("companion did not start", pid=process.pid)
        return process

    def _keep(self) -> None:
        while True:
            code = self._process.wait()
            if self._over.wait(PAUSE):
                return
            log.error("companion died", pid=self._process.pid, exitcode=code)
            self._process = self._started()
            if self._over.is_set():
                self._process.kill()


def _usable(cache: str | None) -> Path | None:
    """The folder that is to keep versions, if one is named and can be written."""
    if cache is None:
        return None
    folder = Path(cache).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        log.warning("cache not usable", why=str(error))
        return None


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    """Be a companion until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logs.configure()
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    threading.Thread(target=_follow, daemon=True).start()
    import numpy as np
    from threadpoolctl import threadpool_limits

    from wineexp.evaluation import NATIVE_THREADS
    from wineexp.serving.lookout import Lookout
    from wineexp.serving.reasons import explained

    threadpool_limits(NATIVE_THREADS)
    np.seterr(all="ignore")
    lookout = Lookout(order.settings, Path(order.cache))
    explaining = threading.Lock()

    class Conversation(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            question = msgspec.json.decode(self.rfile.readline(), type=Question)
            try:
                if question.kind == "look":
                    self.wfile.write(line(lookout.look()))
                elif question.kind == "explain":
                    # One at a time, so that looks come in between.
                    with explaining:
                        self.wfile.write(line(self._explained(question)))
                else:
                    self._tell()
            except OSError:
                # Whoever asked has left.
                return

        def _tell(self) -> None:
            serial = 0
            while True:
                state = lookout.after(serial)
                self.wfile.write(line(state))
                serial = state.serial

        def _explained(self, question: Question) -> Told:
            verified = lookout.verified
            if verified is None or verified.kept.identity != question.identity:
                return Told(409)
            try:
                return explained(verified, question.row)
            except Exception as error:
                log.error("explanation failed", exc_info=error)
                return Told(500, detail="the explanation failed; the server's log tells more")

    Path(order.socket).unlink(missing_ok=True)
    with _Server(order.socket, Conversation) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        lookout.look()
        os.nice(NICE)
        while True:
            time.sleep(order.settings.serve.poll_seconds)
            lookout.look()


def _follow() -> None:
    """End with whoever started this."""
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
