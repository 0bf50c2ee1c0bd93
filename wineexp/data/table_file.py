"""Files of tables, read into columns of cells as they stand in the file, and the report of what is wrong with cells."""

import csv
import io
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from wineexp.core.csv_hints import named_separator
from wineexp.core.errors import UserError, brief
from wineexp.data.schema import snake_case

# So many faults of one kind are listed one by one; of more, the first few are.
MAX_LISTED, N_LISTED_OF_MANY = 5, 3
# Characters of a line or a value that an error repeats.
MAX_LINE_CHARS = 80

DECIMAL_COMMA = "written with a decimal comma; say decimal: ',' where all are"

# What may separate the values of a CSV file, the likeliest first, and the lines that are looked at to find out.
SEPARATORS, N_SNIFFED_LINES = (",", ";", "\t", "|"), 20
# Lines that are gathered before their cells are packed, which take a tenth of the memory of Python's own strings.
CHUNK_LINES = 1 << 12


@dataclass(frozen=True)
class RawTable:
    """The cells of a file.

    Attributes
    ----------
    name : str
        The file's name, for messages.
    columns : dict of str to Series of shape (n_rows,)
        By the column's name in the file: the texts of a CSV file, or whatever a Parquet file holds.
    places : ndarray of int of shape (n_rows,)
        The line of each row, from 1, in a CSV file, and its number, from 0, in a Parquet file.
    place : str
        What `places` are: `line` or `row`.
    header_line : int or None
        The line that names the columns; None where none does.
    separator : str or None
        Of a CSV file.
    faults : list of Fault
        What is wrong with the file whatever its columns mean.
    """

    name: str
    columns: dict[str, pd.Series]
    places: npt.NDArray[np.int64]
    place: str
    header_line: int | None
    separator: str | None
    faults: "list[Fault]"


class Fault(NamedTuple):
    """One thing that is wrong with a file: where, for sorting, and the sentence about it."""

    place: int
    text: str


class Violation(NamedTuple):
    """A rule that cells of a column break.

    Attributes
    ----------
    column : str
    rule : str
        How the sentence `'12' is ...` ends.
    rows : ndarray of int
        Positions of the cells in the column, ascending.
    """

    column: str
    rule: str
    rows: npt.NDArray[np.intp]


def read(
    content: bytes, name: str, *, separator: str | None, encoding: str | None, header: Sequence[str] | None
) -> RawTable:
    """The cells of a CSV file, or of a Parquet file, which is known by its first bytes.

    Parameters
    ----------
    content : bytes
    name : str
        The file's name, for messages.
    separator : str or None
        What separates the values of a CSV file; None takes what its first line names, as `sep=;`, or finds out.
    encoding : str or None
        Of a CSV file; None takes UTF-8, with or without a byte order mark, or the UTF-16 that such a mark announces.
    header : sequence of str or None
        The columns of a CSV file without a line that names them.

    Raises
    ------
    UserError
        It cannot be read at all.
    """
    if content.startswith(b"PAR1"):
        return _read_parquet(content, name)
    if encoding is None:
        encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return _read_csv(content, name, separator=separator, encoding=encoding, header=header)
    except LookupError as error:
        raise UserError(f"data.encoding={encoding}: Python knows no such encoding; utf-8, latin-1, cp1252") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name} is not CSV text in {encoding.removesuffix('-sig').upper()}: {error}; say encoding: in the data "
            "set's YAML, such as latin-1 or cp1252"
        ) from error


def _read_parquet(content: bytes, name: str) -> RawTable:
    try:
        table = plain(pa.parquet.read_table(io.BytesIO(content)))
    # pyarrow raises errors of its own, of which some are OSErrors and others ValueErrors.
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{name} is no Parquet file that can be read: {error}") from error
    if fault := repeated_names(name, table.column_names):
        return RawTable(name, {}, np.arange(0), "row", None, None, [Fault(0, fault)])
    faults = [] if len(table) else [Fault(0, f"{name} holds no rows")]
    return RawTable(name, parquet_columns(table), np.arange(len(table)), "row", None, None, faults)


def parquet_columns(table: pa.Table) -> dict[str, pd.Series]:
    """The cells of a table that `plain` gave, each column of shape (n_rows,), by their names."""
    # pandas would make floats of integers some of which are missing, and long ones would lose their last digits.
    frame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype(), pa.uint64(): pd.UInt64Dtype()}.get)
    columns = {str(column): frame[column].reset_index(drop=True) for column in frame}
    for field in table.schema:
        if pa.types.is_nested(field.type) and field.name in columns:
            # Lists, of whose texts none leaves anything out, as that of a long array of numpy's does.
            columns[field.name] = pd.Series(table[field.name].to_pylist(), dtype=object)
    return columns


def plain(table: pa.Table) -> pa.Table:
    """The table with such types of columns as pandas has: no decimals, and dates as timestamps."""
    fields = [field.with_type(_plain_type(field.type)) for field in table.schema]
    return table.cast(pa.schema(fields, table.schema.metadata))


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_decimal(kind):
        # Without decimals they may be names of many digits, as many databases export their keys: what is said of the
        # column, or else its cells, decide.
        return pa.string() if kind.scale == 0 else pa.float64()
    return pa.timestamp("us") if pa.types.is_date(kind) else kind


def repeated_names(where: str, names: Sequence[str]) -> str | None:
    """What is wrong where several columns have the same name without spaces."""
    plain = [snake_case(column) for column in names]
    repeated = sorted({column for column in names if plain.count(snake_case(column)) > 1})
    if not repeated:
        return None
    listed = brief(", ".join(map(repr, repeated)), MAX_LINE_CHARS)
    return f"{where}: several columns have the same name: {listed}; rename them"


def _read_csv(
    content: bytes, name: str, *, separator: str | None, encoding: str, header: Sequence[str] | None
) -> RawTable:
    # Decoded piece by piece, because the text of a whole file takes several times its bytes.
    text = io.TextIOWrapper(io.BytesIO(content), encoding, newline="")
    first_lines = [*islice(text, N_SNIFFED_LINES)]
    named = named_separator(first_lines[0]) if first_lines else None
    separator = separator or named or sniff_separator(first_lines)
    text = io.TextIOWrapper(io.BytesIO(content), encoding, newline="")
    n_skipped = len([*islice(text, 0 if named is None else 1)])
    reader = csv.reader(text, delimiter=separator)
    names: list[str] | None = list(header) if header is not None else None
    parts: list[list[pa.Array]] = [[] for _ in names or []]
    chunk: list[list[str]] = []
    lines = array("q")
    misfits: list[tuple[int, list[str]]] = []

    def pack() -> None:
        for part, cells in zip(parts, zip(*chunk, strict=True), strict=False):
            part.append(pa.array(cells, pa.large_string()))
        chunk.clear()

    try:
        for row in reader:
            if names is None:
                names = [cell.strip() or f"column {number}" for number, cell in enumerate(row, 1)]
                parts = [[] for _ in names]
            elif len(row) != len(names):
                misfits.append((n_skipped + reader.line_num, row))
            else:
                chunk.append(row)
                lines.append(n_skipped + reader.line_num)
                if len(chunk) == CHUNK_LINES:
                    pack()
        pack()
    except csv.Error as error:
        raise UserError(f"{name}, line {n_skipped + reader.line_num}: not CSV text: {error}") from error
    while misfits and not misfits[-1][1] and (not lines or misfits[-1][0] > lines[-1]):
        # Blank lines at the end of a file are no rows.
        misfits.pop()
    if not lines and not misfits:
        raise UserError(f"{name} holds no rows")
    names = names or []
    rule = f"there are {len(names)} columns, separated by {separator!r}"
    faults = _listed(
        f"{name}: {{count}} more lines, up to line {{last}}, have another number of values; {rule}",
        [line for line, _ in misfits],
        [
            f"{name}, line {line}: {len(row)} values ({brief(separator.join(row), MAX_LINE_CHARS)!r}), {rule}"
            for line, row in misfits[:MAX_LISTED]
        ],
    )
    header_line = n_skipped + 1 if header is None else None
    if fault := repeated_names(f"{name}, line {header_line}" if header_line else name, names):
        faults.insert(0, Fault(1, fault))
    columns = {
        column: pd.Series(pa.chunked_array(part, pa.large_string()), dtype="str")
        for column, part in zip(names, parts, strict=True)
    }
    return RawTable(name, columns, np.array(lines, dtype=np.int64), "line", header_line, separator, faults)


def sniff_separator(lines: Sequence[str]) -> str:
    """What separates the values of a CSV file: what gives most of its first lines the same number of values, over 1."""

    def agreement(separator: str) -> tuple[int, int]:
        widths = [len(row) for row in csv.reader(lines, delimiter=separator)]
        width = widths[0] if widths else 1
        return (widths.count(width) if width > 1 else 0), width

    return max(SEPARATORS, key=agreement)


def report(table: RawTable, violations: Sequence[Violation]) -> list[str]:
    """Sentences about a file and the rules that its cells break, by line; many of one kind are grouped."""
    kinds: dict[tuple[str, str], list[Violation]] = defaultdict(list)
    for violation in violations:
        # A decimal comma is a property of the file, not of a column.
        where = "" if violation.rule == DECIMAL_COMMA else f", {violation.column}"
        kinds[where, violation.rule].append(violation)
    faults = list(table.faults)
    for (where, rule), found in kinds.items():
        cells = sorted(cell for order, violation in enumerate(found) for cell in _first_cells(table, violation, order))
        faults += _listed(
            f"{table.name}{where}: {{count}} more values, up to {table.place} {{last}}, are {rule}",
            np.sort(table.places[np.concatenate([violation.rows for violation in found])]).tolist(),
            [
                f"{table.name}, {table.place} {place}, {column}: {value!r} is {rule}"
                for place, _, column, value in cells[:MAX_LISTED]
            ],
        )
    return [fault.text for fault in sorted(faults, key=lambda fault: fault.place)]


def _first_cells(table: RawTable, violation: Violation, order: int) -> Iterator[tuple[int, int, str, str]]:
    for row in violation.rows[:MAX_LISTED]:
        value = table.columns[violation.column].iloc[row]
        shown = brief("" if pd.isna(value) else str(value), MAX_LINE_CHARS)
        yield int(table.places[row]), order, violation.column, shown


def _listed(others: str, places: Sequence[int], first: Sequence[str]) -> list[Fault]:
    """Faults of one kind, at ascending places, from the sentences about the first of them.

    Of too many, the first few are listed, and `others` says how many more there are.
    """
    if len(places) <= MAX_LISTED:
        return list(map(Fault, places, first))
    count = len(places) - N_LISTED_OF_MANY
    rest = Fault(places[N_LISTED_OF_MANY], others.format(count=f"{count:,}", last=places[-1]))
    return [*map(Fault, places[:N_LISTED_OF_MANY], first), rest]
