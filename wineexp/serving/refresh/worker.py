"""The examiner of a server: a process of its own for all that is heavy, there only while something is to be done.

It asks the registry, verifies versions and explains answers; its memory is given back when it ends.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog

from wineexp.core.config import Serve
from wineexp.core.paths import PACKAGE
from wineexp.serving import logs
from wineexp.serving.refresh.messages import Question, Told, answer, line, reason

log = structlog.get_logger()

# Seconds between two starts: one that cannot start is not to keep a core busy.
PAUSE = 1.0

# Requests come first, wherever cores are few, once there is something to answer with.
NICE = 5


class EndedError(Exception):
    """It ended before it had answered."""


class Order(msgspec.Struct, frozen=True):
    """What an examiner is told at its start.

    Attributes
    ----------
    settings : Serve
    cache : str
    listener : int
        File descriptor of the socket that it answers at.
    """

    settings: Serve
    cache: str
    listener: int


class Examiner:
    """Starts the process when it is wanted, and ends it when it no longer is.

    Parameters
    ----------
    settings : Serve
    socket, cache : Path
    """

    def __init__(self, settings: Serve, socket: Path, cache: Path) -> None:
        self.settings = settings
        self._socket = socket
        self._cache = cache
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._used = -PAUSE
        self._asking = 0
        self._calm = self._over = False

    def ready(self) -> None:
        """Start it where it is not there.

        Raises
        ------
        EndedError
            It is not to start any more.
        """
        with self._lock:
            self._look_after()
            if self._over:
                raise EndedError
            if self._process is None:
                time.sleep(max(0.0, self._started + PAUSE - time.monotonic()))
                self._process = self._start()
                self._started = self._used = time.monotonic()

    def ask(self, question: Question) -> bytes:
        """Its answer, however long that takes.

        Raises
        ------
        EndedError
        """
        with self._lock:
            self._asking += 1
        try:
            self.ready()
            with socket.socket(socket.AF_UNIX) as asking:
                asking.connect(str(self._socket))
                asking.sendall(line(question))
                with asking.makefile("rb") as told:
                    answer = told.readline()
        except OSError as error:
            raise EndedError from error
        finally:
            with self._lock:
                self._asking -= 1
                self._used = time.monotonic()
        if not answer.endswith(b"\n"):
            raise EndedError
        return answer

    def calm(self) -> None:
        """Let others go first, now and whenever it is started again."""
        with self._lock:
            before, self._calm = self._calm, True
            if self._process is not None and not before:
                _let_others_go_first(self._process)

    def rest(self) -> None:
        """End it if it has had nothing to do for `serve.verifier_idle_timeout_seconds`."""
        with self._lock:
            self._look_after()
            if (
                self._process
                and not self._asking
                and time.monotonic() - self._used >= self.settings.serve.verifier_idle_timeout_seconds
            ):
                self._end()

    def close(self) -> None:
        """End it for good."""
        with self._lock:
            self._over = True
            self._end()

    def _look_after(self) -> None:
        if self._process is not None and (code := self._process.poll()) is not None:
            log.error("examiner died", pid=self._process.pid, exitcode=code)
            self._end()

    def _end(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None  # noqa: S101  for mypy
            # It has nothing to finish: what it keeps, it keeps all at once.
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process = None

    def _start(self) -> "subprocess.Popen[bytes]":
        places = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._socket.unlink(missing_ok=True)
        # Its own alone: with it ends the socket, and whoever waits for an answer is told so.
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self._socket))
            listener.listen(128)
            process = subprocess.Popen(
                [sys.executable, "-m", "wineexp.serving.refresh.worker"],
                stdin=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(places)},
                pass_fds=[listener.fileno()],
            )
            order = Order(self.settings, str(self._cache), listener.fileno())
        if self._calm:
            _let_others_go_first(process)
        assert process.stdin is not None  # noqa: S101  for mypy
        try:
            process.stdin.write(line(order))
            process.stdin.flush()
        except BrokenPipeError:
            log.error("examiner did not start", pid=process.pid)
        return process


def _let_others_go_first(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        os.setpriority(os.PRIO_PROCESS, process.pid, NICE)


def main() -> None:
    """Be an examiner until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logs.configure()
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    threading.Thread(target=_follow, daemon=True).start()
    import numpy as np
    from threadpoolctl import threadpool_limits

    from wineexp.evaluation.cross_validation import NATIVE_THREADS
    from wineexp.serving.refresh.explanations import explained
    from wineexp.serving.refresh.verifier import Lookout

    threadpool_limits(NATIVE_THREADS)
    np.seterr(all="ignore")
    lookout = Lookout(order.settings, Path(order.cache))
    explaining = threading.Lock()

    def explanation(question: Question) -> Told:
        kept = question.state.kept if question.state else None
        if kept is None or kept.identity != question.identity:
            return Told(409)
        try:
            verified = lookout.again(kept)
        except Exception as error:
            # As what is verified the first time, it can be broken in any way.
            return Told(503, detail=f"what explains answers cannot be loaded: {'; '.join(reason(error))}")
        try:
            return explained(verified, question.row)
        except Exception as error:
            log.error("explanation failed", exc_info=error)
            return Told(500, detail="the explanation failed; the server's log tells more")

    def reply(question: Question, say: Callable[[Any], None]) -> None:
        if question.kind == "look":
            assert question.state is not None  # noqa: S101  for mypy: a sentry sends it with every question
            say(lookout.look(question.state))
        else:
            # One at a time, so that looks come in between.
            with explaining:
                say(explanation(question))

    answer(socket.socket(fileno=order.listener), reply)


def _follow() -> None:
    """End with whoever started this."""
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
