"""Ctrl-C and SIGTERM: they end what runs, are never lost, and do not cut short what must be completed.

Python drops an exception that a signal's handler raises while a weak reference's callback runs, as logging's
configuration and garbage collection make happen. It is therefore raised again: by `stop` until it gets through, as some
library may have caught it, and within `Interrupts` where Python says that it was dropped.

Nothing is raised within SQLAlchemy: where it returns a connection to its pool, an exception would leave a transaction
open, and the database locked for closing the run. Nor is it within a function that is `never_interrupted`.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType, TracebackType
from typing import Any, Self, TypeVar

TERMINATION_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Slurm sends SIGUSR2 to a job of hydra-submitit-launcher whose time is nearly over; Windows does not have it.
INTERRUPTION_SIGNALS = (*TERMINATION_SIGNALS, *([signal.SIGUSR2] if hasattr(signal, "SIGUSR2") else []))
REPEAT_SECONDS = 1.0
DATABASE_LIBRARY = "sqlalchemy"
# A database that does not answer for longer than this is not waited for.
MAX_DATABASE_SECONDS = 5.0
RETRY_SECONDS = 0.02

# The signals that `stop` and `Interrupts` have handled, the first one first. A library that catches the exception,
# XGBoost for one, raises an error of its own in its place: code that handles that error learns here that the process
# was to end.
received_signals: list[int] = []
# Those of them that have raised nothing yet, by the time that each was first put off.
_put_off_since: dict[int, float] = {}
_never_interrupted: set[CodeType] = set()
F = TypeVar("F", bound=Callable[..., Any])


def handle_termination() -> None:
    """Make Ctrl-C and SIGTERM call `stop`; for a program that has this process to itself."""
    for number in TERMINATION_SIGNALS:
        signal.signal(number, stop)
    sys.unraisablehook = _raise_dropped


def _raise_dropped(unraisable: "sys.UnraisableHookArgs") -> None:
    """Raise a signal's exception again, which Python drops; print any other that it drops."""
    if not (received_signals and isinstance(unraisable.exc_value, KeyboardInterrupt | SystemExit)):
        sys.__unraisablehook__(unraisable)
    elif threading.current_thread() is threading.main_thread():
        _raise_again(received_signals[-1], RETRY_SECONDS)


def stop(number: int, frame: FrameType | None) -> None:
    """Handle a signal: raises KeyboardInterrupt or SystemExit, and again each second until `cancel_repetition`."""
    received_signals.append(number)
    if _is_put_off(number, frame):
        return
    _raise_again(number, REPEAT_SECONDS)
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


def never_interrupted(function: F) -> F:
    """Decorate a function so that `stop` and `Interrupts` raise nothing from its first instruction to its last.

    `uninterrupted`, for code that other handlers may interrupt, cannot rule out a signal just before its block.
    """
    _never_interrupted.add(function.__code__)
    return function


def _is_put_off(number: int, frame: FrameType | None) -> bool:
    """Whether a signal arrived where nothing is raised; it is then raised again soon."""
    waited = time.monotonic() - _put_off_since.setdefault(number, time.monotonic())
    while frame is not None:
        is_database = frame.f_globals.get("__name__", "").partition(".")[0] == DATABASE_LIBRARY
        if frame.f_code in _never_interrupted or (is_database and waited < MAX_DATABASE_SECONDS):
            _raise_again(number, RETRY_SECONDS)
            return True
        frame = frame.f_back
    del _put_off_since[number]
    return False


def _raise_again(number: int, seconds: float) -> None:
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(number))
    signal.setitimer(signal.ITIMER_REAL, seconds)


def cancel_repetition() -> None:
    """Tell that the exception which `stop` raised has arrived: it is not raised again."""
    # An alarm that is on its way would end the process where Python, at its exit, has taken back the handler.
    if signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put off Ctrl-C, SIGTERM and SIGUSR2 until the end of a with block.

    Threads other than the main one never get them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # The block may be the handling of a signal that has arrived.
    cancel_repetition()
    pending = list(_put_off_since)
    _put_off_since.clear()
    previous = {
        number: signal.signal(number, lambda number, _: pending.append(number)) for number in INTERRUPTION_SIGNALS
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    for late in pending:
        signal.raise_signal(late)


class Interrupts:
    """Makes Ctrl-C, SIGTERM and SIGUSR2 raise KeyboardInterrupt for the length of a with block.

    Unlike SystemExit, KeyboardInterrupt cannot be mistaken for a task that calls `sys.exit`.
    """

    def __init__(self) -> None:
        self._arrived = False
        self._previous_handlers: dict[int, Any] = {}
        self._previous_hook = sys.unraisablehook

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous_handlers = {number: signal.signal(number, self._handle) for number in INTERRUPTION_SIGNALS}
            self._previous_hook, sys.unraisablehook = sys.unraisablehook, _raise_dropped
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._arrived:
            # It has ended the block, or `check` raises it below.
            cancel_repetition()
            _put_off_since.clear()
        if self._previous_handlers:
            sys.unraisablehook = self._previous_hook
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
        if kind is None:
            self.check()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._arrived = True
        received_signals.append(number)
        if not _is_put_off(number, frame):
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if one of the signals has arrived, whether or not Python dropped it then."""
        if self._arrived:
            raise KeyboardInterrupt
