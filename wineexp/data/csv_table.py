"""CSV files parsed and validated cell by cell, so that one error lists every violation with its line and column."""

import csv
import io
import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from wineexp.core.errors import UserError, brief

if TYPE_CHECKING:
    import pandera.pandas as pa


# So many faults of one kind are listed one by one; of more, the first few are.
MAX_LISTED, N_LISTED_OF_MANY = 5, 3
# Characters of a line or a value that an error repeats.
MAX_LINE_CHARS = 80

DECIMAL_COMMA = "written with a decimal comma; write a decimal point"


class Measurement(NamedTuple):
    """The physically plausible range of a column, with its unit, which is empty where the source gives none."""

    lowest: float
    highest: float
    unit: str


def parse(
    content: bytes,
    name: str,
    measurements: Mapping[str, Measurement],
    classes: Mapping[str, Collection[int]],
    *,
    columns: list[str],
    separator: str,
    header: bool,
) -> pd.DataFrame:
    """The table in a file: float columns of measurements, integer columns of classes.

    Parameters
    ----------
    content : bytes
    name : str
        The file's name, for messages.
    measurements : mapping of str to Measurement
        By column.
    classes : mapping of str to collection of int
        By column, the values that may occur; it may have more columns than the file.
    columns : list of str
        The columns of the file, in their order.
    separator : str
    header : bool
        Whether the first line names the columns.

    Returns
    -------
    DataFrame of shape (n_samples, n_columns)

    Raises
    ------
    UserError
        It lists the violations of the rules, by line, column and value; of more than `MAX_LISTED` of one kind, the
        first few and the number of the others.
    """
    try:
        reader = csv.reader(io.StringIO(content.decode()), delimiter=separator)
        lines = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{name} is not CSV text in UTF-8: {error}") from error
    rule = f"the schema wants {len(columns)} separated by {separator!r}"
    columns_in_file = lines.pop(0)[1] if header and lines else columns
    faults = _listed(
        f"{name}: {{count}} more lines, up to line {{last}}, have another number of values; {rule}",
        [
            (line, f"{name}, line {line}: {len(row)} values ({brief(separator.join(row), MAX_LINE_CHARS)!r}), {rule}")
            for line, row in lines
            # Compared with the file's own header, so that a wrong header is reported once and not for each line.
            if len(row) != len(columns_in_file)
        ],
    )
    if columns_in_file != columns:
        fault = f"{name}, line 1: columns are {columns_in_file}, the schema wants {columns} separated by {separator!r}"
        faults.insert(0, (1, fault))
    else:
        cells = {line: row for line, row in lines if len(row) == len(columns)}
        raw = pd.DataFrame.from_dict(cells, orient="index", columns=columns, dtype=object)
        numbers = raw.apply(pd.to_numeric, errors="coerce").astype(float)
        schema = _schema(measurements, classes, columns)
        kinds: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
        for (line, column), fault in _violations(raw, numbers, schema).items():
            # A decimal comma is a property of the file, not of a column.
            where = "" if fault == DECIMAL_COMMA else f", {column}"
            value = brief(str(raw.at[line, column]), MAX_LINE_CHARS)
            kinds[where, fault].append((line, f"{name}, line {line}, {column}: {value!r} is {fault}"))
        for (where, fault), found in kinds.items():
            faults += _listed(f"{name}{where}: {{count}} more values, up to line {{last}}, are {fault}", found)
    if not lines:
        faults.append((1, f"{name} holds no rows"))
    if faults:
        raise UserError(*(fault for _, fault in sorted(faults, key=lambda numbered: numbered[0])))
    integers = [column for column in columns if column in classes]
    table: pd.DataFrame = numbers.astype(dict.fromkeys(integers, int)).reset_index(drop=True)
    return table


def _listed(others: str, faults: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """The faults of one kind by line; of too many the first few, and `others` about the rest."""
    faults = sorted(faults, key=lambda numbered: numbered[0])
    if len(faults) <= MAX_LISTED:
        return faults
    count, last = len(faults) - N_LISTED_OF_MANY, faults[-1][0]
    return [*faults[:N_LISTED_OF_MANY], (faults[N_LISTED_OF_MANY][0], others.format(count=f"{count:,}", last=last))]


def _schema(
    measurements: Mapping[str, Measurement], classes: Mapping[str, Collection[int]], columns: list[str]
) -> "pa.DataFrameSchema":
    import pandera.pandas as pa

    rules = {
        name: pa.Check.in_range(low, high, error=f"from {low} to {high} {unit}".rstrip())
        for name, (low, high, unit) in measurements.items()
    } | {
        name: pa.Check.isin(list(allowed), error=f"one of {', '.join(map(str, allowed))}")
        for name, allowed in classes.items()
    }
    return pa.DataFrameSchema({name: pa.Column(float, rules[name]) for name in columns})


def _violations(raw: pd.DataFrame, numbers: pd.DataFrame, schema: "pa.DataFrameSchema") -> dict[tuple[int, str], str]:
    """The fault of each invalid cell, by line and column, in the order of the columns.

    `raw` holds the cells as text, `numbers` the same cells as floats, NaN where the text is not a number.
    """
    import pandera.errors

    faults = {
        (raw.index[row], raw.columns[column]): _text_fault(str(raw.iat[row, column]).strip())
        for row, column in np.argwhere(numbers.isna())
    }
    try:
        # pandera does not check the range of a column with a missing value, so 0 replaces the cells that have a fault
        # already; `setdefault` below keeps their first fault.
        schema.validate(numbers.fillna(0), lazy=True)
    except pandera.errors.SchemaErrors as error:
        for case in error.failure_cases.itertuples():
            faults.setdefault((int(case.index), case.column), f"not {case.check}")
    columns = list(raw.columns)
    return dict(sorted(faults.items(), key=lambda cell: columns.index(cell[0][1])))


def _text_fault(text: str) -> str:
    """Why the text of a cell is no number."""
    if not text:
        return "missing, and no value may be"
    return DECIMAL_COMMA if re.fullmatch(r"[+-]?\d+,\d+", text) else "no number"
