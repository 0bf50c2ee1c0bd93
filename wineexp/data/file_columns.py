"""The columns of several files together, read by what is said of them, and what is wrong with their cells."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from wineexp.core.errors import brief
from wineexp.data import column_rules, table_file
from wineexp.data.column_rules import ColumnRule, Parsed
from wineexp.data.schema import snake_case
from wineexp.data.table_file import RawTable, Violation

# Characters of a list of columns that an error repeats.
MAX_COLUMNS_CHARS = 400


def read_rules(columns: Mapping[str, Any]) -> tuple[dict[str, ColumnRule], list[str]]:
    """What is said of each column, by its name without spaces, and what is wrong with that."""
    read = {name: column_rules.read_rule(f"data.columns.{name}", said) for name, said in columns.items()}
    return (
        {snake_case(name): rule for name, (rule, _) in read.items()},
        [fault for _, faults in read.values() for fault in faults],
    )


def parse_tables(
    tables: Sequence[RawTable],
    rules: Mapping[str, ColumnRule],
    *,
    left_out: set[str],
    named: set[str],
    missing_words: Sequence[str],
    decimal: str | None,
) -> tuple[dict[str, Parsed], list[list[str]]]:
    """The columns of all files together, by their names without spaces, and the faults of each file.

    Columns are read only where every file has all of those that the first file has, or that the config names.
    """
    titles = [{snake_case(column): column for column in raw.columns} for raw in tables]
    violations: list[list[Violation]] = [[] for _ in tables]
    lacking = [[name for name in dict.fromkeys([*titles[0], *sorted(named)]) if name not in found] for found in titles]
    parsed: dict[str, Parsed] = {}
    if not any(lacking):
        ends = np.cumsum([len(raw.places) for raw in tables])
        for name in titles[0] if tables else {}:
            if name in left_out:
                continue
            cells = [raw.columns[found[name]] for raw, found in zip(tables, titles, strict=True)]
            parsed[name] = column_rules.parse(
                cells[0] if len(cells) == 1 else pd.concat(cells, ignore_index=True),
                rules.get(name, ColumnRule()),
                missing_words=missing_words,
                decimal=decimal,
            )
            for rule, rows in parsed[name].faults:
                for number, (raw, end) in enumerate(zip(tables, ends, strict=True)):
                    start = end - len(raw.places)
                    here = rows[(start <= rows) & (rows < end)] - start
                    if here.size:
                        violations[number].append(Violation(titles[number][name], rule, here))
    reports = []
    for raw, names, found in zip(tables, lacking, violations, strict=True):
        header = []
        if names:
            separated = f" (separated by {raw.separator!r})" if raw.separator else ""
            listed = brief(str(list(raw.columns)), MAX_COLUMNS_CHARS)
            where = raw.name if raw.header_line is None else f"{raw.name}, line {raw.header_line}"
            header = [f"{where}: columns are {listed}{separated}, the data set wants also {', '.join(names)}"]
        reports.append([*header, *table_file.report(raw, found)])
    return parsed, reports


def role_faults(parsed: Mapping[str, Parsed], roles: Mapping[str, str]) -> list[str]:
    """Why columns cannot be what the config says that they are."""
    faults = []
    if "time" in roles and parsed[roles["time"]].type not in ("date", "number"):
        kind = parsed[roles["time"]].type
        faults.append(f"data.time={roles['time']}: dates or numbers are wanted, the column is of type {kind}")
    if "weight" in roles and parsed[roles["weight"]].type != "number":
        kind = parsed[roles["weight"]].type
        faults.append(f"data.weight={roles['weight']}: numbers of at least 0 are wanted, the column is of type {kind}")
    elif "weight" in roles and not parsed[roles["weight"]].values.sum() > 0:
        faults.append(f"data.weight={roles['weight']}: all weights are 0, so that no row would count")
    return faults + [
        f"data.{key}={roles[key]}: {n_missing:,} rows have no value, and every row needs one"
        for key in ("group", "time", "fold", "weight")
        if key in roles and (n_missing := int(parsed[roles[key]].values.isna().sum()))
    ]
