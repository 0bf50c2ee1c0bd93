"""How workers on different hosts know of each other that they live: each one raises a number in the study's database.

A worker whose number has not changed for the length of a lease is lost. Only times of the own clock are compared, never
those of two machines, and only while the database answers: after an outage every lease begins anew.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    delete,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from wineexp.sweep.outages import wait_out
from wineexp.sweep.worker_id import is_on_this_host

# A lease has so many beats.
BEATS_OF_LEASE = 3
# The names of leases that are no worker's: of running the best trial again, and of closing the study; and the name of
# the row that tells all workers to stop.
REFIT, CLOSING, STOP = NO_WORKERS = ("refit", "closing", "stop")
MAX_NAME_CHARS = 255

_table = Table(
    "wineexp_leases",
    MetaData(),
    Column("study_id", Integer, primary_key=True, autoincrement=False),
    Column("name", String(MAX_NAME_CHARS), primary_key=True),
    Column("holder", String(MAX_NAME_CHARS), nullable=False),
    Column("beats", Integer, nullable=False),
)


class Leases:
    """The leases of one study.

    Parameters
    ----------
    engine : Engine
        The study's database.
    study_id : int
    seconds : float
        The length of a lease.
    max_outage : float
        Seconds for which every method but `beat` waits while the database is away.
    """

    def __init__(self, engine: Engine, study_id: int, seconds: float, max_outage: float) -> None:
        self.engine, self.study_id, self.seconds, self.max_outage = engine, study_id, seconds, max_outage
        # A worker's beats, and since when they have been that many; None of a worker that has no lease.
        self._seen: dict[str, tuple[int | None, float]] = {}
        self._last_look = time.monotonic()
        self._is_stopped = False
        self._lock = threading.Lock()

    @property
    def beat_seconds(self) -> float:
        """How often a worker shows that it lives."""
        return self.seconds / BEATS_OF_LEASE

    @property
    def is_stopped(self) -> bool:
        """Whether the workers are to stop, as of the last look."""
        return self._is_stopped

    def create_table(self) -> None:
        """Make the table where the database has none."""
        wait_out(self._create_table, self.max_outage)

    def _create_table(self) -> None:
        try:
            _table.create(self.engine, checkfirst=True)
        except SQLAlchemyError:
            # Another worker may have made it in the meantime.
            if not inspect(self.engine).has_table(_table.name):
                raise

    def begin(self, worker: str) -> None:
        """Give a worker its lease."""
        wait_out(lambda: self.beat(worker), self.max_outage)

    def beat(self, worker: str) -> None:
        """Show that a worker lives, and look at all leases."""
        with self.engine.begin() as connection:
            beaten = connection.execute(update(_table).where(*self._is(worker)).values(beats=_table.c.beats + 1))
            if not beaten.rowcount:
                connection.execute(self._insertion(worker, worker))
            rows = self._rows(connection)
        self._look(rows)

    def _look(self, rows: Mapping[str, int]) -> None:
        with self._lock:
            now = time.monotonic()
            # A worker that could not beat, as this process could not look, is not to be taken for lost.
            if now - self._last_look > 2 * self.beat_seconds:
                self._seen.clear()
            self._last_look = now
            self._is_stopped = STOP in rows
            for name in {*rows, *self._seen}:
                beats = rows.get(name)
                if name not in self._seen or self._seen[name][0] != beats:
                    self._seen[name] = (beats, now)

    def is_lost(self, worker: str) -> bool:
        """Whether a worker has not shown that it lives for the length of a lease, all of which was watched."""
        with self._lock:
            now = time.monotonic()
            _, since = self._seen.setdefault(worker, (None, now))
            is_watching = now - self._last_look <= 2 * self.beat_seconds
            return is_watching and now - since > self.seconds

    def living(self, is_dead: Callable[[str], bool]) -> list[str]:
        """The workers that live; looks on for at most a lease."""
        deadline = time.monotonic() + self.seconds
        first = self.beats()
        while True:
            rows = self.beats()
            candidates = [name for name in rows if name not in NO_WORKERS and not is_dead(name)]
            living = [name for name in candidates if rows[name] != first.get(name) or is_on_this_host(name)]
            if living or not candidates or time.monotonic() > deadline:
                return living
            time.sleep(self.beat_seconds / 2)

    def end(self, name: str) -> None:
        """Remove the lease of a worker that has ended, or what was claimed under this name."""
        self._execute(delete(_table).where(*self._is(name)))

    def stop(self, by: str) -> None:
        """Tell all workers to stop."""
        self.claim(STOP, by, lambda _: False)
        self._is_stopped = True

    def resume(self) -> None:
        """Let workers begin again."""
        self.end(STOP)
        self._is_stopped = False

    def claim(self, name: str, holder: str, is_dead: Callable[[str], bool]) -> bool:
        """Take what one process may have at a time; False if another one has it that is not dead."""
        try:
            self._execute(self._insertion(name, holder))
        except IntegrityError:
            other = self.holder(name)
            if other is None or (other != holder and not is_dead(other)):
                return False
            # Of two that take over from the same dead holder, one changes the row.
            taken = self._execute(update(_table).where(*self._is(name), _table.c.holder == other).values(holder=holder))
            return taken > 0 or other == holder
        return True

    def holder(self, name: str) -> str | None:
        """Who has what was claimed under this name."""

        def read() -> str | None:
            with self.engine.connect() as connection:
                return connection.execute(select(_table.c.holder).where(*self._is(name))).scalar()

        return wait_out(read, self.max_outage)[0]

    def _execute(self, statement: Any) -> int:
        """Execute a statement in a transaction of its own, and give the number of rows that it has changed."""

        def execute() -> int:
            with self.engine.begin() as connection:
                return int(connection.execute(statement).rowcount)

        return wait_out(execute, self.max_outage)[0]

    def beats(self) -> dict[str, int]:
        """The beats of each worker that has a lease; what else is claimed has 0."""

        def read() -> dict[str, int]:
            with self.engine.connect() as connection:
                return self._rows(connection)

        return wait_out(read, self.max_outage)[0]

    def _rows(self, connection: Connection) -> dict[str, int]:
        query = select(_table.c.name, _table.c.beats).where(_table.c.study_id == self.study_id)
        return {str(name): int(beats) for name, beats in connection.execute(query)}

    def _insertion(self, name: str, holder: str) -> Any:
        return insert(_table).values(study_id=self.study_id, name=name, holder=holder, beats=0)

    def _is(self, name: str) -> tuple[Any, Any]:
        return _table.c.study_id == self.study_id, _table.c.name == name
