"""The tables of a log in PostgreSQL, which the first process that writes makes.

`wineexp_predictions` has a partition for each day, which is dropped as a whole when it is too old: to delete rows would
leave the files as large as they were. Inputs and probabilities are JSON, since versions have different ones, and a
table may have no more than 1,600 columns. `wineexp_truths` has the truths.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql

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
    VARIANT,
    VERSION,
)

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

# Any number that no other program takes: the holder of this lock makes or drops tables.
TABLES_LOCK = 7_411_869


def connect(address: str, options: str = "") -> "psycopg.Connection[Any]":
    """A connection to a database, given up after some seconds."""
    return psycopg.connect(
        address.replace("postgresql+psycopg://", "postgresql://", 1),
        autocommit=True,
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        # A network that swallows what is sent.
        tcp_user_timeout=STATEMENT_TIMEOUT_MS,
        options=options,
    )


def make_tables(connection: "psycopg.Connection[Any]") -> None:
    """Make the tables of predictions and truths where they are missing."""
    columns = ", ".join(f"{column_name(name)} {kind}" for name, kind in COLUMNS.items())
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


def make_partition(connection: "psycopg.Connection[Any]", day: date) -> None:
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


def column_name(name: str) -> str:
    """The name in the table of a column of the log."""
    return name.replace(".", "_")


def moment(microseconds: int) -> datetime:
    """The time so many microseconds after the beginning of 1970, UTC."""
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC).replace(microsecond=microseconds % 1_000_000)


def reason(error: BaseException) -> str:
    """The first line of what PostgreSQL says."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
