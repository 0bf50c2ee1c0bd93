"""A thread that shows that a process lives, sees which others do, and ends a task when the study is to stop."""

import ctypes
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from wineexp.sweep.leases import Leases

log = logging.getLogger(__name__)

# How soon a beat that the database did not take is tried again, in beats.
RETRY_BEATS = 0.1


class Heartbeat:
    """Keeps up a worker's lease for the length of a with block; does nothing without leases.

    Parameters
    ----------
    leases : Leases or None
    worker : str
        The worker's identity.
    close_trial : callable
        Closes the worker's trial as interrupted; called where its task does not end although it is to stop.
    """

    def __init__(self, leases: Leases | None, worker: str, close_trial: Callable[[], None] = lambda: None) -> None:
        self.leases, self.worker, self.close_trial = leases, worker, close_trial
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        # The thread that runs a task, and whether it was interrupted.
        self._task_thread: int | None = None
        self._lock = threading.Lock()
        self._is_interrupted = False

    @property
    def is_stopped(self) -> bool:
        """Whether the study is to stop."""
        return self.leases is not None and self.leases.is_stopped

    def __enter__(self) -> Self:
        if self.leases is not None:
            self.leases.begin(self.worker)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.leases is None:
            return
        self._has_ended.set()
        self._thread.join()
        try:
            self.leases.end(self.worker)
        except SQLAlchemyError as fault:
            # Others see it end for lack of beats.
            log.debug("the lease of %s could not be ended: %s", self.worker, fault)

    @contextmanager
    def stopping_task(self) -> Iterator[None]:
        """Raise KeyboardInterrupt in the with block, in the thread that runs it, when the study is to stop."""
        with self._lock:
            self._task_thread, self._is_interrupted = threading.get_ident(), False
        try:
            yield
        finally:
            with self._lock:
                if self._is_interrupted and not _is_main(self._task_thread):
                    _raise_in_thread(threading.get_ident(), None)
                self._task_thread = None

    def _beat(self) -> None:
        assert self.leases is not None  # noqa: S101  else the thread is not started
        pause = self.leases.beat_seconds
        while not self._has_ended.wait(pause):
            started = time.monotonic()
            try:
                self.leases.beat(self.worker)
            except Exception as error:
                log.debug("no beat: %s", error)
                pause = RETRY_BEATS * self.leases.beat_seconds
                continue
            pause = max(0.0, self.leases.beat_seconds - (time.monotonic() - started))
            if self.leases.is_stopped:
                self._end_task()

    def _end_task(self) -> None:
        with self._lock:
            thread, was_interrupted = self._task_thread, self._is_interrupted
            if thread is None:
                return
            self._is_interrupted = True
            if not was_interrupted:
                if _is_main(thread):
                    # It also ends what waits in the system, as a sleep does.
                    signal.pthread_kill(thread, signal.SIGINT)
                else:
                    _raise_in_thread(thread, KeyboardInterrupt)
                return
        # It is in a library that hears nothing until it returns: the study's record does not wait for that.
        try:
            self.close_trial()
        except Exception as error:
            log.debug("the trial could not be closed: %s", error)


def _is_main(thread: int | None) -> bool:
    return thread == threading.main_thread().ident


def _raise_in_thread(thread: int, kind: type[BaseException] | None) -> None:
    """Raise an exception in another thread, at its next instruction of Python; None takes it back."""
    exception = None if kind is None else ctypes.py_object(kind)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), exception)
