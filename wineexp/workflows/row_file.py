"""Reads a CSV or Parquet file in chunks, however large it is, and knows on which line each row is."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from wineexp.core.csv_hints import named_separator
from wineexp.core.errors import UserError

SEPARATORS = ",;\t"
PARQUET = (".parquet", ".pq")

# Faults of one file that a message lists.
MAX_LISTED_FAULTS = 20


@dataclass(frozen=True)
class Chunk:
    """Rows that follow each other in a file.

    Attributes
    ----------
    places : list of int
        The line on which each row ends, from 1; the number of each row, from 1, in a Parquet file.
    rows : list of list
        Their cells, as texts in a CSV file, else as Python's values.
    read : int
        How much of the file was read so far, as `RowFile.size` counts it.
    """

    places: list[int]
    rows: list[list[Any]]
    read: int


class RowFile:
    """A file of rows.

    Parameters
    ----------
    setting : str
        The setting that names the file, for messages.
    path : Path
        A Parquet file where its name ends in `.parquet`, otherwise a CSV file in UTF-8, separated by commas, semicolons
        or tabs.

    Attributes
    ----------
    columns : list of str
    types : list of DataType
        What Arrow calls the columns' types.
    size : int
        Bytes of a CSV file, rows of a Parquet file.
    place : str
        What `Chunk.places` counts: `line` or `row`.

    Raises
    ------
    UserError
        There is no such file, or no table in it.
    """

    def __init__(self, setting: str, path: Path) -> None:
        self.name = f"{setting}={path}"
        self.path = path
        self.is_parquet = path.suffix.lower() in PARQUET
        self.place = "row" if self.is_parquet else "line"
        if not path.is_file():
            raise UserError(f"{self.name}: there is no such file; give the path of a CSV or Parquet file")
        try:
            if self.is_parquet:
                with pq.ParquetFile(path) as file:
                    self.columns, self.types = list(file.schema_arrow.names), list(file.schema_arrow.types)
                    self.size = file.metadata.num_rows
            else:
                self.size = path.stat().st_size
                with path.open("rb") as binary, _text(binary) as text:
                    _, self.columns = self._head(text)
                self.types = [pa.string()] * len(self.columns)
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{self.name}: cannot be read: {error}") from error
        if not self.columns:
            raise UserError(f"{self.name}: the file is empty; a line that names the columns is wanted, and rows")
        if repeated := sorted({name for name in self.columns if self.columns.count(name) > 1}):
            raise UserError(f"{self.name}: the columns {', '.join(repeated)} are there more than once; rename them")

    def chunks(self, n_rows: int, skipped: int = 0) -> Iterator[Chunk]:
        """The rows after the first `skipped`, in chunks of `n_rows`.

        Raises
        ------
        UserError
            A line has another number of cells than the header, or cannot be read; says which.
        """
        return self._parquet_chunks(n_rows, skipped) if self.is_parquet else self._csv_chunks(n_rows, skipped)

    def _csv_chunks(self, n_rows: int, skipped: int) -> Iterator[Chunk]:
        with self.path.open("rb") as binary, _text(binary) as text:
            rows, columns = self._head(text)
            try:
                for _ in islice(filter(None, rows), skipped):
                    pass
                while True:
                    places: list[int] = []
                    cells: list[list[Any]] = []
                    faults: list[str] = []
                    for row in islice(filter(None, rows), n_rows):
                        if len(row) != len(columns) and len(faults) < MAX_LISTED_FAULTS:
                            faults.append(
                                f"{self.name}: line {rows.line_num} has {len(row)} cells, and the header {len(columns)}"
                            )
                        places.append(rows.line_num)
                        cells.append(row)
                    if faults:
                        raise UserError(*faults)
                    if not cells:
                        return
                    yield Chunk(places, cells, min(binary.tell(), self.size))
            except csv.Error as error:
                raise UserError(f"{self.name}: line {rows.line_num} is no line of a CSV file: {error}") from error
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{self.name}: not in UTF-8 after line {rows.line_num}: {error.reason}; save it as UTF-8"
                ) from error

    def _parquet_chunks(self, n_rows: int, skipped: int) -> Iterator[Chunk]:
        done = 0
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(n_rows):
                # Batches end where the file's groups of rows do: some are smaller.
                start = max(0, min(skipped - done, len(batch)))
                done += len(batch)
                part = batch.slice(start)
                if len(part):
                    values = [column.to_pylist() for column in part.columns]
                    places = list(range(done - len(part) + 1, done + 1))
                    yield Chunk(places, [list(row) for row in zip(*values, strict=True)], done)

    def _head(self, text: io.TextIOWrapper) -> tuple[Any, list[str]]:
        """The reader of the rows, behind the header, and the columns that the header names."""
        try:
            first = text.readline()
            separator, lines = named_separator(first), chain([], text)
            if separator is None:
                separator, lines = max(SEPARATORS, key=first.count), chain([first], text)
            rows = csv.reader(lines, delimiter=separator, strict=True)
            return rows, next(rows, [])
        except UnicodeDecodeError as error:
            raise UserError(f"{self.name}: not in UTF-8: {error.reason}; save it as UTF-8") from error
        except csv.Error as error:
            raise UserError(f"{self.name}: the first line is no line of a CSV file: {error}") from error


def _text(binary: BinaryIO) -> io.TextIOWrapper:
    return io.TextIOWrapper(binary, "utf-8-sig", newline="")


def listed(faults: Sequence[str], total: int) -> list[str]:
    """Faults for a message: the first ones, and how many more there are."""
    shown = list(faults[:MAX_LISTED_FAULTS])
    return [*shown, f"{total - len(shown):,} more of such"] if total > len(shown) else shown
