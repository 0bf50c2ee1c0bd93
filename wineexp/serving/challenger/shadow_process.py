"""Keeps the challenger's process running: a process of its own, so that whatever it does, the champion answers."""

import os
import subprocess
import sys
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

import structlog

from wineexp.core.config import Serve
from wineexp.core.paths import PACKAGE
from wineexp.serving.challenger.messages import ShadowStart
from wineexp.serving.metrics import MULTIPROCESS_FOLDER
from wineexp.serving.refresh.messages import RefreshPaths, encode_line, listen
from wineexp.serving.scratch import ScratchFolder

log = structlog.get_logger()

# Between two starts, so that a process that cannot start does not keep a core busy.
RESTART_PAUSE_SECONDS = 1.0

# On few cores, requests come first.
NICENESS = 10

# Only Linux has them. SCHED_IDLE: any other process that wakes up takes the core at once. SCHED_BATCH: it waits its
# turn when it wakes up, and does not interrupt.
IDLE, BATCH = (getattr(os, policy, None) for policy in ("SCHED_IDLE", "SCHED_BATCH"))

WORKER_MODULE = "wineexp.serving.challenger.shadow_worker"

# How long it may take to write down its last rows.
END_TIMEOUT_SECONDS = 6.0


class ShadowProcess:
    """Starts the challenger's process, again whenever it has died, as long as its context lasts.

    Parameters
    ----------
    settings : Serve
        Whose alias is the challenger's.
    paths : RefreshPaths
        Of the challenger's refresh monitor.

    Attributes
    ----------
    socket : Path
        On which the process accepts connections.
    """

    def __init__(self, settings: Serve, paths: RefreshPaths) -> None:
        self._settings = settings
        self._paths = paths
        self._scratch = ScratchFolder()
        self.socket = self._scratch.path / "shadow.socket"
        # Kept open here, too: what is sent while the process is started again waits.
        self._listener = listen(self.socket)
        self._ending = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep_running, name="shadow", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        process = self._process
        if process is not None and process.stdin is not None:
            # The end of its input ends it.
            with suppress(OSError):
                process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_TIMEOUT_SECONDS)
            process.kill()
            process.wait()
        self._listener.close()
        self._scratch.remove()

    def _keep_running(self) -> None:
        while not self._ending.is_set():
            self._process = process = self._start()
            code = process.wait()
            if not self._ending.is_set():
                log.error("challenger process died", pid=process.pid, exitcode=code)
                self._ending.wait(RESTART_PAUSE_SECONDS)

    def _start(self) -> "subprocess.Popen[bytes]":
        python_path = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        # Its metrics are not those of a worker.
        inherited = {name: value for name, value in os.environ.items() if name != MULTIPROCESS_FOLDER}
        process = subprocess.Popen(
            [sys.executable, "-m", WORKER_MODULE],
            stdin=subprocess.PIPE,
            env=inherited | {"PYTHONPATH": os.pathsep.join(python_path)},
            pass_fds=[self._listener.fileno()],
        )
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
            policy = IDLE if self._settings.serve.challenger_only_when_idle else BATCH
            if policy is not None:
                os.sched_setscheduler(process.pid, policy, os.sched_param(0))
        paths = self._paths
        start = ShadowStart(
            self._settings, str(paths.socket), str(paths.cache), str(paths.fallback), self._listener.fileno()
        )
        assert process.stdin is not None  # noqa: S101  for mypy
        with suppress(BrokenPipeError):
            process.stdin.write(encode_line(start))
            process.stdin.flush()
        return process
