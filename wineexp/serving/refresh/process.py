"""Starts the refresh process when it is needed, sends it requests, and ends it when it is idle."""

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import structlog

from wineexp.core.config import Serve
from wineexp.core.paths import PACKAGE
from wineexp.serving.refresh.messages import RefreshPaths, RefreshRequest, WorkerStart, encode_line, listen

log = structlog.get_logger()

# Between two starts, so that a process that cannot start does not keep a core busy.
RESTART_PAUSE_SECONDS = 1.0

# Niceness of the process once there is a version that predicts: on few cores, requests come first.
NICENESS = 5

# What it runs.
WORKER_MODULE = "wineexp.serving.refresh.worker"


class ProcessEndedError(Exception):
    """The refresh process ended before it replied."""


class RefreshProcess:
    """The refresh process, as the refresh monitor sees it.

    Parameters
    ----------
    settings : Serve
    socket : Path
    paths : RefreshPaths
        With the folders of the cache.
    """

    def __init__(self, settings: Serve, socket: Path, paths: RefreshPaths) -> None:
        self.settings = settings
        self._socket = socket
        self._paths = paths
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._last_used = -RESTART_PAUSE_SECONDS
        self._open_requests = 0
        self._low_priority = self._closed = False

    def ensure_running(self) -> None:
        """Start the process if it is not running.

        Raises
        ------
        ProcessEndedError
            `close` was called.
        """
        with self._lock:
            self._notice_death()
            if self._closed:
                raise ProcessEndedError
            if self._process is None:
                time.sleep(max(0.0, self._started + RESTART_PAUSE_SECONDS - time.monotonic()))
                self._process = self._start()
                self._started = self._last_used = time.monotonic()

    def request(self, request: RefreshRequest) -> bytes:
        """The line that the process replies with, however long that takes.

        Raises
        ------
        ProcessEndedError
        """
        with self._lock:
            self._open_requests += 1
        try:
            self.ensure_running()
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(self._socket))
                connection.sendall(encode_line(request))
                with connection.makefile("rb") as stream:
                    reply = stream.readline()
        except OSError as error:
            raise ProcessEndedError from error
        finally:
            with self._lock:
                self._open_requests -= 1
                self._last_used = time.monotonic()
        if not reply.endswith(b"\n"):
            raise ProcessEndedError
        return reply

    def lower_priority(self) -> None:
        """Let requests come first, from now on and whenever the process is started again."""
        with self._lock:
            was_low, self._low_priority = self._low_priority, True
            if self._process is not None and not was_low:
                _renice(self._process)

    def end_if_idle(self) -> None:
        """End the process if it has had no request for `serve.verifier_idle_timeout_seconds`."""
        with self._lock:
            self._notice_death()
            idle = time.monotonic() - self._last_used >= self.settings.serve.verifier_idle_timeout_seconds
            if self._process and not self._open_requests and idle:
                self._end()

    def close(self) -> None:
        """End the process for good."""
        with self._lock:
            self._closed = True
            self._end()

    def _notice_death(self) -> None:
        if self._process is not None and (code := self._process.poll()) is not None:
            log.error("refresh process died", pid=self._process.pid, exitcode=code)
            self._end()

    def _end(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            assert process.stdin is not None  # noqa: S101  for mypy
            # There is nothing to finish: the cache is written atomically.
            process.kill()
            process.wait()
            # A process that died early leaves what it did not read.
            with suppress(BrokenPipeError):
                process.stdin.close()

    def _start(self) -> "subprocess.Popen[bytes]":
        python_path = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._socket.unlink(missing_ok=True)
        # Only the new process keeps the socket open. When it ends, so does every connection to it.
        with listen(self._socket) as listener:
            process = subprocess.Popen(
                [sys.executable, "-m", WORKER_MODULE],
                stdin=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(python_path)},
                pass_fds=[listener.fileno()],
            )
            start = WorkerStart(self.settings, str(self._paths.cache), str(self._paths.fallback), listener.fileno())
        if self._low_priority:
            _renice(process)
        assert process.stdin is not None  # noqa: S101  for mypy
        try:
            process.stdin.write(encode_line(start))
            process.stdin.flush()
        except BrokenPipeError:
            log.error("refresh process did not start", pid=process.pid)
        return process


def _renice(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
