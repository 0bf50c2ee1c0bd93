"""Takes rows from a server at once and writes them down in a thread: no answer waits for a disk or a database."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import structlog

from wineexp.monitoring.format import Layout

log = structlog.get_logger()

Item = TypeVar("Item")

# What is logged reaches the disk or the database within this time, twice as often as is promised for a killed server.
FLUSH_SECONDS = 0.4

# Numbers and texts that may wait to be written: some 40 MB. What comes beyond them is dropped.
MAX_WAITING_VALUES = 1_000_000

# Rows that are written at once: as long as they are encoded, the interpreter has no time for requests.
ROWS_AT_ONCE = 200

# A store that fails is tried again after this time.
RETRY_SECONDS = 2.0

# How long the last rows may take when a server ends.
CLOSE_TIMEOUT_SECONDS = 5.0

# Rows of one layout, each as `Store.encode` makes it.
Rows = tuple[Layout, Sequence[Any]]


class Store(Protocol):
    """Where rows are written to: a folder or a database."""

    def encode(self, row: Sequence[Any]) -> Any:
        """A row, its values in the order of its layout, as it is kept until it is written: small, and made fast."""

    def write_encoded(self, layout: Layout, rows: Sequence[Any]) -> None:
        """Write encoded rows, all or none.

        Raises
        ------
        OSError
            They could not be written.
        """

    def maintain(self) -> None:
        """What is due now and then; called after every flush."""

    def close(self) -> None:
        """Leave the store."""


class Writer(Generic[Item]):
    """A bounded buffer of items, each of one or more rows, and the thread that writes them.

    Parameters
    ----------
    store : Store
    to_rows : callable
        From some items to their rows by layout; called in the thread, with items of `ROWS_AT_ONCE` rows at most, but
        for one that has more by itself.
    on_written, on_dropped : callable
        Called with a number of rows.
    on_state : callable
        Called with whether rows can be written, when that changes.

    Attributes
    ----------
    failing : str or None
        Since when, and why, nothing can be written.
    """

    def __init__(
        self,
        store: Store,
        to_rows: Callable[[Sequence[Item]], Iterable[Rows]],
        on_written: Callable[[int], None],
        on_dropped: Callable[[int], None],
        on_state: Callable[[bool], None],
    ) -> None:
        self.failing: str | None = None
        self._store = store
        self._to_rows = to_rows
        self._on_written = on_written
        self._on_dropped = on_dropped
        self._on_state = on_state
        self._waiting: deque[tuple[Item, int, int]] = deque()
        self._waiting_values = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)

    def start(self) -> None:
        """Start the thread: in the process that writes, after it was forked."""
        self._thread.start()

    def put(self, item: Item, n_rows: int, n_values: int) -> None:
        """Take an item of so many rows and values, or drop and count its rows where too much is waiting."""
        with self._lock:
            # A request that is larger by itself is taken where nothing else waits.
            has_room = not self._waiting or self._waiting_values + n_values <= MAX_WAITING_VALUES
            if has_room:
                self._waiting_values += n_values
                self._waiting.append((item, n_rows, n_values))
        if not has_room:
            self._on_dropped(n_rows)

    def close(self) -> None:
        """Write what is waiting, and end."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(CLOSE_TIMEOUT_SECONDS)

    def _run(self) -> None:
        is_last = False
        while not is_last:
            # Once more after the end was asked for.
            is_last = self._stopping.wait(RETRY_SECONDS if self.failing else FLUSH_SECONDS)
            try:
                self._flush()
                self._store.maintain()
            except Exception as error:
                # A log is no reason for a server to fail.
                log.warning("prediction log not maintained", why=str(error))
        with self._lock:
            left = sum(n_rows for _, n_rows, _ in self._waiting)
        if left:
            self._on_dropped(left)
        self._store.close()

    def _flush(self) -> None:
        while self._waiting:
            taken, n_rows = self._take()
            try:
                rows = list(self._to_rows(taken))
            except Exception as error:
                # Only these rows are lost: others may have a layout that can be written.
                self._on_dropped(n_rows)
                self._fail(error)
                continue
            for layout, values in rows:
                try:
                    self._store.write_encoded(layout, values)
                except Exception as error:
                    self._on_dropped(len(values))
                    self._fail(error)
                else:
                    self._on_written(len(values))
                    self._recover()
            if self.failing:
                # What is waiting still has a chance at the next attempt.
                return

    def _take(self) -> tuple[list[Item], int]:
        taken: list[Item] = []
        n_rows = 0
        with self._lock:
            while self._waiting and (not taken or n_rows + self._waiting[0][1] <= ROWS_AT_ONCE):
                item, rows, values = self._waiting.popleft()
                taken.append(item)
                n_rows += rows
                self._waiting_values -= values
        return taken, n_rows

    def _fail(self, error: Exception) -> None:
        if self.failing is None:
            since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            self.failing = f"since {since}: {str(error) or type(error).__name__}"
            log.error("prediction log failing", why=self.failing)
            self._on_state(False)

    def _recover(self) -> None:
        if self.failing is not None:
            log.info("prediction log written again")
            self.failing = None
            self._on_state(True)
