"""Writes a log in PostgreSQL, for many replicas of a server; see `database_tables`."""

import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from wineexp.monitoring.database_tables import (
    COLUMNS,
    JSON_COLUMNS,
    LOCK_TIMEOUT_MS,
    PREDICTIONS,
    STATEMENT_TIMEOUT_MS,
    TABLES_LOCK,
    TRUTHS,
    VERDICTS,
    column_name,
    connect,
    make_partition,
    make_tables,
    moment,
    reason,
    remove_old,
)
from wineexp.monitoring.format import TIME, Layout

# Between two looks for partitions that are too old.
MAINTENANCE_SECONDS = 600.0

_encoder = msgspec.json.Encoder()


class DatabaseStore:
    """Writes rows into a PostgreSQL database; connects when there is something to write.

    Parameters
    ----------
    address : str
        With its credentials.
    max_age_days : float or None
        How long rows are kept, to the day.
    max_bytes : int or None
        How large the predictions may become; the oldest days are dropped first.
    """

    def __init__(self, address: str, max_age_days: float | None = None, max_bytes: int | None = None) -> None:
        self._address = address
        self._max_age_days = max_age_days
        self._max_bytes = max_bytes
        self._connection: psycopg.Connection[Any] | None = None
        self._days: set[date] = set()
        self._maintained_at = time.monotonic()

    def write(self, layout: Layout, rows: Sequence[Sequence[Any]]) -> None:
        """Write predictions, all or none.

        Raises
        ------
        OSError
            The database did not take them.
        """
        names = layout.names
        simple = [(names.index(name) if name in names else None, layout.constants.get(name)) for name in COLUMNS]
        nested = [
            [(place, name.removeprefix(prefix)) for place, name in enumerate(names) if name.startswith(prefix)]
            for prefix in JSON_COLUMNS.values()
        ]
        columns = sql.SQL(", ").join(sql.Identifier(column_name(name)) for name in [*COLUMNS, *JSON_COLUMNS])
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(PREDICTIONS), columns)
        time_place = names.index(TIME)
        with self._transaction() as connection:
            for day in {moment(row[time_place]).date() for row in rows} - self._days:
                make_partition(connection, day)
                self._days.add(day)
            with connection.cursor() as cursor, cursor.copy(statement) as copy:
                for row in rows:
                    values: list[Any] = [row[place] if place is not None else constant for place, constant in simple]
                    values[0] = moment(values[0])
                    for members in nested:
                        content = _encoder.encode({name: row[place] for place, name in members})
                        values.append(content.decode() if members else None)
                    copy.write_row(values)

    def encode(self, row: Sequence[Any]) -> Sequence[Any]:
        """A row as it is."""
        return row

    def write_encoded(self, layout: Layout, rows: Sequence[Any]) -> None:
        """As `write`."""
        self.write(layout, rows)

    def write_truths(self, rows: Sequence[tuple[int, str, int, str]]) -> None:
        """Write truths, all or none; see `prediction_log.TruthStore`.

        Raises
        ------
        OSError
            As `write`.
        """
        statement = f"COPY {TRUTHS} (time, request_id, row, truth) FROM STDIN"
        with (
            self._transaction() as connection,
            connection.cursor() as cursor,
            cursor.copy(statement) as copy,
        ):
            for received, *rest in rows:
                copy.write_row([moment(received), *rest])

    def maintain(self) -> None:
        """Drop what is too old, now and then."""
        if time.monotonic() - self._maintained_at >= MAINTENANCE_SECONDS and self._connection is not None:
            self._maintained_at = time.monotonic()
            with self._transaction() as connection:
                remove_old(connection, self._max_age_days, self._max_bytes)

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def _transaction(self) -> "_Transaction":
        return _Transaction(self)

    def connect(self) -> "psycopg.Connection[Any]":
        """The connection, made where there is none, to a database that has the tables."""
        if self._connection is None or self._connection.closed:
            self._days.clear()
            self._connection = connect(
                self._address, options=f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout={LOCK_TIMEOUT_MS}"
            )
            make_tables(self._connection)
        return self._connection


class _Transaction:
    """A transaction of a store; what PostgreSQL refuses, or does not answer, becomes an OSError."""

    def __init__(self, store: DatabaseStore) -> None:
        self._store = store
        self._inner: Any = None

    def __enter__(self) -> "psycopg.Connection[Any]":
        try:
            connection = self._store.connect()
            self._inner = connection.transaction()
            self._inner.__enter__()
        except psycopg.Error as error:
            self._store.close()
            raise OSError(reason(error)) from error
        return connection

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            self._inner.__exit__(kind, error, trace)
        except psycopg.Error as commit_error:
            error = commit_error
        if isinstance(error, psycopg.Error):
            # Whatever state the connection is in, the next one has none.
            self._store.close()
            raise OSError(reason(error)) from error


def write_verdict(address: str, model: str, version: int, kind: str, text: str) -> None:
    """Replace what was said of a version, as JSON; see `verdicts`.

    Raises
    ------
    OSError
        The database did not take it.
    """
    store = DatabaseStore(address)
    try:
        with store._transaction() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [TABLES_LOCK])
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {VERDICTS} (model text, version integer, kind text, said text NOT NULL, "
                "PRIMARY KEY (model, version, kind))"
            )
            connection.execute(
                f"INSERT INTO {VERDICTS} VALUES (%s, %s, %s, %s) "  # noqa: S608  a constant
                "ON CONFLICT (model, version, kind) DO UPDATE SET said = excluded.said",
                [model, version, kind, text],
            )
    finally:
        store.close()
