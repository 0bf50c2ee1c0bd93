"""The refresh monitor: notices that the registry may have changed, and has the refresh process look.

It lives in the first process of a server and knows, for all of its workers, what the alias names. It needs no MLflow.
"""

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import structlog

from wineexp.core.config import Serve
from wineexp.core.signals import uninterrupted
from wineexp.serving.refresh.change_detector import ChangeDetector, Fingerprint
from wineexp.serving.refresh.messages import (
    CACHE_NOT_USABLE,
    AliasState,
    RefreshPaths,
    RefreshRequest,
    listen,
    serve_requests,
    utc_now,
)
from wineexp.serving.refresh.process import RESTART_PAUSE_SECONDS, ProcessEndedError, RefreshProcess
from wineexp.serving.scratch import ScratchFolder

log = structlog.get_logger()


class RefreshMonitor:
    """Follows an alias for the servers of one program, as long as its context lasts.

    Parameters
    ----------
    settings : Serve

    Attributes
    ----------
    paths : RefreshPaths
        For the servers, which connect to it.
    state : AliasState
        What servers are sent.
    """

    def __init__(self, settings: Serve) -> None:
        self.settings = settings
        self.state = AliasState()
        self._scratch = ScratchFolder()
        folder = self._scratch.path
        fallback = folder / "cache"
        self.paths = RefreshPaths(
            folder / "monitor.socket", _writable_folder(settings.serve.cache_folder) or fallback, fallback
        )
        self._process = RefreshProcess(settings, folder / "process.socket", self.paths)
        self._detector = ChangeDetector(settings)
        # How the registry looked just before it was asked for the last time.
        self._fingerprint: Fingerprint | None = None
        # The last state that a refresh process reported, from which the next one goes on.
        self._reported = AliasState()
        self._changed = threading.Condition()
        self._checking = threading.Lock()
        self._closed = threading.Event()
        self._process.ensure_running()

    def __enter__(self) -> Self:
        listener = listen(self.paths.socket)
        threading.Thread(target=serve_requests, args=(listener, self._handle), name="requests", daemon=True).start()
        threading.Thread(target=self._poll, name="poll", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with uninterrupted():
            self._closed.set()
            self._process.close()
            self._scratch.remove()

    def _poll(self) -> None:
        serve, due = self.settings.serve, 0.0
        while True:
            if time.monotonic() >= due:
                checked = self._check()
                due = time.monotonic() + (serve.poll_interval_seconds if checked else RESTART_PAUSE_SECONDS)
            if self.state.serial:
                self._process.lower_priority()
            # A registry that has to be asked at each poll keeps its process.
            if self._is_settled(self._fingerprint):
                self._process.end_if_idle()
            if self._closed.wait(max(0.0, min(due - time.monotonic(), serve.verifier_idle_timeout_seconds))):
                return

    def _check(self, *, force: bool = False) -> bool:
        """Have the refresh process ask the registry if that may bring news, or by force; False where it ended."""
        with self._checking:
            # Taken before the registry is asked: a change in between is seen by the next check.
            fingerprint = self._detector.fingerprint()
            if self._is_settled(fingerprint) and not force:
                return True
            if fingerprint is not None and not fingerprint.reachable:
                # The refresh process, which finds out why, may wait for long.
                self._report_down("the registry does not answer")
            try:
                reply = self._process.request(RefreshRequest("check", state=self._reported))
                self._reported = msgspec.json.decode(reply, type=AliasState)
            except (ProcessEndedError, msgspec.MsgspecError):
                if not self._closed.is_set():
                    self._report_down("the process that asks it has ended; it is started again")
                return False
            self._fingerprint = fingerprint
            self._publish(self._reported)
            return True

    def _report_down(self, reason: str) -> None:
        """Tell the servers that the registry cannot be asked, unless they know it, for whichever reason."""
        # A server that has received no state yet knows by itself that the registry was not asked.
        if self.state.serial:
            since = self.state.unreachable or f"since {utc_now()}: {reason}"
            self._publish(msgspec.structs.replace(self._reported, unreachable=since))

    def _is_settled(self, fingerprint: Fingerprint | None) -> bool:
        """Whether the registry looks as it did when it was last asked, and nothing is to be tried again."""
        refusal = self.state.refusal
        return (
            fingerprint is not None
            and fingerprint == self._fingerprint
            and fingerprint.reachable == (self.state.unreachable is None)
            and (refusal is None or refusal.final)
        )

    def _publish(self, state: AliasState) -> None:
        with self._changed:
            same_serial = msgspec.structs.replace(state, serial=self.state.serial)
            if same_serial != self.state or not self.state.serial:
                self.state = msgspec.structs.replace(state, serial=self.state.serial + 1)
                self._changed.notify_all()

    def _handle(self, request: RefreshRequest, send: Callable[[Any], None]) -> None:
        if request.kind == "check":
            self._check(force=True)
            send(self.state)
        elif request.kind in ("explain", "prepare"):
            try:
                reply = self._process.request(msgspec.structs.replace(request, state=self.state))
                send(msgspec.Raw(reply.rstrip()))
            except ProcessEndedError:
                # The server sees the connection end without a reply, and asks again.
                return
        else:
            serial = 0
            while True:
                with self._changed:
                    self._changed.wait_for(lambda serial=serial: self.state.serial > serial)  # type: ignore[misc]
                    state = self.state
                send(state)
                serial = state.serial


def _writable_folder(cache: str | None) -> Path | None:
    """The configured cache, made where it is missing; None where there is none that can be written."""
    if cache is None:
        return None
    folder = Path(cache).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        log.warning(CACHE_NOT_USABLE, folder=str(folder), why=str(error))
        return None
