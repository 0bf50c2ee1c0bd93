"""Data sets: pinned files, parsed and validated."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wineexp.core.errors import UserError
from wineexp.data import external_table, fetched_file, pin, pinned_file, table_file
from wineexp.data.column_rules import ColumnRule, Parsed
from wineexp.data.dataset import Dataset, assemble
from wineexp.data.external_dataset import SAMPLE_ROWS, dask_workers, engine_faults, read_external
from wineexp.data.file_columns import parse_tables, read_rules, role_faults
from wineexp.data.schema import snake_case
from wineexp.data.table_file import RawTable

# Words that mean a missing value where a data set's YAML says none. "None" is not among them: it often is an answer.
MISSING_WORDS = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null")

# Roles of columns whose values are names, also where they are written in digits.
NAMING_ROLES = ("id", "group", "fold")


def table(
    path: str | list[str] | dict[str, str],
    columns: dict[str, Any] | None = None,
    drop: list[str] | None = None,
    targets: list[str] | None = None,
    id: str | None = None,  # noqa: A002  a key of a data set's YAML
    group: str | None = None,
    time: str | None = None,
    fold: str | None = None,
    weight: str | None = None,
    file_column: str | None = None,
    header: bool = True,
    separator: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
    missing: list[str] | None = None,
    noun: list[str] | None = None,
    rebuild: Callable[[], bytes] | None = None,
    feedback: list[str] | None = None,
    engine: str = external_table.MEMORY,
    sample_rows: int = SAMPLE_ROWS,
    scheduler: str | None = None,
) -> Dataset:
    """A data set in CSV or Parquet files: what is not said of it is inferred from them.

    Spaces in the names of columns become underscores.

    Parameters
    ----------
    path : str, list of str, or dict of str to str
        A file, or its pin, which `dvc add` writes, or its http(s) address, from which it is fetched into data/raw and
        pinned there; it may end in `#md5=` and the file's md5. Several such files of the same columns, which may have
        names. A relative path starts at the project's root.
    columns : dict of str to dict, optional
        By column, as far as there is something to say: `type` (`number`, `category`, `boolean`, `date`, or `text`,
        which is left out of the features), `unit`, `range` (the least and the greatest number, null for none), `levels`
        (the values of a category), `format` (of dates, as `datetime.strptime` has it), `meaning`.
    drop : list of str, optional
        Columns that are left out.
    targets : list of str, optional
        Columns that labels are read from, and that are no features of another target.
    id, group, time, fold, weight : str, optional
        Columns that name a row, the rows that belong together, when a row was, the fold in which it is tested, and how
        many rows it counts for; none of them is a feature. Where no type is said, those of `NAMING_ROLES` are
        categories, as long numbers would be rounded. The rows of a group stay on one side of every split. With times,
        the latest rows are held out, and `split=time` tests what follows. With folds, rows of the word `holdout` are
        held out, and `split=given` tests each other value once, except `train`. Weights, numbers of at least 0, count
        in fitting and in every metric.
    file_column : str, optional
        Name of a column that is added: the name of the file that each row is from.
    header : bool
        Whether the first line of a CSV file names the columns; else `columns` does, in their order.
    separator, decimal, encoding : str, optional
        Of a CSV file: what is between values and before decimals, and the encoding of its text.
    missing : list of str, optional
        Words that mean a missing value, as an empty cell always does, by default `MISSING_WORDS`; with an empty list no
        value may be missing.
    noun : list of two str, optional
        What a row is, in singular and plural, for pages and reports.
    rebuild : callable, optional
        Makes the bytes of the file without a network where it is missing.
    feedback : list of str, optional
        CSV files, or their pins, whose rows come after those of `path` and are never held out: answered rows of a
        server whose truth became known, as `wineexp.retrain` writes them. The first line names the columns; those that
        a file lacks are missing in its rows.
    engine : str
        `memory` reads the files whole. `external` reads Parquet files in batches, as often as they are needed, and
        keeps a sample; see `wineexp.data.external_table`. `dask` does the same, and trains models on the workers of a
        Dask cluster, each of which reads its share of the rows.
    sample_rows : int
        Of `external` and `dask`: rows of the sample, which figures, the model card, the monitor's reference and the
        feature pipeline are made from.
    scheduler : str, optional
        Of `dask`: the address of a scheduler, as tcp://host:8786. Where it is not said, a cluster of processes is
        started on this machine, one for each core.

    Raises
    ------
    UserError
        Files are not available, have other bytes than their pins say, or break a rule; it lists the faults of all.
    """
    said = {"id": id, "group": group, "time": time, "fold": fold, "weight": weight}
    roles = {key: snake_case(column) for key, column in said.items() if column}
    left_out, labels = set(map(snake_case, drop or [])), set(map(snake_case, targets or []))
    rules, faults = read_rules(columns or {})
    for name in {roles[key] for key in NAMING_ROLES if key in roles} - {roles.get("time")}:
        rule = rules.get(name, ColumnRule())
        rules[name] = replace(rule, type=rule.type or "category")
    if "weight" in roles:
        rule = rules.get(roles["weight"], ColumnRule())
        rules[roles["weight"]] = replace(rule, type=rule.type or "number", low=max(rule.low, 0.0))
    faults += [
        f"data.{key}={mark!r}: one character is wanted"
        for key, mark in (("separator", separator), ("decimal", decimal))
        if mark is not None and len(mark) != 1
    ]
    faults += [
        f"data.{key}={column}: the column is in data.drop, too; name it once"
        for key, column in [*roles.items(), *(("targets", name) for name in sorted(labels))]
        if column in left_out
    ]
    if noun is not None and not (len(noun) == 2 and all(noun)):
        faults.append(f"data.noun={noun}: two words for a row are wanted, as [customer, customers]")
    if feedback and (unknown := sorted({*roles} - {"id"}) + ["file_column"] * (file_column is not None)):
        faults += [f"data.feedback: it does not say data.{key}, which this data set has" for key in unknown]
    if not header and not columns:
        faults.append("data.header=false: data.columns must name the columns, in their order")
    faults += engine_faults(
        engine, scheduler, sample_rows, roles, {"file_column": file_column, "feedback": feedback, "rebuild": rebuild}
    )
    if faults:
        raise UserError(*faults)
    if isinstance(path, dict):
        files = [(str(name), file) for name, file in path.items()]
    else:
        files = [(Path(file).name.partition(".")[0], file) for file in ([path] if isinstance(path, str) else path)]

    if engine != external_table.MEMORY:
        return read_external(
            [file for _, file in files],
            rules,
            left_out,
            labels,
            roles,
            missing_words=MISSING_WORDS if missing is None else missing,
            decimal=decimal,
            noun=noun,
            sample_rows=sample_rows,
            workers=dask_workers(engine, scheduler),
        )
    n_own = len(files)
    files += [(Path(file).name.partition(".")[0], file) for file in feedback or []]

    def load(file: str, *, is_own: bool) -> tuple[pin.Pin, RawTable] | UserError:
        try:
            pinned = fetched_file.read(file) if fetched_file.is_address(file) else pin.read(file)
            content = pinned_file.load(pinned, rebuild)
            names = None if header or not is_own else list(columns or {})
            return pinned, table_file.read(content, pinned.name, separator=separator, encoding=encoding, header=names)
        except UserError as error:
            return error

    # Concurrently, because each file that cannot be reached takes seconds to fail.
    with ThreadPoolExecutor() as pool:
        loaded = list(
            pool.map(lambda each: load(each[1], is_own=each[0] < n_own), enumerate(file for _, file in files))
        )
    tables = [result[1] for result in loaded if isinstance(result, tuple)]
    named = {*rules, *left_out, *labels, *roles.values()}
    if len(tables) == len(files):
        for raw in tables[n_own:]:
            _fill_columns(raw, {*map(snake_case, tables[0].columns), *named})
    parsed, reports = parse_tables(
        tables,
        rules,
        left_out=left_out,
        named=named,
        missing_words=MISSING_WORDS if missing is None else missing,
        decimal=decimal,
    )
    remaining = iter(reports)
    faults = [
        fault for result in loaded for fault in (result.faults if isinstance(result, UserError) else next(remaining))
    ]
    if faults:
        raise UserError(*faults)
    faults = []
    if file_column is not None and snake_case(file_column) in parsed:
        faults.append(f"data.file_column={file_column}: the files have a column of this name; give another name")
    elif file_column is not None:
        words = [name for (name, _), raw in zip(files, tables, strict=True) for _ in raw.places]
        parsed[snake_case(file_column)] = Parsed(pd.Series(words, dtype="str"), "category", [])
    faults += role_faults(parsed, roles)
    if faults:
        raise UserError(*faults)
    dataset = assemble(
        parsed, rules, labels, roles, tuple(result[0] for result in loaded if isinstance(result, tuple)), noun
    )
    if not feedback:
        return dataset
    numbers = [max(0, number - n_own + 1) for number in range(len(tables))]
    return replace(dataset, snapshots=np.repeat(np.array(numbers), [len(raw.places) for raw in tables]))


def _fill_columns(raw: RawTable, names: set[str]) -> None:
    """Add the columns that a file of feedback lacks, without any value."""
    found = set(map(snake_case, raw.columns))
    for name in names - found:
        raw.columns[name] = pd.Series([""] * len(raw.places), dtype="str")


def uci_wine_bytes() -> bytes:
    """The bytes of UCI's wine.data: classes count from 1, and 0.5 is written as .5."""
    from sklearn.datasets import load_wine

    def format_number(value: float) -> str:
        text = repr(float(value)).removesuffix(".0")
        # These alone keep a trailing zero in UCI's file.
        if text in ("8.6", "8.9", "9.4"):
            text += "0"
        return text.removeprefix("0") if text.startswith("0.") else text

    wine = load_wine()
    rows = zip(wine.target, wine.data, strict=True)
    lines = (",".join([str(label + 1), *map(format_number, values)]) for label, values in rows)
    return ("\n".join(lines) + "\n").encode()
