"""Reads and opens a prediction log: a folder, or the address of a PostgreSQL database.

    for frame in prediction_log.read("outputs/predictions", version=3, since="2026-11-01"):
        ...

`format` lists the columns.
"""

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from wineexp.core.addresses import with_credentials, without_credentials
from wineexp.core.errors import UserError
from wineexp.monitoring.folder import FolderStore
from wineexp.monitoring.format import REQUEST_ID, ROW, TIME, TRUTH, VARIANT, Layout
from wineexp.monitoring.writer import Store

if TYPE_CHECKING:
    # A server opens a log, and does so without pandas.
    import pandas as pd

    from wineexp.monitoring.segments import Selection
    from wineexp.monitoring.truth import JoinCounts

# Of the row, and in a joined log of the truth.
ALWAYS = (TIME, REQUEST_ID, ROW, VARIANT)


class TruthStore(Store, Protocol):
    """A log that is written to."""

    def write(self, layout: Layout, rows: Sequence[Sequence[Any]]) -> None:
        """Write predictions, each with its values in the layout's order: all or none.

        Raises
        ------
        OSError
            They could not be written.
        """

    def write_truths(self, rows: Sequence[tuple[int, str, int, str]]) -> None:
        """Write truths: when they were received (microseconds since 1970, UTC), request id, row, true value.

        Raises
        ------
        OSError
            They could not be written.
        """


def is_database(address: str) -> bool:
    """Whether a log's address is that of a database."""
    return "://" in address


def check_address(setting: str, address: str) -> None:
    """Check that an address can be that of a log.

    Raises
    ------
    UserError
        It names another kind of database, or a file.
    """
    shown = without_credentials(address)
    if is_database(address):
        if not address.startswith(("postgresql://", "postgresql+psycopg://")):
            raise UserError(
                f"{setting}={shown}: a log is a folder or a PostgreSQL database; give a path, or an address such as "
                "postgresql://user@host/name"
            )
        if importlib.util.find_spec("psycopg") is None:
            raise UserError(f"{setting}={shown}: a database needs psycopg; run pip install 'psycopg[binary]'")
    elif Path(address).exists() and not Path(address).is_dir():
        raise UserError(f"{setting}={shown}: this is a file, and a log is a folder; give a folder's path")


def check_log(setting: str, address: str) -> None:
    """Check that there is a log at an address: a folder that a server made; a database is found out when it is used.

    Raises
    ------
    UserError
        As `check_address`; or there is no such folder.
    """
    check_address(setting, address)
    if not is_database(address) and not Path(address).is_dir():
        raise UserError(f"{setting}={address}: there is no such folder; a server makes one with serve.log={address}")


def check_part(log: str | None, **times: str | None) -> list[str]:
    """The faults of a config that names a log, and a part of it by times: one sentence each.

    Parameters
    ----------
    log : str or None
        The key `log`.
    **times : str or None
        Other keys, such as `since` and `until`.
    """
    faults: list[str] = []
    try:
        if not log:
            raise UserError("log: nothing is given; log=outputs/predictions, or the log of the server")
        check_log("log", log)
    except UserError as error:
        faults += error.faults
    for key, text in times.items():
        try:
            datetime.fromisoformat(text or "2000-01-01")
        except ValueError:
            faults.append(f"{key}={text}: this is no time; give one such as 2026-11-01 or 2026-11-01T08:00")
    return faults


def open_store(address: str, max_age_days: float | None = None, max_bytes: int | None = None) -> TruthStore:
    """A log to write to, which holds rows for so many days and in so many bytes; nothing is written yet."""
    if is_database(address):
        from wineexp.monitoring.database import DatabaseStore

        return DatabaseStore(with_credentials(address), max_age_days, max_bytes)
    return FolderStore(Path(address), max_age_days, max_bytes)


def read(
    address: str,
    *,
    columns: Sequence[str] | None = None,
    since: "datetime | str | None" = None,
    until: "datetime | str | None" = None,
    model: str | None = None,
    version: int | None = None,
    variant: str | None = None,
) -> "Iterator[pd.DataFrame]":
    """The logged predictions in order of time, as frames of some ten thousand rows; none where nothing is logged.

    Parameters
    ----------
    address : str
        The log's folder, or database.
    columns : sequence of str, optional
        Names of columns, see `format`; all by default. `time` comes with them. A column that a version does not have is
        missing in its rows, or altogether.
    since, until : datetime or str, optional
        Rows from this time on, and before this time; a time without a zone is UTC.
    model, version, variant : optional
        Rows of these alone.

    Raises
    ------
    UserError
        There is no such log, or the database cannot be reached.
    """
    wanted = _selection(columns, since, until, model, version, variant)
    for frame in _frames(address, wanted):
        if len(frame):
            yield frame.reset_index(drop=True)


def read_with_truth(
    address: str,
    *,
    columns: Sequence[str] | None = None,
    since: "datetime | str | None" = None,
    until: "datetime | str | None" = None,
    model: str | None = None,
    version: int | None = None,
    variant: str | None = None,
    only_joined: bool = True,
    counts: "JoinCounts | None" = None,
) -> "Iterator[pd.DataFrame]":
    """As `read`, with the columns `truth` and `truth_time` beside those asked for; each truth is joined once.

    Parameters
    ----------
    address, columns, since, until, model, version, variant
        As for `read`; `request_id`, `row` and `variant` come with the columns, too.
    only_joined : bool
        Whether predictions without a truth are left out; otherwise both columns are missing in their rows.
    counts : JoinCounts, optional
        To which is added, by the end, what became of predictions and truths. Truths of rows that were not asked for
        count as unjoined.

    Raises
    ------
    UserError
        As `read`.

    Notes
    -----
    `truth` is a number for predicted numbers, and otherwise a text, as is `decision`. `truth_time` is when it was
    received.
    """
    from wineexp.monitoring.truth import JoinCounts, Truths, gathered

    counts = counts if counts is not None else JoinCounts()
    needed = None if columns is None else [*dict.fromkeys([*columns, *ALWAYS])]
    # Truths say whether they are numbers by what the model predicts.
    wanted = _selection(None if needed is None else [*needed, "number"], since, until, model, version, variant)
    with Truths(read_truths(address), counts) as truths:
        for frame in gathered(_frames(address, wanted)):
            joined = truths.join(frame)
            if needed is not None:
                joined = joined[[name for name in joined if name in {*needed, TRUTH, "truth_time"}]]
            joined = joined[joined[TRUTH].notna()] if only_joined else joined
            if len(joined):
                yield joined.reset_index(drop=True)
        truths.count_unjoined(read_truths(address))


def read_truths(address: str) -> "Iterator[pd.DataFrame]":
    """All truths in the order in which they were received: columns `time`, `request_id`, `row`, `truth`.

    Raises
    ------
    UserError
        As `read`.
    """
    if is_database(address):
        from wineexp.monitoring import database_reader

        yield from database_reader.read_truths(with_credentials(address))
        return
    from wineexp.monitoring import segments

    for table in segments.read_truths(_folder(address)):
        yield table.to_pandas()


def append(address: str, model: str, version: int, frame: "pd.DataFrame", variant: str = "champion") -> None:
    """Write predictions that are in a frame into a log's folder: for simulations, and from other servers.

    Parameters
    ----------
    address : str
        A folder.
    model : str
    version : int
    frame : DataFrame
        The columns that `format` lists, but for model, version and variant; `time`, `request_id` and `row` must be
        there.
    variant : str
    """
    import os

    import pyarrow as pa

    from wineexp.monitoring import segments

    if not len(frame):
        return
    constants: dict[str, str | int] = {"model": model, "version": version, "variant": variant}
    kinds = [(name, _kind(frame[name])) for name in map(str, frame)]
    # Of a series with a time zone pyarrow takes values in a way that pandas warns of.
    columns = {name: frame[name].dt.tz_convert(None) if kind == "time" else frame[name] for name, kind in kinds}
    arrays = {name: pa.array(columns[name], segments.ARROW_TYPES[kind], from_pandas=True) for name, kind in kinds} | {
        name: pa.repeat(pa.scalar(value, pa.int64() if isinstance(value, int) else pa.string()), len(frame))
        for name, value in constants.items()
    }
    segments.write(Path(address), Layout(kinds, constants), pa.table(arrays), os.urandom(6).hex())


def append_truths(address: str, rows: Iterable[tuple[int, str, int, str]], rows_at_once: int = 10_000) -> int:
    """Write truths, as `TruthStore.write_truths` takes them, into a log; returns how many.

    Raises
    ------
    OSError
        They could not be written; some of them may be.
    """
    from itertools import islice

    store, written, rest = open_store(address), 0, iter(rows)
    try:
        while part := list(islice(rest, rows_at_once)):
            store.write_truths(part)
            written += len(part)
    finally:
        store.close()
    return written


def _kind(column: "pd.Series") -> Any:
    import pandas as pd

    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return "time"
    if pd.api.types.is_integer_dtype(column) and column.name == ROW:
        return "integer"
    return "number" if pd.api.types.is_numeric_dtype(column) else "text"


def _selection(
    columns: Sequence[str] | None,
    since: Any,
    until: Any,
    model: str | None,
    version: int | None,
    variant: str | None,
) -> "Selection":
    from wineexp.monitoring.segments import Selection

    names = None if columns is None else [*columns]
    return Selection(names, _microseconds(since), _microseconds(until), model, version, variant)


def _microseconds(moment: Any) -> int | None:
    """Microseconds since 1970, UTC, of a time without a zone or with one."""
    if moment is None:
        return None
    import pandas as pd

    stamp = pd.Timestamp(moment)
    stamp = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
    # Not by its nanoseconds, which end in 2262.
    return int(stamp.as_unit("us").asm8.view("i8"))


def _frames(address: str, wanted: "Selection") -> "Iterator[pd.DataFrame]":
    if is_database(address):
        from wineexp.monitoring import database_reader

        yield from database_reader.read(with_credentials(address), wanted)
        return
    from wineexp.monitoring import segments

    for table in segments.read(_folder(address), wanted):
        yield table.to_pandas()


def _folder(address: str) -> Path:
    """The folder of a log that is there, what is in closed journals made segments where that can be written.

    Raises
    ------
    UserError
        There is none.
    """
    from wineexp.monitoring import segments

    check_log("log", address)
    folder = Path(address)
    with suppress(OSError):
        segments.seal(folder)
    return folder
