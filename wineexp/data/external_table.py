"""A table in Parquet files that is read in batches, of which only hashes, in a file, and a sample of rows are kept."""

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from wineexp.core.errors import UserError
from wineexp.core.progress_lines import ProgressLines
from wineexp.data import column_rules, table_file
from wineexp.data.column_rules import ColumnRule, Parsed
from wineexp.data.row_hashes import SAMPLE_SALT, Hashes, chunks, mixed
from wineexp.data.schema import snake_case
from wineexp.data.table_file import RawTable, Violation

if TYPE_CHECKING:
    from wineexp.core.dask_workers import DaskWorkers

MEMORY, EXTERNAL, DASK = ENGINES = ("memory", "external", "dask")

# Rows of a batch: with 28 columns of numbers, 15 MB.
BATCH_ROWS = 1 << 16
# Rows of each file that types of columns are inferred from, where neither the file nor the config says them.
HEAD_ROWS = 20_000
# Parts in which repeated rows are counted, one after the other.
N_COUNTING_PARTS = 16
READ_BUFFER_BYTES = 1 << 20


class File(NamedTuple):
    """A Parquet file: its name for messages, and where it is."""

    name: str
    path: Path


class ScratchFolder:
    """A folder for files that are needed as long as this object is; `TMPDIR` says where.

    Attributes
    ----------
    path : Path
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="wineexp-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


class Batch(NamedTuple):
    """Some of the rows, one after the other: the number of the first in the whole table, and their columns."""

    start: int
    frame: pd.DataFrame


@dataclass(frozen=True)
class ExternalTable:
    """Parquet files of the same columns, and what one pass through them found.

    Attributes
    ----------
    files : sequence of File
    rules : mapping of str to ColumnRule
        Of each column that is read, its type included.
    missing_words, decimal
        As of `column_rules.parse`.
    scratch : ScratchFolder
    features : tuple of str
        Columns that a row's contents are, unless one of them is the target.
    group : str or None
        Column of the rows that belong together.
    hashes : ndarray of uint64 of shape (n_rows,)
        Of each row's group, or else of its features; it lies in a file.
    sampled : ndarray of int of shape (n_sample,)
        Numbers of the rows that the sample is made of, ascending.
    n_duplicates : int
        Rows that repeat an earlier one in every column.
    workers : DaskWorkers, or None
        What models are trained on, where it is not this process.
    """

    files: Sequence[File]
    rules: Mapping[str, ColumnRule]
    missing_words: Sequence[str]
    decimal: str | None
    scratch: ScratchFolder = field(repr=False)
    features: tuple[str, ...] = ()
    group: str | None = None
    hashes: Hashes = field(default_factory=lambda: np.empty(0, dtype=np.uint64), repr=False)
    sampled: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64), repr=False)
    n_duplicates: int = 0
    workers: "DaskWorkers | None" = None

    @property
    def n_rows(self) -> int:
        """Of all files together."""
        return len(self.hashes)

    def batches(self, names: Sequence[str], *, is_checked: bool = False, rows: range | None = None) -> Iterator[Batch]:
        """These columns of all rows, or of some, parsed, in their order.

        Parameters
        ----------
        names : sequence of str
        is_checked : bool
            Whether the cells were checked in an earlier pass.
        rows : range, optional
            The numbers of the rows, where it is not all; other row groups of the files are not read.

        Raises
        ------
        UserError
            Cells of a batch break a rule; it lists the faults of this batch.
        """
        rows = range(count_rows(self.files)) if rows is None else rows
        lines = ProgressLines(f"going through {len(rows):,} rows", len(rows))
        first = 0
        for file in self.files:
            n_rows = count_rows([file])
            inside = range(max(rows.start - first, 0), min(rows.stop - first, n_rows))
            start = first + inside.start
            for table in arrow_batches(file, set(names), inside):
                columns = {snake_case(name): cells for name, cells in table_file.parquet_columns(table).items()}
                raw = RawTable(file.name, columns, np.arange(start, start + len(table)) - first, "row", None, None, [])
                frame = self._parsed(raw, names, is_checked=is_checked)
                yield Batch(start, frame)
                start += len(frame)
                lines.show(start - rows.start)
            first += n_rows

    def _parsed(self, raw: RawTable, names: Sequence[str], *, is_checked: bool) -> pd.DataFrame:
        parsed = {name: self.parse(name, raw.columns[name]) for name in names}
        if not is_checked:
            violations = [
                Violation(name, rule, rows)
                for name, column in parsed.items()
                for rule, rows in column.faults
                if rows.size
            ]
            if faults := table_file.report(raw, violations):
                last = int(raw.places[-1])
                raise UserError(*faults, f"{raw.name}: rows after {last:,} were not looked at, because of these faults")
        return pd.DataFrame({name: column.values for name, column in parsed.items()})

    def parse(self, name: str, cells: pd.Series) -> Parsed:
        """The values of some cells of a column."""
        return column_rules.parse(cells, self.rules[name], missing_words=self.missing_words, decimal=self.decimal)

    def row_hashes(self, without: str) -> Hashes:
        """As `hashes`, with a column, the target, that is none of a row's contents: (n_rows,), in a file."""
        if self.group is not None or without not in self.features:
            return self.hashes
        names = [name for name in self.features if name != without]
        found = self._new_hashes(f"without {without}", self.n_rows)
        for start, frame in self.batches(names, is_checked=True):
            found[start : start + len(frame)] = content_hashes(frame)
        return found

    def _new_hashes(self, name: str, n_rows: int) -> Hashes:
        path = self.scratch.path / f"{name.replace('/', '_')}.hashes"
        return np.memmap(path, np.uint64, "w+", shape=(n_rows,))

    def is_sampled(self, start: int, n_rows: int) -> npt.NDArray[np.bool_]:
        """Which of so many rows from a number on are in the sample: (n_rows,)."""
        first, last = np.searchsorted(self.sampled, [start, start + n_rows])
        chosen = np.zeros(n_rows, dtype=bool)
        chosen[self.sampled[first:last] - start] = True
        return chosen


def content_hashes(frame: pd.DataFrame) -> Hashes:
    """A hash of each row's values, whatever its index: (n_rows,)."""
    return np.asarray(pd.util.hash_pandas_object(frame, index=False), dtype=np.uint64)


def arrow_batches(file: File, names: set[str] | None = None, rows: range | None = None) -> Iterator[pa.Table]:
    """The rows of a file, or some of them, in batches, with all columns, or those that are called so without spaces.

    Raises
    ------
    UserError
        It is no Parquet file that can be read.
    """
    try:
        with pa.parquet.ParquetFile(file.path, buffer_size=READ_BUFFER_BYTES, pre_buffer=False) as parquet:
            titles = [title for title in parquet.schema_arrow.names if names is None or snake_case(title) in names]
            rows = range(parquet.metadata.num_rows) if rows is None else rows
            groups, start = _row_groups(parquet.metadata, rows)
            for batch in parquet.iter_batches(BATCH_ROWS, row_groups=groups, columns=titles, use_threads=False):
                first, last = max(rows.start - start, 0), min(rows.stop - start, len(batch))
                start += len(batch)
                if first < last:
                    yield table_file.plain(pa.Table.from_batches([batch.slice(first, last - first)]))
    # pyarrow raises errors of its own, of which some are OSErrors and others ValueErrors.
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(
            f"{file.name} is no Parquet file that can be read ({error}); data.engine=external reads no other, and "
            "pyarrow, DuckDB and Polars write CSV as Parquet piece by piece"
        ) from error


def _row_groups(metadata: pa.parquet.FileMetaData, rows: range) -> tuple[list[int], int]:
    """The numbers of the row groups of a file that some rows are in, and the number of the first of all their rows."""
    edges = np.cumsum([0, *(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))])
    groups = np.flatnonzero((edges[1:] > rows.start) & (edges[:-1] < rows.stop)).tolist()
    return groups, int(edges[groups[0]]) if groups else 0


def head(file: File) -> RawTable:
    """The first `HEAD_ROWS` rows of a file."""
    table = next(arrow_batches(file), None)
    if table is None:
        raise UserError(f"{file.name} holds no rows")
    if fault := table_file.repeated_names(file.name, table.column_names):
        raise UserError(fault)
    table = table.slice(0, HEAD_ROWS)
    return RawTable(file.name, table_file.parquet_columns(table), np.arange(len(table)), "row", None, None, [])


def typed_rule(rule: ColumnRule, head: Parsed, cells: pd.Series) -> ColumnRule:
    """A rule with the type, and the format of dates, that the first rows were read with, so that all rows are.

    Parameters
    ----------
    rule : ColumnRule
        What is said of the column.
    head : Parsed
        Its first rows.
    cells : Series of shape (n_head,)
        The first rows as they stand in the file.
    """
    is_text = head.type == "date" and isinstance(cells.dtype, pd.StringDtype)
    date_format = column_rules.inferred_format(cells.dropna().str.strip()) if is_text else ""
    return replace(rule, type=head.type, format=rule.format or date_format)


def open_table(
    files: Sequence[File],
    rules: Mapping[str, ColumnRule],
    features: tuple[str, ...],
    group: str | None,
    *,
    missing_words: Sequence[str],
    decimal: str | None,
    sample_rows: int,
) -> tuple[ExternalTable, dict[str, Parsed]]:
    """Check all rows of Parquet files, hash them and draw a sample.

    Parameters
    ----------
    files : sequence of File
    rules : mapping of str to ColumnRule
        Of each column that is read, its type included.
    features : tuple of str
    group : str or None
    missing_words, decimal
        As of `column_rules.parse`.
    sample_rows : int
        About so many rows are drawn; all, where there are no more.

    Returns
    -------
    table : ExternalTable
    sample : dict of str to Parsed
        The columns of the sample.

    Raises
    ------
    UserError
        Cells break a rule, or a file cannot be read.
    """
    table = ExternalTable(files, rules, missing_words, decimal, ScratchFolder(), features, group)
    n_rows = count_rows(files)
    hashes, contents = table._new_hashes("rows", n_rows), table._new_hashes("contents", n_rows)
    limit = np.uint64(min(1.0, sample_rows / n_rows) * (2**64 - 2**11))
    parts: list[pd.DataFrame] = []
    sampled: list[npt.NDArray[np.int64]] = []
    for start, frame in table.batches(list(rules)):
        rows = slice(start, start + len(frame))
        contents[rows] = content_hashes(frame)
        hashes[rows] = content_hashes(frame[[group] if group else list(features)])
        numbers = np.arange(rows.start, rows.stop)
        # By the number of the row, so that neither many copies nor large groups make it large.
        chosen = mixed(numbers.astype(np.uint64), SAMPLE_SALT, SAMPLE_SALT) <= limit
        sampled.append(numbers[chosen])
        parts.append(frame[chosen])
    sample = pd.concat(parts, ignore_index=True)
    n_duplicates = n_rows - _count_different(contents)
    Path(contents.filename).unlink()  # type: ignore[attr-defined]
    columns = {name: Parsed(sample[name], str(rule.type), []) for name, rule in rules.items()}
    found = replace(table, hashes=hashes, sampled=np.concatenate(sampled), n_duplicates=n_duplicates)
    return found, columns


def count_rows(files: Sequence[File]) -> int:
    """The rows of Parquet files, as their ends tell them."""
    return sum(int(pa.parquet.read_metadata(file.path).num_rows) for file in files)


def _count_different(hashes: Hashes) -> int:
    """The number of different hashes (n_rows,), a part of them at a time."""
    return sum(
        len(np.unique(np.concatenate([chunk[chunk % np.uint64(N_COUNTING_PARTS) == part] for chunk in chunks(hashes)])))
        for part in range(N_COUNTING_PARTS)
    )
