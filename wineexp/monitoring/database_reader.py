"""Reads a log in PostgreSQL; see `database_tables`."""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
from psycopg import sql
from psycopg.rows import tuple_row
from psycopg.types.json import set_json_loads

from wineexp.core.errors import UserError
from wineexp.monitoring.database_tables import (
    COLUMNS,
    JSON_COLUMNS,
    PREDICTIONS,
    STATEMENT_TIMEOUT_MS,
    TRUTHS,
    VERDICTS,
    column_name,
    connect,
    moment,
    reason,
)
from wineexp.monitoring.format import PROBABILITY, REQUEST_ID, ROW, TIME, TRUTH

if TYPE_CHECKING:
    # A server reads verdicts, and does so without pandas.
    import pandas as pd

    from wineexp.monitoring.segments import Selection

ROWS_PER_FRAME = 20_000


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
        sql.SQL(", ").join(sql.Identifier(column_name(name)) for name in [*columns, *nested]),
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


def read_verdicts(address: str, model: str, version: int) -> list[tuple[str, str]]:
    """Kind and JSON of what was said of a version.

    Raises
    ------
    OSError
        The database did not answer, or nothing was ever said.
    """
    try:
        with connect(address, options=f"-c statement_timeout={STATEMENT_TIMEOUT_MS}") as connection:
            return connection.execute(
                f"SELECT kind, said FROM {VERDICTS} WHERE model = %s AND version = %s",  # noqa: S608  a constant
                [model, version],
            ).fetchall()
    except psycopg.Error as error:
        raise OSError(reason(error)) from error


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
        with connect(address) as connection:
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
        raise UserError(f"log={address}: the database did not answer: {reason(error)}") from error


def _moment_or_none(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else moment(microseconds)
