"""A log in a folder, as Parquet files.

Parquet, and not a database of SQLite: a segment takes half the bytes of the same rows in SQLite and is read six times
faster, a column at a time; it is deleted as a whole when it is too old; and every tool for tables reads the folder:

    pd.read_parquet("outputs/predictions/wine/version-3")

Many processes write at once, each its own files, and never the same. A row is first in a journal (see `journal`), from
which a segment is made when it is large or old enough. A segment appears whole, and its journal disappears after it;
who reads takes one of the two.

    outputs/predictions/
        wine/version-3/1764348000000000-1764348900000000-a1b2c3d4e5f6.parquet   first and last time, and an id
        _truth/...parquet                                                       what was really the case
        _open/1764348900000000-0a1b2c3d4e5f.jsonl                               journals
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from wineexp.monitoring import journal
from wineexp.monitoring.format import MODEL, TIME, VARIANT, VERSION, Layout

SUFFIX = ".parquet"
TRUTH_FOLDER = "_truth"

# Rows are given out in tables of at least so many, but for the last one.
TABLE_ROWS = 20_000

# A file that a killed process left half written is removed after this time.
STALE_SECONDS = 3600

ARROW_TYPES = {"time": pa.timestamp("us", "UTC"), "text": pa.string(), "number": pa.float64(), "integer": pa.int64()}


@dataclass(frozen=True)
class Selection:
    """Which rows of a log are wanted.

    Attributes
    ----------
    columns : list of str or None
        None for all.
    since, until : int or None
        Microseconds since 1970, UTC: from `since` on, before `until`.
    model, version, variant : str, int, str or None
        None for any.
    """

    columns: list[str] | None = None
    since: int | None = None
    until: int | None = None
    model: str | None = None
    version: int | None = None
    variant: str | None = None


@dataclass(frozen=True)
class _Source:
    """A segment or a journal: its first time, and its last one where that is known."""

    path: Path
    id: str
    start: int
    end: int | None


def seal(folder: Path) -> int:
    """Make segments of the journals that no process writes any more; returns how many.

    Safe at any time, in several processes at once, and to be killed.

    Raises
    ------
    OSError
        The disk is full, say; the journals stay.
    """
    sealed = 0
    for closed in journal.closed(folder):
        with closed:
            layout, rows = journal.read(closed.path)
            if rows:
                write(folder, layout, _table(layout, rows), closed.path.stem.rpartition("-")[2])
            closed.path.unlink()
            sealed += 1
    return sealed


def write(folder: Path, layout: Layout, table: pa.Table, segment_id: str) -> Path:
    """Write a segment, which appears whole.

    Parameters
    ----------
    folder : Path
        The log's.
    layout : Layout
    table : Table
        Of at least one row, with all of the layout's columns.
    segment_id : str
        Hexadecimal digits; a second segment of the same journal takes the place of the first.
    """
    table = table.sort_by(TIME)
    times = table[TIME].cast(pa.int64())
    where = _segment_folder(folder, layout)
    where.mkdir(parents=True, exist_ok=True)
    name = f"{times[0].as_py():016d}-{times[-1].as_py():016d}-{segment_id}{SUFFIX}"
    temporary = where / f".{name}.{time.time_ns()}"
    try:
        # No dictionary for ids, no two of which are the same.
        dictionary = [each for each in table.column_names if pa.types.is_string(table.schema.field(each).type)]
        dictionary = [each for each in dictionary if each != "request_id"]
        pq.write_table(table, temporary, compression="zstd", use_dictionary=dictionary)
        temporary.replace(where / name)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    return where / name


def read(folder: Path, wanted: Selection) -> Iterator[pa.Table]:
    """The logged predictions in order of time, in tables of about `TABLE_ROWS` rows.

    A column that a version does not have is null in its rows.
    """
    sources = [
        *_segments(folder, wanted),
        *(each for each in map(_journal_source, journal.names(folder)) if _may_hold(each, wanted)),
    ]
    return _in_order(folder, sources, wanted)


def read_truths(folder: Path) -> Iterator[pa.Table]:
    """The truths in the order in which they were received."""
    truths = map(_segment_source, sorted((folder / TRUTH_FOLDER).glob(f"*{SUFFIX}")))
    return _in_order(folder, [*truths, *map(_journal_source, journal.names(folder))], None)


def remove_old(folder: Path, *, max_age_seconds: float | None, max_bytes: int | None) -> int:
    """Delete the segments all of whose rows are too old, then the oldest while all together are too large.

    Returns how many. Journals count, and stay. A truth is deleted with the rows of its age.
    """
    now, removed, total = time.time(), 0, 0
    found = []
    for path in folder.rglob(f"*{SUFFIX}*"):
        with suppress(OSError):
            status = path.stat()
            if path.suffix == SUFFIX:
                found.append((_segment_source(path), status.st_size))
                total += status.st_size
            elif now - status.st_mtime > STALE_SECONDS:
                path.unlink()
    for path in journal.names(folder):
        with suppress(OSError):
            total += path.stat().st_size
    for source, size in sorted(found, key=lambda pair: pair[0].end or 0):
        is_old = max_age_seconds is not None and (source.end or 0) / 1e6 < now - max_age_seconds
        if is_old or (max_bytes is not None and total > max_bytes):
            with suppress(OSError):
                source.path.unlink()
                total -= size
                removed += 1
    return removed


def _segment_folder(folder: Path, layout: Layout) -> Path:
    if layout.is_truth:
        return folder / TRUTH_FOLDER
    return folder / quote(str(layout.constants[MODEL]), safe="") / f"version-{layout.constants[VERSION]}"


def _table(layout: Layout, rows: Sequence[Sequence[Any]]) -> pa.Table:
    """Rows of a journal as a table, with the columns that are the same in each."""
    columns = zip(*rows, strict=True) if rows else [()] * len(layout.columns)
    arrays = {
        name: pa.array(values, ARROW_TYPES[kind]) for (name, kind), values in zip(layout.columns, columns, strict=True)
    }
    for name, value in layout.constants.items():
        arrays[name] = pa.repeat(pa.scalar(value, pa.int64() if isinstance(value, int) else pa.string()), len(rows))
    return pa.table(arrays)


def _segments(folder: Path, wanted: Selection) -> Iterator[_Source]:
    model = "[!_.]*" if wanted.model is None else quote(wanted.model, safe="")
    version = "*" if wanted.version is None else str(wanted.version)
    sources = map(_segment_source, folder.glob(f"{model}/version-{version}/[0-9]*{SUFFIX}"))
    return (source for source in sources if _may_hold(source, wanted))


def _segment_source(path: Path) -> _Source:
    start, end, segment_id = path.stem.split("-")
    return _Source(path, segment_id, int(start), int(end))


def _journal_source(path: Path) -> _Source:
    start, _, journal_id = path.stem.partition("-")
    # A row's time is when its request arrived, and its journal may be younger: see `_in_order`.
    return _Source(path, journal_id, int(start), None)


def _may_hold(source: _Source, wanted: Selection) -> bool:
    if source.end is None:
        return True
    return not (
        (wanted.since is not None and source.end < wanted.since)
        or (wanted.until is not None and source.start >= wanted.until)
    )


def _in_order(folder: Path, sources: Sequence[_Source], wanted: Selection | None) -> Iterator[pa.Table]:
    """The rows of sources, which may overlap in time; truths where nothing is `wanted`."""
    journals = [each for each in sources if each.end is None]
    segments = sorted((each for each in sources if each.end is not None), key=lambda each: each.start)
    sealed = {each.id for each in segments}
    # They hold the newest rows, and little: all of them are read at once, so that their first times are known.
    tables = [_load_journal(folder, each, wanted) for each in journals if each.id not in sealed]
    pending = [table for table in tables if table is not None and len(table)]
    for number, source in enumerate(segments):
        table = _load_segment(source, wanted)
        if table is not None and len(table):
            pending.append(table)
        is_last = number + 1 == len(segments)
        if is_last or sum(map(len, pending)) >= TABLE_ROWS:
            next_start = None if is_last else segments[number + 1].start
            ready, pending = _split(pending, next_start)
            yield from ready
    yield from _split(pending, None)[0]


def _split(tables: list[pa.Table], before: int | None) -> tuple[list[pa.Table], list[pa.Table]]:
    """The rows of tables in order of time: those before a time, and those that wait for others."""
    if not tables:
        return [], []
    table = pa.concat_tables(tables, promote_options="default")
    times = table[TIME].cast(pa.int64())
    if len(tables) > 1:
        # A stable sort: equal times stay in the order in which they were written.
        order = pc.sort_indices(times)
        table, times = table.take(order), times.take(order)
    if before is None:
        return [table], []
    cut = len(table) - int(pc.sum(pc.greater_equal(times, before)).as_py() or 0)
    parts = [table.slice(0, cut)], [table.slice(cut)]
    return tuple([part for part in each if len(part)] for each in parts)  # type: ignore[return-value]


def _load_segment(source: _Source, wanted: Selection | None) -> pa.Table | None:
    try:
        file = pq.ParquetFile(source.path)
    except FileNotFoundError:
        # Too old, and deleted meanwhile.
        return None
    with file:
        columns = None
        if wanted is not None and wanted.columns is not None:
            needed = {*wanted.columns, TIME, VARIANT}
            columns = [name for name in file.schema_arrow.names if name in needed]
        return _selected(file.read(columns), wanted)


def _load_journal(folder: Path, source: _Source, wanted: Selection | None) -> pa.Table | None:
    try:
        layout, rows = journal.read(source.path)
    except FileNotFoundError:
        # It has become a segment since the folder was listed.
        found = list(folder.rglob(f"*-{source.id}{SUFFIX}"))
        is_truth = bool(found) and found[0].parent.name == TRUTH_FOLDER
        if not found or is_truth is not (wanted is None):
            return None
        if wanted is not None and found[0] not in {each.path for each in _segments(folder, wanted)}:
            return None
        return _load_segment(_segment_source(found[0]), wanted)
    if layout.is_truth is not (wanted is None):
        return None
    if wanted is not None and any(
        value is not None and layout.constants[name] != value
        for name, value in ((MODEL, wanted.model), (VERSION, wanted.version), (VARIANT, wanted.variant))
    ):
        return None
    table = _table(layout, rows)
    return _selected(table, wanted)


def _selected(table: pa.Table, wanted: Selection | None) -> pa.Table:
    if wanted is None:
        return table
    if wanted.since is not None or wanted.until is not None:
        times = table[TIME].cast(pa.int64())
        if wanted.since is not None:
            table, times = (each.filter(pc.greater_equal(times, wanted.since)) for each in (table, times))
        if wanted.until is not None:
            table = table.filter(pc.less(times, wanted.until))
    if wanted.variant is not None:
        table = table.filter(pc.equal(table[VARIANT], wanted.variant))
    if wanted.columns is not None:
        table = table.select([name for name in table.column_names if name in {*wanted.columns, TIME}])
    return table
