"""A table of a user's own as a data set: what it holds, what looks wrong, its pin, and the YAMLs that are written."""

import difflib
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from rich.cells import cell_len

from wineexp.core import paths
from wineexp.core.columns import is_number
from wineexp.core.errors import UserError, brief, did_you_mean
from wineexp.data import fetched_file, pin, pinned_file
from wineexp.data.column_checks import Finding, find_all
from wineexp.data.dataset import Dataset
from wineexp.data.datasets import table
from wineexp.data.schema import snake_case
from wineexp.data.target import REGRESSION, Target

# Keys of the program that say something about the file; they go into the data set's YAML as they are.
TABLE_KEYS = ("separator", "decimal", "encoding", "missing", "id", "group", "time", "fold", "weight", "noun")

# Whole numbers of more different values are an amount rather than classes, and more texts are no classes.
MAX_NUMERIC_CLASSES, MAX_CLASSES = 20, 100
# A class of fewer rows may be missing from a fold.
MIN_CLASS_ROWS = 5

MAX_SHOWN_LEVELS, MAX_LEVEL_CHARS = 4, 16
# Characters of a comment in a YAML.
MAX_REASON_CHARS = 80

# A choice of a config group that Hydra does not take for a number, a truth value or no choice at all.
NAME = r"(?!(?:null|true|false|nan|inf)$)[^\W\d][\w-]*"


@dataclass(frozen=True)
class Plan:
    """What will be written.

    Attributes
    ----------
    name : str
        Of the data set, a choice of the config group `data`.
    target : Target
    labels : Series of shape (n_samples,)
        Classes, or numbers.
    dataset : Dataset
    findings : list of Finding
        What looks wrong with its columns.
    file : Path
    source_url : str or None
        Where the file was fetched from.
    yamls : dict of Path to str
        The files that do not exist yet, with their texts.
    """

    name: str
    target: Target
    labels: pd.Series
    dataset: Dataset
    findings: list[Finding]
    file: Path
    source_url: str | None
    yamls: dict[Path, str]


def shown(path: Path) -> str:
    """A path as a user would type it in the working folder."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


@contextmanager
def removed_if_refused() -> Iterator[list[Path]]:
    """Gives a list for the files that a command writes: they are removed where it is refused or interrupted."""
    written: list[Path] = []
    try:
        yield written
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def plan(said: Mapping[str, Any], folder: Path, written: list[Path]) -> Plan:
    """Read the table and make the texts of its YAMLs.

    Parameters
    ----------
    said : mapping of str to object
        `file` and `column`, and keys of conf/add.yaml that are not null.
    folder : Path
        The config folder that the YAMLs belong into.
    written : list of Path
        Takes the file that was fetched.

    Raises
    ------
    UserError
        There is no such file, it cannot be read, a name is taken, or the target is none that can be learned.
    """
    location, column = str(said["file"]), snake_case(str(said["column"]))
    source_url = location if fetched_file.is_address(location) else None
    file = fetched_file.path_of(location) if source_url else Path(location).expanduser().absolute()
    file = file.with_suffix("") if file.suffix == ".dvc" else file
    name = str(said.get("name") or _as_name(file.name.partition(".")[0], "table"))
    faults = []
    if not re.fullmatch(NAME, name):
        faults.append(f"name={name}: letters, digits, - and _ are wanted, a letter first, and no word such as null")
    if taken := _taken("data", name, folder):
        faults.append(
            f"data={name}: {shown(taken)} is there already, and nothing is overwritten; give another name=NAME"
        )
    dvc_file = file.with_name(f"{file.name}.dvc")
    is_there = file.exists() or dvc_file.exists()
    if source_url and is_there:
        faults += [f"file={fault}" for fault in fetched_file.faults(source_url)]
    elif not source_url and not is_there:
        near = difflib.get_close_matches(file.name, [path.name for path in file.parent.glob("*")], n=1)
        faults.append(f"file={location}: there is no such file{f'; did you mean {near[0]}?' if near else ''}")
    if faults:
        raise UserError(*faults)
    if source_url and not is_there:
        written.append(file)
        pinned_file.fetch(source_url, file)
    settings = {key: said[key] for key in TABLE_KEYS if key in said}
    said_drop = said.get("drop") or []
    dataset = table(str(file), drop=said_drop, **settings)
    target, labels = read_target(dataset, column)
    findings = list(find_all(dataset.frame.drop(columns=column), None if target.is_number else labels))
    dropped = {*map(snake_case, said_drop), *(finding.column for finding in findings if finding.is_to_drop)}
    if {*dataset.features} <= {*dropped, column}:
        reasons = "; ".join(f"{finding.column} {finding.text}" for finding in findings)
        raise UserError(f"file={location}: no column is left to learn from: {reasons or 'it has the target alone'}")
    target_text = _target_yaml(target, labels)
    target_file = _target_file(name, column, folder, target_text)
    data_text = _data_yaml(file, target_file.stem, len(labels), findings, said_drop, settings)
    yamls = {folder / "data" / f"{name}.yaml": data_text, target_file: target_text}
    yamls = {path: text for path, text in yamls.items() if not path.exists()}
    return Plan(name, target, labels, dataset, findings, file, source_url, yamls)


def _target_file(name: str, column: str, folder: Path, text: str) -> Path:
    """The YAML of the target: a new one, or one of the user's own that has this very text."""
    choice = _as_name(column, "column")
    for candidate in (choice, f"{name}_{choice}"):
        path, taken = folder / "target" / f"{candidate}.yaml", _taken("target", candidate, folder)
        if not taken or (taken == path and taken.read_text(encoding="utf-8") == text):
            return path
    raise UserError(f"target={column}: conf/target has this name and {name}_{choice} already; give another name=NAME")


def _as_name(text: str, kind: str) -> str:
    """A name for a choice of a config group, which begins with a word for its kind where it could not be one else."""
    name = re.sub(r"\W+", "_", text).strip("_")
    return name if re.fullmatch(NAME, name) else f"{kind}_{name}".rstrip("_")


def _taken(group: str, name: str, folder: Path) -> Path | None:
    """The file that has a choice's name already, the user's own or one that comes with wineexp."""
    candidates = (place / group / f"{name}.yaml" for place in (folder, paths.CONF))
    return next((path for path in candidates if path.exists()), None)


def read_target(dataset: Dataset, column: str) -> tuple[Target, pd.Series]:
    """The target of a column as it stands, and its labels, classes or numbers, of shape (n_samples,).

    Raises
    ------
    UserError
        There is no such column, or its values are neither.
    """
    if column not in dataset.frame:
        raise UserError(
            f"target={column}: the table has no such column; {did_you_mean(column, map(str, dataset.frame))}"
        )
    of_two = Target(column, None, None, False, "roc_auc", "maximize")
    y = of_two.column_values(dataset.frame)
    different = y.nunique()
    if pd.api.types.is_datetime64_any_dtype(y):
        raise UserError(f"target={column}: the column holds dates, and wineexp learns classes and numbers")
    if not is_number(y) and different > MAX_CLASSES:
        raise UserError(
            f"target={column}: {different:,} different texts are no classes; at most {MAX_CLASSES} are learned"
        )
    if is_amount(y):
        target = replace(of_two, kind=REGRESSION, metric="root_mean_squared_error", direction="minimize")
    else:
        target = of_two if different <= 2 else replace(of_two, metric="balanced_accuracy")
    # What else is wrong with labels is said as in training.
    return target, target.read(dataset.frame, dataset.features)[1]


def is_amount(y: pd.Series) -> bool:
    """Whether labels are numbers to be predicted as such, rather than classes."""
    is_whole = pd.api.types.is_integer_dtype(y.dropna().convert_dtypes())
    return is_number(y) and (not is_whole or y.nunique() > MAX_NUMERIC_CLASSES)


def _data_yaml(
    file: Path, target: str, n_rows: int, findings: list[Finding], drop: list[str], settings: Mapping[str, Any]
) -> str:
    place = file.relative_to(paths.ROOT) if file.is_relative_to(paths.ROOT) else file
    lines = [
        f"# {n_rows:,} rows of {_in_one_line(file.name)}.",
        "defaults:",
        f"  - override /target@_global_.target: {target}",
        "",
        "_target_: wineexp.data.table",
        f"path: {_scalar(str(place))}",
        *(f"{key}: {_scalar(value)}" for key, value in settings.items()),
    ]
    dropped = [finding for finding in findings if finding.is_to_drop]
    if drop or dropped:
        lines += ["drop:", *(f"  - {_scalar(column)}" for column in drop)]
        lines += [
            f"  - {_scalar(finding.column)}  # {brief(_in_one_line(finding.text), MAX_REASON_CHARS)}"
            for finding in dropped
        ]
    return "\n".join(lines) + "\n"


def _scalar(value: Any) -> str:
    """A value as YAML in one line, which is read back as it stands: a text in quotes, but for a plain word."""
    if not isinstance(value, str):
        return "[" + ", ".join(map(_scalar, value)) + "]"
    if re.fullmatch(r"[A-Za-z_/][\w./ -]*\w", value) and isinstance(yaml.safe_load(value), str):
        return value
    # Hydra would take ${...} for a reference to another key.
    escaped = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    return yaml.safe_dump(escaped, default_style='"', allow_unicode=True, width=math.inf).rstrip("\n")


def _in_one_line(text: str) -> str:
    return " ".join(text.split())


def _target_yaml(target: Target, labels: pd.Series) -> str:
    n_classes = labels.nunique()
    words = "a number" if target.is_number else f"{n_classes} classes" if n_classes > 2 else "one of two classes"
    lines = [
        f"# {_in_one_line(target.column)}: {words}.",
        "_target_: wineexp.data.target.Target",
        f"column: {_scalar(target.column)}",
        *([f"kind: {target.kind}", "transform: null"] if target.is_number else []),
        "bins: null",
        "labels: null",
        "ordinal: false",
        f"metric: {target.metric}",
        f"direction: {target.direction}",
    ]
    return "\n".join(lines) + "\n"


def description(plan: Plan) -> Iterator[str]:
    """What the table holds and what looks wrong with it, line by line."""
    dataset = plan.dataset
    yield f"{shown(plan.file)}: {len(dataset.frame):,} rows, {dataset.frame.shape[1]} columns."
    yield ""
    yield from _aligned(
        [("column", "type", "missing", "values"), *(_column_row(plan, str(name)) for name in dataset.frame)]
    )
    wrong = [
        f"{finding.column} {finding.text}{' (left out)' if finding.is_to_drop else ''}" for finding in plan.findings
    ]
    if dataset.duplicates and not dataset.is_repeated_by_chance:
        wrong.append(
            f"{dataset.duplicates:,} rows repeat an earlier one exactly; split=grouped keeps copies on one side"
        )
    counts = Counter() if plan.target.is_number else Counter(plan.labels.astype(str))
    wrong += [
        f"{plan.target.column}: only {count} rows are of class {label}, too few for every fold"
        for label, count in sorted(counts.items())
        if count < MIN_CLASS_ROWS
    ]
    yield ""
    yield from ["What looks wrong:", *(f"  - {text}" for text in wrong)] if wrong else ["Nothing looks wrong."]
    yield ""


def _column_row(plan: Plan, name: str) -> tuple[str, str, str, str]:
    column = plan.dataset.frame[name]
    present = column.dropna()
    if name == plan.target.column:
        kind = "target"
    elif name not in plan.dataset.features:
        kind = "text"
    elif is_number(column):
        kind = "number"
    elif pd.api.types.is_datetime64_any_dtype(column):
        kind = "date"
    else:
        kind = "boolean" if present.map(lambda value: isinstance(value, bool | np.bool_)).all() else "category"
    missing = f"{len(column) - len(present):,}" if len(present) < len(column) else ""
    if present.empty:
        values = ""
    elif kind == "text":
        values = f"{present.nunique():,} different texts, left out"
    elif kind == "number" or (kind == "target" and plan.target.is_number):
        values = f"{present.min():g} to {present.max():g}"
    elif kind == "date":
        values = f"{present.min():%Y-%m-%d} to {present.max():%Y-%m-%d}"
    else:
        counts = present.astype(str).value_counts()
        words = [f"{str(label)[:MAX_LEVEL_CHARS]} {count:,}" for label, count in counts.head(MAX_SHOWN_LEVELS).items()]
        values = ", ".join(words) + (f", {len(counts) - len(words):,} more" if len(counts) > len(words) else "")
    return _in_one_line(name), kind, missing, _in_one_line(values)


def _aligned(rows: list[tuple[str, str, str, str]]) -> Iterator[str]:
    """A table of text as lines."""
    widths = [max(cell_len(row[place]) for row in rows) for place in range(3)]
    for row in rows:
        cells = [cell + " " * (width - cell_len(cell)) for cell, width in zip(row[:3], widths, strict=True)]
        yield "  " + "  ".join([*cells, row[3]]).rstrip()


def carry_out(plan: Plan, written: list[Path]) -> None:
    """Pin the file where it has no pin, and write the YAMLs; `written` takes what was."""
    dvc_file = plan.file.with_name(f"{plan.file.name}.dvc")
    if not dvc_file.exists():
        written.append(dvc_file)
        pin.write(plan.file, plan.source_url)
    for path, text in plan.yamls.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as stream:
            written.append(path)
            stream.write(text)
