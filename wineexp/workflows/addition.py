"""A table of a user's own as a data set: what it holds, what looks wrong, its pin, and the YAMLs that are written."""

import difflib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.cells import cell_len

from wineexp.core import paths
from wineexp.core.columns import is_number
from wineexp.core.errors import UserError, brief, did_you_mean
from wineexp.data import pin, pinned_file
from wineexp.data.column_checks import Finding, find_all
from wineexp.data.datasets import Dataset, table
from wineexp.data.schema import snake_case
from wineexp.data.target import CLASSIFICATION, REGRESSION, Target

# Keys of the program that say something about the file; they go into the data set's YAML as they are.
TABLE_KEYS = ("separator", "decimal", "encoding", "missing", "id", "group", "time", "fold", "noun")

# Whole numbers of more different values are an amount rather than classes, and more texts are no classes.
MAX_NUMERIC_CLASSES, MAX_CLASSES = 20, 100
# A class of fewer rows may be missing from a fold.
MIN_CLASS_ROWS = 5

MAX_SHOWN_LEVELS, MAX_LEVEL_CHARS = 4, 16
# Characters of a comment in a YAML.
MAX_REASON_CHARS = 80


@dataclass(frozen=True)
class Plan:
    """What will be written.

    Attributes
    ----------
    name, target : str
        Of the data set, and of the target: choices of these config groups.
    column : str
        The column that the target is read from.
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
    target: str
    column: str
    dataset: Dataset
    findings: list[Finding]
    file: Path
    source_url: str | None
    yamls: dict[Path, str]


def shown(path: Path) -> str:
    """A path as a user would type it in the working folder."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def plan(said: Mapping[str, Any], folder: Path) -> Plan:
    """Read the table and make the texts of its YAMLs.

    Parameters
    ----------
    said : mapping of str to object
        `file` and `column`, and keys of conf/add.yaml that are not null.
    folder : Path
        The config folder that the YAMLs belong into.

    Raises
    ------
    UserError
        There is no such file, it cannot be read, a name is taken, or the target is none that can be learned.
    """
    location, column = str(said["file"]), snake_case(str(said["column"]))
    is_url = location.startswith(("http://", "https://"))
    file = (
        paths.ROOT / "data/raw" / Path(location.partition("?")[0]).name
        if is_url
        else Path(location).expanduser().absolute()
    )
    file = file.with_suffix("") if file.suffix == ".dvc" else file
    name = str(said.get("name") or _as_name(file.name.partition(".")[0]))
    faults = [f"name={name}: letters, digits, - and _ are wanted"] if not re.fullmatch(r"\w[\w-]*", name) else []
    taken = _taken("data", name, folder)
    faults += (
        [f"data={name}: {shown(taken)} is there already, and nothing is overwritten; give another name=NAME"]
        if taken
        else []
    )
    if is_url and not file.exists() and not faults:
        pinned_file.fetch(location, file)
    elif not file.exists() and not file.with_name(f"{file.name}.dvc").exists():
        near = difflib.get_close_matches(file.name, [path.name for path in file.parent.glob("*")], n=1)
        faults.append(f"file={location}: there is no such file{f'; did you mean {near[0]}?' if near else ''}")
    if faults:
        raise UserError(*faults)
    settings = {key: said[key] for key in TABLE_KEYS if key in said}
    dataset = table(str(file), drop=said.get("drop"), **settings)
    y = read_labels(dataset, column)
    findings = list(find_all(dataset.frame.drop(columns=column), None if is_amount(y) else y))
    drop = [*map(snake_case, said.get("drop") or []), *(finding.column for finding in findings if finding.is_to_drop)]
    if {*dataset.features} <= {*drop, column}:
        reasons = "; ".join(f"{finding.column} {finding.text}" for finding in findings)
        raise UserError(f"file={location}: no column is left to learn from: {reasons or 'it has the target alone'}")
    target_text = _target_yaml(column, y)
    target = next(
        (
            candidate
            for candidate in (_as_name(column), f"{name}_{_as_name(column)}")
            if not (taken := _taken("target", candidate, folder))
            or (taken.is_relative_to(folder) and taken.read_text(encoding="utf-8") == target_text)
        ),
        None,
    )
    if target is None:
        raise UserError(
            f"target={column}: conf/target has this name and {name}_{_as_name(column)} already; give another name=NAME"
        )
    yamls = {
        folder / "data" / f"{name}.yaml": _data_yaml(file, target, len(y), findings, said.get("drop") or [], settings),
        folder / "target" / f"{target}.yaml": target_text,
    }
    yamls = {path: text for path, text in yamls.items() if not path.exists()}
    return Plan(name, target, column, dataset, findings, file, location if is_url else None, yamls)


def _as_name(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_") or "table"


def _taken(group: str, name: str, folder: Path) -> Path | None:
    """The file that has a choice's name already, the user's own or one that comes with wineexp."""
    candidates = (place / group / f"{name}.yaml" for place in (folder, paths.CONF))
    return next((path for path in candidates if path.exists()), None)


def read_labels(dataset: Dataset, column: str) -> pd.Series:
    """The labels of a column, classes or numbers: (n_samples,).

    Raises
    ------
    UserError
        There is no such column, or its values are neither.
    """
    if column not in dataset.frame:
        raise UserError(
            f"target={column}: the table has no such column; {did_you_mean(column, map(str, dataset.frame))}"
        )
    y = _target(column, CLASSIFICATION).column_values(dataset.frame)
    different = y.nunique()
    if pd.api.types.is_datetime64_any_dtype(y):
        raise UserError(f"target={column}: the column holds dates, and wineexp learns classes and numbers")
    if not is_number(y) and different > MAX_CLASSES:
        raise UserError(
            f"target={column}: {different:,} different texts are no classes; at most {MAX_CLASSES} are learned"
        )
    # What else is wrong with labels is said as in training.
    return _target(column, REGRESSION if is_amount(y) else CLASSIFICATION).read(dataset.frame, dataset.features)[1]


def is_amount(y: pd.Series) -> bool:
    """Whether labels are numbers to be predicted as such, rather than classes."""
    is_whole = pd.api.types.is_integer_dtype(y.dropna().convert_dtypes())
    return is_number(y) and (not is_whole or y.nunique() > MAX_NUMERIC_CLASSES)


def _target(column: str, kind: str) -> Target:
    """A target of a column as it stands."""
    metric = ("accuracy", "maximize") if kind == CLASSIFICATION else ("root_mean_squared_error", "minimize")
    return Target(column, None, None, False, *metric, kind=kind)


def _data_yaml(
    file: Path, target: str, n_rows: int, findings: list[Finding], drop: list[str], settings: Mapping[str, Any]
) -> str:
    place = file.relative_to(paths.ROOT) if file.is_relative_to(paths.ROOT) else file
    lines = [
        f"# {n_rows:,} rows of {file.name}.",
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
        lines += [f"  - {_scalar(finding.column)}  # {brief(finding.text, MAX_REASON_CHARS)}" for finding in dropped]
    return "\n".join(lines) + "\n"


def _scalar(value: Any) -> str:
    """A value as YAML: JSON is, and needs no quotes around a plain word."""
    return (
        value
        if isinstance(value, str)
        and re.fullmatch(r"[A-Za-z_./][\w./ -]*\w", value)
        and value.lower() not in ("true", "false", "null", "yes", "no", "on", "off")
        else json.dumps(value, ensure_ascii=False)
    )


def _target_yaml(column: str, y: pd.Series) -> str:
    n_classes = y.nunique()
    if is_amount(y):
        comment, more = "a number", "kind: regression\ntransform: null\n"
        metric, direction = "root_mean_squared_error", "minimize"
    else:
        comment, more = f"{n_classes} classes" if n_classes > 2 else "one of two classes", ""
        metric, direction = "balanced_accuracy" if n_classes > 2 else "roc_auc", "maximize"
    return f"""# {column}: {comment}.
_target_: wineexp.data.target.Target
column: {_scalar(column)}
{more}bins: null
labels: null
ordinal: false
metric: {metric}
direction: {direction}
"""


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
    y = read_labels(dataset, plan.column)
    counts = Counter() if is_amount(y) else Counter(y.astype(str))
    wrong += [
        f"{plan.column}: only {count} rows are of class {label}, too few for every fold"
        for label, count in sorted(counts.items())
        if count < MIN_CLASS_ROWS
    ]
    yield ""
    yield from ["What looks wrong:", *(f"  - {text}" for text in wrong)] if wrong else ["Nothing looks wrong."]
    yield ""


def _column_row(plan: Plan, name: str) -> tuple[str, str, str, str]:
    column = plan.dataset.frame[name]
    present = column.dropna()
    if name == plan.column:
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
    elif kind == "number" or (kind == "target" and is_amount(present)):
        values = f"{present.min():g} to {present.max():g}"
    elif kind == "date":
        values = f"{present.min():%Y-%m-%d} to {present.max():%Y-%m-%d}"
    else:
        counts = present.astype(str).value_counts()
        words = [f"{str(label)[:MAX_LEVEL_CHARS]} {count:,}" for label, count in counts.head(MAX_SHOWN_LEVELS).items()]
        values = ", ".join(words) + (f", {len(counts) - len(words):,} more" if len(counts) > len(words) else "")
    return name, kind, missing, values


def _aligned(rows: list[tuple[str, str, str, str]]) -> Iterator[str]:
    """A table of text as lines."""
    widths = [max(cell_len(row[place]) for row in rows) for place in range(3)]
    for row in rows:
        cells = [cell + " " * (width - cell_len(cell)) for cell, width in zip(row[:3], widths, strict=True)]
        yield "  " + "  ".join([*cells, row[3]]).rstrip()


def carry_out(plan: Plan) -> list[Path]:
    """Pin the file where it has no pin, and write the YAMLs; gives what was written."""
    written = []
    dvc_file = plan.file.with_name(f"{plan.file.name}.dvc")
    if not dvc_file.exists():
        pin.write(plan.file, plan.source_url)
        written.append(dvc_file)
    for path, text in plan.yamls.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
        written.append(path)
    return written
