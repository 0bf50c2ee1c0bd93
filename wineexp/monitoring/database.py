"""A log in PostgreSQL, for many replicas of a server: two tables, made by the first process that writes.

`wineexp_predictions` has a partition for each day, which is dropped as a whole when it is too old: to delete rows would
leave the files as large as they were. Inputs and probabilities are JSON, since versions have different ones, and a
table may have no more than 1,600 columns. `wineexp_truths` has the truths.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
from psycopg import sql
from psycopg.rows import tuple_row
from psycopg.types.json import set_json_loads

from wineexp.core.errors import UserError
from wineexp.monitoring.format import (
    DECISION,
    INPUT,
    LATENCY,
    MODEL,
    NUMBER,
    NUMBER_HIGH,
    NUMBER_LOW,
    OUTSIDE,
    PROBABILITY,
    REQUEST_ID,
    ROW,
    TIME,
    TRUTH,
    VARIANT,
    VERSION,
    Layout,
)

if TYPE_CHECKING:
    # A server writes, and does so without pandas.
    import pandas as pd

    from wineexp.monitoring.segments import Selection

PREDICTIONS, TRUTHS, VERDICTS = "wineexp_predictions", "wineexp_truths", "wineexp_verdicts"

# The columns of the table in its order; a name with a point has an underscore there.
COLUMNS = {
    TIME: "timestamptz NOT NULL",
    REQUEST_ID: "text NOT NULL",
    ROW: "integer NOT NULL",
    MODEL: "text NOT NULL",
    VERSION: "integer NOT NULL",
    VARIANT: "text NOT NULL",
    DECISION: "text",
    NUMBER: "double precision",
    NUMBER_LOW: "double precision",
    NUMBER_HIGH: "double precision",
    OUTSIDE: "text NOT NULL",
    LATENCY: "double precision",
}
JSON_COLUMNS = {"probabilities": PROBABILITY, "inputs": INPUT}

# Of PostgreSQL: no attempt to write takes longer, whatever the database or the network does.
CONNECT_TIMEOUT_SECONDS = 3
STATEMENT_TIMEOUT_MS, LOCK_TIMEOUT_MS = 5_000, 2_000

# Between two looks for partitions that are too old.
MAINTENANCE_SECONDS = 600.0

# Any number that no other program takes: whoever holds this lock makes or drops tables.
TABLES_LOCK = 7_411_869

ROWS_PER_FRAME = 20_000

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
        columns = sql.SQL(", ").join(sql.Identifier(_column(name)) for name in [*COLUMNS, *JSON_COLUMNS])
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(PREDICTIONS), columns)
        time_place = names.index(TIME)
        with self._transaction() as connection:
            for day in {_moment(row[time_place]).date() for row in rows} - self._days:
                _make_partition(connection, day)
                self._days.add(day)
            with connection.cursor() as cursor, cursor.copy(statement) as copy:
                for row in rows:
                    values: list[Any] = [row[place] if place is not None else constant for place, constant in simple]
                    values[0] = _moment(values[0])
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
                copy.write_row([_moment(received), *rest])

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
            self._connection = _connect(
                self._address, options=f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout={LOCK_TIMEOUT_MS}"
            )
            _make_tables(self._connection)
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
            raise OSError(_reason(error)) from error
        return connection

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            self._inner.__exit__(kind, error, trace)
        except psycopg.Error as commit_error:
            error = commit_error
        if isinstance(error, psycopg.Error):
            # Whatever state the connection is in, the next one has none.
            self._store.close()
            raise OSError(_reason(error)) from error


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


def read_verdicts(address: str, model: str, version: int) -> list[tuple[str, str]]:
    """Kind and JSON of what was said of a version.

    Raises
    ------
    OSError
        The database did not answer, or nothing was ever said.
    """
    try:
        with _connect(address, options=f"-c statement_timeout={STATEMENT_TIMEOUT_MS}") as connection:
            return connection.execute(
                f"SELECT kind, said FROM {VERDICTS} WHERE model = %s AND version = %s",  # noqa: S608  a constant
                [model, version],
            ).fetchall()
    except psycopg.Error as error:
        raise OSError(_reason(error)) from error


def remove_old(connection: "psycopg.Connection[Any]", max_age_days: float | None, max_bytes: int | None) -> int:
    """Drop the days that are too old, and the oldest while all together are too large; returns how many."""
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [TABLES_LOCK])
    partitions = connection.execute(
        "SELECT child.relname, pg_total_relation_size(child.oid) FROM pg_inherits "
        "JOIN pg_class child ON child.oid = inhrelid WHERE inhparent = %s::regclass ORDER BY 1",
        [PREDICTIONS],
    ).fetchall()
    total, dropped = sum(size for _, size in partitions), 0
    oldest = None if max_age_days is None else (datetime.now(UTC) - timedelta(days=max_age_days)).date()
    # The last one is the day that is written to.
    for name, size in partitions[:-1]:
        day = datetime.strptime(name.rpartition("_")[2], "%Y%m%d").replace(tzinfo=UTC).date()
        if (oldest is not None and day < oldest) or (max_bytes is not None and total > max_bytes):
            connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))
            total -= size
            dropped += 1
    if oldest is not None:
        connection.execute(f"DELETE FROM {TRUTHS} WHERE time < %s", [oldest])  # noqa: S608  a constant
    return dropped


def read(address: str, wanted: "Selection") -> "Iterator[pd.DataFrame]":
    """The logged predictions in order of time; see `prediction_log.read`.

    Raises
    ------
    UserError
        The database cannot be reached, or has no log.
    """
    columns = [name for name in COLUMNS if wanted.columns is None or name in {*wanted.columns, TIME}]
    nested = {
        name: prefix
        for name, prefix in JSON_COLUMNS.items()
        if wanted.columns is None or any(column.startswith(prefix) for column in wanted.columns)
    }
    conditions = {
        "time >= %s": _moment_or_none(wanted.since),
        "time < %s": _moment_or_none(wanted.until),
        "model = %s": wanted.model,
        "version = %s": wanted.version,
        "variant = %s": wanted.variant,
    }
    conditions = {condition: value for condition, value in conditions.items() if value is not None}
    statement = sql.SQL("SELECT {} FROM {} {} ORDER BY time").format(
        sql.SQL(", ").join(sql.Identifier(_column(name)) for name in [*columns, *nested]),
        sql.Identifier(PREDICTIONS),
        sql.SQL("WHERE " + " AND ".join(conditions) if conditions else ""),
    )
    for rows in _selected(address, statement, list(conditions.values())):
        yield _frame(rows, columns, list(nested.values()), wanted.columns)


def read_truths(address: str) -> "Iterator[pd.DataFrame]":
    """All truths in the order in which they were received; see `prediction_log.read_truths`.

    Raises
    ------
    UserError
        As `read`.
    """
    columns = [TIME, REQUEST_ID, ROW, TRUTH]
    statement = sql.SQL(f"SELECT {', '.join(columns)} FROM {TRUTHS} ORDER BY time, id")  # noqa: S608  constants
    for rows in _selected(address, statement, []):
        yield _frame(rows, columns, [], None)


def _frame(
    rows: list[tuple[Any, ...]], columns: list[str], prefixes: list[str], wanted: list[str] | None
) -> "pd.DataFrame":
    import pandas as pd

    values = list(zip(*rows, strict=True))
    series: dict[str, Any] = {
        name: pd.Series(pd.DatetimeIndex(each).tz_convert("UTC").as_unit("us") if name == TIME else list(each))
        for name, each in zip(columns, values, strict=False)
        # Of a kind of model that has none.
        if not all(value is None for value in each)
    }
    for prefix, objects in zip(prefixes, values[len(columns) :], strict=True):
        names = dict.fromkeys(name for each in objects if each for name in each)
        for name in names:
            if wanted is None or f"{prefix}{name}" in wanted:
                series[f"{prefix}{name}"] = pd.Series([each.get(name) if each else None for each in objects])
    frame = pd.DataFrame(series)
    for name in frame:
        # A column of numbers all of which are missing.
        if str(name).startswith(PROBABILITY) or frame[name].isna().all():
            frame[name] = pd.to_numeric(frame[name])
    return frame


def _selected(address: str, statement: Any, values: list[Any]) -> Iterator[list[tuple[Any, ...]]]:
    try:
        with _connect(address) as connection:
            set_json_loads(msgspec.json.decode, connection)
            # On the server's side, so that it is never in memory as a whole.
            with connection.transaction(), connection.cursor("log", row_factory=tuple_row) as cursor:
                cursor.itersize = ROWS_PER_FRAME
                cursor.execute(statement, values)
                while rows := cursor.fetchmany(ROWS_PER_FRAME):
                    yield rows
    except psycopg.errors.UndefinedTable as error:
        raise UserError(f"log={address}: nothing was logged in this database; a server logs with serve.log=") from error
    except psycopg.Error as error:
        raise UserError(f"log={address}: the database did not answer: {_reason(error)}") from error


def _connect(address: str, options: str = "") -> "psycopg.Connection[Any]":
    return psycopg.connect(
        address.replace("postgresql+psycopg://", "postgresql://", 1),
        autocommit=True,
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        # A network that swallows what is sent.
        tcp_user_timeout=STATEMENT_TIMEOUT_MS,
        options=options,
    )


def _make_tables(connection: "psycopg.Connection[Any]") -> None:
    columns = ", ".join(f"{_column(name)} {kind}" for name, kind in COLUMNS.items())
    nested = ", ".join(f"{name} jsonb" for name in JSON_COLUMNS)
    with connection.transaction():
        # Two processes that make a table at the same time would disturb each other, IF NOT EXISTS or not.
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [TABLES_LOCK])
        if connection.execute("SELECT to_regclass(%s), to_regclass(%s)", [PREDICTIONS, TRUTHS]).fetchone() == (
            PREDICTIONS,
            TRUTHS,
        ):
            return
        connection.execute(f"CREATE TABLE IF NOT EXISTS {PREDICTIONS} ({columns}, {nested}) PARTITION BY RANGE (time)")
        connection.execute(f"CREATE INDEX IF NOT EXISTS {PREDICTIONS}_time ON {PREDICTIONS} (time)")
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {TRUTHS} (id bigint GENERATED ALWAYS AS IDENTITY, time timestamptz NOT NULL, "
            "request_id text NOT NULL, row integer NOT NULL, truth text NOT NULL)"
        )
        connection.execute(f"CREATE INDEX IF NOT EXISTS {TRUTHS}_time ON {TRUTHS} (time, id)")


def _make_partition(connection: "psycopg.Connection[Any]", day: date) -> None:
    """Make the partition of a day (UTC) where it is missing."""
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [TABLES_LOCK])
    connection.execute(
        sql.SQL("CREATE TABLE IF NOT EXISTS {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})").format(
            sql.Identifier(f"{PREDICTIONS}_{day:%Y%m%d}"),
            sql.Identifier(PREDICTIONS),
            sql.Literal(f"{day} 00:00:00+00"),
            sql.Literal(f"{day + timedelta(days=1)} 00:00:00+00"),
        )
    )


def _column(name: str) -> str:
    return name.replace(".", "_")


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC).replace(microsecond=microseconds % 1_000_000)


def _moment_or_none(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else _moment(microseconds)


def _reason(error: BaseException) -> str:
    """The first line of what PostgreSQL says."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
