"""The sentry of a server: it notices that a registry may have changed, and has an examiner look.

It lives in the first process of a server, and knows for all of them what the alias names; it needs no MLflow.
"""

import shutil
import socket
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
from wineexp.serving.refresh.change_detector import Hint, Hints
from wineexp.serving.refresh.messages import Link, Question, State, answer, now
from wineexp.serving.refresh.worker import PAUSE, EndedError, Examiner

log = structlog.get_logger()


class Sentry:
    """On guard as long as the context lasts.

    Parameters
    ----------
    settings : Serve

    Attributes
    ----------
    link : Link
    state : State
        What servers are told.
    """

    def __init__(self, settings: Serve) -> None:
        self.settings = settings
        self.state = State()
        self._folder = Path(tempfile.mkdtemp(prefix="wineexp-"))
        self.link = Link(self._folder / "socket", _usable(settings.serve.cache_folder) or self._folder / "cache")
        self._examiner = Examiner(settings, self._folder / "examiner", self.link.cache)
        self._hints = Hints(settings)
        # Of the moment before the last look.
        self._hint: Hint | None = None
        # The last that an examiner said, and what the next one is to know.
        self._known = State()
        self._changed = threading.Condition()
        self._looking = threading.Lock()
        self._over = threading.Event()
        self._examiner.ready()

    def __enter__(self) -> Self:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.link.socket))
        listener.listen(128)
        threading.Thread(target=answer, args=(listener, self._reply), name="sentry", daemon=True).start()
        threading.Thread(target=self._guard, name="guard", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with uninterrupted():
            self._over.set()
            self._examiner.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _guard(self) -> None:
        serve, due = self.settings.serve, 0.0
        while True:
            if time.monotonic() >= due:
                answered = self._look()
                due = time.monotonic() + (serve.poll_interval_seconds if answered else PAUSE)
            if self.state.serial:
                self._examiner.calm()
            # One that is to be asked each time stays.
            if self._settled(self._hint):
                self._examiner.rest()
            if self._over.wait(max(0.0, min(due - time.monotonic(), serve.verifier_idle_timeout_seconds))):
                return

    def _look(self, *, anyway: bool = False) -> bool:
        """Have an examiner ask the registry where it may tell something new, or anyway; False where it ended."""
        with self._looking:
            # Before the look: what changes meanwhile is seen by the next.
            hint = self._hints.now()
            if self._settled(hint) and not anyway:
                return True
            try:
                told = self._examiner.ask(Question("look", state=self._known))
                self._known = msgspec.json.decode(told, type=State)
            except (EndedError, msgspec.MsgspecError):
                # A server that has heard nothing yet says of itself that the registry was not asked.
                if self.state.serial and not self._over.is_set():
                    lost = f"since {now()}: the process that asks it has ended; it is started again"
                    self._say(msgspec.structs.replace(self._known, unreachable=self.state.unreachable or lost))
                return False
            self._hint = hint
            self._say(self._known)
            return True

    def _settled(self, hint: Hint | None) -> bool:
        """Whether asking the registry again would tell nothing new."""
        refusal = self.state.refusal
        return (
            hint is not None
            and hint == self._hint
            and hint.reached == (self.state.unreachable is None)
            and (refusal is None or refusal.final)
        )

    def _say(self, state: State) -> None:
        with self._changed:
            same = msgspec.structs.replace(state, serial=self.state.serial)
            if same != self.state or not self.state.serial:
                self.state = msgspec.structs.replace(state, serial=self.state.serial + 1)
                self._changed.notify_all()

    def _reply(self, question: Question, say: Callable[[Any], None]) -> None:
        if question.kind == "look":
            self._look(anyway=True)
            say(self.state)
        elif question.kind == "explain":
            try:
                told = self._examiner.ask(msgspec.structs.replace(question, state=self.state))
                say(msgspec.Raw(told.rstrip()))
            except EndedError:
                # Whoever asked sees that there is no answer, and asks again.
                return
        else:
            serial = 0
            while True:
                with self._changed:
                    self._changed.wait_for(lambda serial=serial: self.state.serial > serial)  # type: ignore[misc]
                    state = self.state
                say(state)
                serial = state.serial


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
