"""Data sets: pinned files, parsed and validated."""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from wineexp.core.errors import UserError, brief
from wineexp.data import column_rules, eda, external_table, fetched_file, pin, pinned_file, table_file
from wineexp.data.column_rules import ColumnRule, Parsed
from wineexp.data.external_table import ExternalTable
from wineexp.data.schema import snake_case
from wineexp.data.table_file import RawTable, Violation

# Words that mean a missing value where a data set's YAML says none. "None" is not among them: it often is an answer.
MISSING_WORDS = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null")

# Roles of columns whose values are names, also where they are written in digits.
NAMING_ROLES = ("id", "group", "fold")

# Rows of the sample of a table that is read in batches: by default, and at least.
SAMPLE_ROWS, MIN_SAMPLE_ROWS = 100_000, 1_000

# Characters of a list of columns that an error repeats.
MAX_COLUMNS_CHARS = 400

# Types of columns that are no features, and what is said where the config does not say the type.
REASONS_LEFT_OUT = {
    "text": "almost every row has another text",
    column_rules.OTHER: "their values are neither numbers, truth values, dates nor texts",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """A table and where it comes from.

    Attributes
    ----------
    frame : DataFrame of shape (n_samples, n_columns)
        The features and every column that a target can be read from.
    features : tuple of str
        Columns that a model may use.
    units : dict of str to str
        Unit of each feature; empty where the source gives none.
    pins : tuple of Pin
        The files that hold the rows, in their order.
    noun : sequence of two str
        What a row is, in singular and plural, for pages and reports.
    meanings : dict of str to str
        What a feature means, of those of which it is said.
    levels : dict of str to sequence of str
        The only values that a feature may have, of those of which they are said.
    ids, groups, times, folds, weights : Series of shape (n_samples,), or None
        The name of each row, the rows that belong together, when a row was, the fold in which it is tested, and how
        many rows it counts for.
    snapshots : ndarray of shape (n_samples,), or None
        Number of the file of feedback that each row is from, from 1, and 0 for the rows of the data set itself; None
        where there is no feedback.
    external : ExternalTable, or None
        The table that all of the above is a sample of, where it is read in batches; None where it is all in memory.
    """

    frame: pd.DataFrame
    features: tuple[str, ...]
    units: dict[str, str]
    pins: tuple[pin.Pin, ...]
    noun: Sequence[str] = ("row", "rows")
    meanings: Mapping[str, str] = field(default_factory=dict)
    levels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    ids: pd.Series | None = None
    groups: pd.Series | None = None
    times: pd.Series | None = None
    folds: pd.Series | None = None
    weights: pd.Series | None = None
    snapshots: npt.NDArray[np.intp] | None = None
    external: ExternalTable | None = None

    @property
    def n_rows(self) -> int:
        """Number of rows, whether or not they are all in `frame`."""
        return len(self.frame) if self.external is None else self.external.n_rows

    @property
    def md5(self) -> str:
        """The md5 of each file, in order, joined by `+`."""
        return "+".join(pinned.md5 for pinned in self.pins)

    @cached_property
    def duplicates(self) -> int:
        """Number of rows that repeat an earlier one in every column."""
        return int(self.frame.duplicated().sum()) if self.external is None else self.external.n_duplicates

    @cached_property
    def chance_duplicates(self) -> int:
        """Number of rows that would repeat an earlier one by chance; see `eda.chance_repeats`."""
        return eda.chance_repeats(self.frame)

    @property
    def is_repeated_by_chance(self) -> bool:
        """Whether chance alone explains half of the rows that repeat an earlier one, or more."""
        repeated = self.duplicates if self.external is None else int(self.frame.duplicated().sum())
        return 0 < repeated <= 2 * self.chance_duplicates


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
        keeps a sample; see `wineexp.data.external_table`.
    sample_rows : int
        Of `external`: rows of the sample, which figures, the model card, the monitor's reference and the feature
        pipeline are made from.

    Raises
    ------
    UserError
        Files are not available, have other bytes than their pins say, or break a rule; it lists the faults of all.
    """
    said = {"id": id, "group": group, "time": time, "fold": fold, "weight": weight}
    roles = {key: snake_case(column) for key, column in said.items() if column}
    left_out, labels = set(map(snake_case, drop or [])), set(map(snake_case, targets or []))
    rules, faults = _read_rules(columns or {})
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
    faults += _engine_faults(
        engine, sample_rows, roles, {"file_column": file_column, "feedback": feedback, "rebuild": rebuild}
    )
    if faults:
        raise UserError(*faults)
    if isinstance(path, dict):
        files = [(str(name), file) for name, file in path.items()]
    else:
        files = [(Path(file).name.partition(".")[0], file) for file in ([path] if isinstance(path, str) else path)]

    if engine == external_table.EXTERNAL:
        return _read_external(
            [file for _, file in files],
            rules,
            left_out,
            labels,
            roles,
            missing_words=MISSING_WORDS if missing is None else missing,
            decimal=decimal,
            noun=noun,
            sample_rows=sample_rows,
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
    parsed, reports = _parse_tables(
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
    faults += _role_faults(parsed, roles)
    if faults:
        raise UserError(*faults)
    dataset = _assemble(
        parsed, rules, labels, roles, tuple(result[0] for result in loaded if isinstance(result, tuple)), noun
    )
    if not feedback:
        return dataset
    numbers = [max(0, number - n_own + 1) for number in range(len(tables))]
    return replace(dataset, snapshots=np.repeat(np.array(numbers), [len(raw.places) for raw in tables]))


def _engine_faults(engine: str, sample_rows: int, roles: Mapping[str, str], said: Mapping[str, Any]) -> list[str]:
    """Why a table cannot be read as `engine` says."""
    if engine not in external_table.ENGINES:
        return [f"data.engine={engine}: one of {', '.join(external_table.ENGINES)} is wanted"]
    if engine == external_table.MEMORY:
        return []
    used = [key for key in ("time", "fold") if key in roles] + [key for key, value in said.items() if value]
    remedy = "leave it out, or say data.engine=memory"
    faults = [
        f"data.{key}: data.engine=external splits rows by a hash of their contents or of data.group, reads the files "
        f"of data.path alone, and does not take this key; {remedy}"
        for key in used
    ]
    if sample_rows < MIN_SAMPLE_ROWS:
        faults.append(f"data.sample_rows={sample_rows}: at least {MIN_SAMPLE_ROWS:,} are wanted")
    return faults


def _read_external(
    addresses: Sequence[str],
    rules: Mapping[str, ColumnRule],
    left_out: set[str],
    labels: set[str],
    roles: Mapping[str, str],
    *,
    missing_words: Sequence[str],
    decimal: str | None,
    noun: Sequence[str] | None,
    sample_rows: int,
) -> Dataset:
    """The data set of Parquet files that are read in batches: a sample in memory, and what reads the rest."""
    pins: list[pin.Pin] = []
    faults: list[str] = []
    for address in addresses:
        try:
            pinned = fetched_file.read(address) if fetched_file.is_address(address) else pin.read(address)
            pinned_file.ensure(pinned)
            pins.append(pinned)
        except UserError as error:
            faults += error.faults
    if faults:
        raise UserError(*faults)
    files = [external_table.File(pinned.name, pinned.path) for pinned in pins]
    heads = [external_table.head(file) for file in files]
    named = {*rules, *left_out, *labels, *roles.values()}
    parsed, reports = _parse_tables(
        heads, rules, left_out=left_out, named=named, missing_words=missing_words, decimal=decimal
    )
    if faults := [fault for report in reports for fault in report] or _role_faults(parsed, roles):
        raise UserError(*faults)
    cells = {snake_case(title): column for title, column in heads[0].columns.items()}
    typed = {
        name: external_table.typed_rule(rules.get(name, ColumnRule()), column, cells[name])
        for name, column in parsed.items()
        if column.type != column_rules.OTHER
    }
    # A dry assembly of the heads tells the features, and says which columns are left out.
    features = _assemble(parsed, rules, labels, roles, tuple(pins), noun).features
    external, sample = external_table.open_table(
        files,
        {name: rule for name, rule in typed.items() if name in {*features, *labels, *roles.values()}},
        features,
        roles.get("group"),
        missing_words=missing_words,
        decimal=decimal,
        sample_rows=sample_rows,
    )
    if faults := _role_faults(sample, roles):
        raise UserError(*faults)
    return replace(_assemble(sample, rules, labels, roles, tuple(pins), noun), external=external)


def _fill_columns(raw: RawTable, names: set[str]) -> None:
    """Add the columns that a file of feedback lacks, without any value."""
    found = set(map(snake_case, raw.columns))
    for name in names - found:
        raw.columns[name] = pd.Series([""] * len(raw.places), dtype="str")


def _read_rules(columns: Mapping[str, Any]) -> tuple[dict[str, ColumnRule], list[str]]:
    """What is said of each column, by its name without spaces, and what is wrong with that."""
    read = {name: column_rules.read_rule(f"data.columns.{name}", said) for name, said in columns.items()}
    return (
        {snake_case(name): rule for name, (rule, _) in read.items()},
        [fault for _, faults in read.values() for fault in faults],
    )


def _parse_tables(
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


def _role_faults(parsed: Mapping[str, Parsed], roles: Mapping[str, str]) -> list[str]:
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


def _assemble(
    parsed: Mapping[str, Parsed],
    rules: Mapping[str, ColumnRule],
    labels: set[str],
    roles: Mapping[str, str],
    pins: tuple[pin.Pin, ...],
    noun: Sequence[str] | None,
) -> Dataset:
    """The data set of columns that are read."""
    names = [name for name in parsed if name not in roles.values()]
    frame = pd.DataFrame({name: parsed[name].values for name in names})
    left_out = [name for name in names if name not in labels and parsed[name].type in REASONS_LEFT_OUT]
    for kind, reason in REASONS_LEFT_OUT.items():
        if unsaid := [
            name for name in left_out if parsed[name].type == kind and not rules.get(name, ColumnRule()).type
        ]:
            log.info("left out, since %s: %s (data.columns.NAME.type=category takes one in)", reason, ", ".join(unsaid))
    features = tuple(name for name in names if name not in labels and name not in left_out)
    # A target has what was said of it: a predicted number has a unit.
    said = {name: rules.get(name, ColumnRule()) for name in names if name in features or name in rules}
    by_role: dict[str, Any] = {f"{key}s": parsed[name].values.rename(name) for key, name in roles.items()}
    return Dataset(
        frame,
        features,
        {name: rule.unit for name, rule in said.items()},
        pins,
        noun=noun or Dataset.noun,
        meanings={name: rule.meaning for name, rule in said.items() if rule.meaning},
        levels={name: [*map(str, rule.levels)] for name, rule in said.items() if rule.levels},
        **by_role,
    )


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
