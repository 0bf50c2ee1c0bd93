"""Ctrl-C and SIGTERM, neither of them lost."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupts:
    """Makes SIGINT and SIGTERM raise KeyboardInterrupt for the length of a with block, and remembers them.

    Python drops an exception that a handler raises while a weak reference's callback runs, as in the middle of
    configuring logging. `check` raises it again.
    """

    def __init__(self) -> None:
        self._seen = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._raise) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if kind is None:
            self.check()

    def _raise(self, *_: int | FrameType | None) -> None:
        self._seen = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if one of the signals has come."""
        if self._seen:
            raise KeyboardInterrupt
