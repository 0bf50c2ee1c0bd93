"""A snapshot of feedback: labelled rows of a log as a pinned file of the data set, named after its bytes."""

import csv
import hashlib
import io
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from wineexp.core import paths
from wineexp.core.errors import UserError
from wineexp.data import pin, pinned_file
from wineexp.data.schema import snake_case
from wineexp.data.target import Target
from wineexp.monitoring.format import INPUT, REQUEST_ID, ROW, TRUTH, truth_text

log = logging.getLogger(__name__)

# Where snapshots and their pins are, from the project's root.
FOLDER = Path("data/feedback")

# Columns of a snapshot that name the request and the row of each line; no data set reads them.
KEY_COLUMNS = ("log.request_id", "log.row")


def new_rows(
    frames: Iterable[pd.DataFrame],
    *,
    features: Sequence[str],
    known: set[tuple[str, int]],
    target: Target,
    classes: Sequence[str],
    columns: Mapping[str, Any],
) -> list[dict[str, str]]:
    """The lines of a snapshot: each labelled row of the log once, without those that are known or break a rule.

    Parameters
    ----------
    frames : iterable of DataFrame
        Of `prediction_log.read_with_truth`.
    features : sequence of str
    known : set of (str, int)
        Request ids and rows of earlier snapshots.
    target : Target
    classes : sequence of str
        Of the champion; empty where it predicts numbers.
    columns : mapping
        What the data set's YAML says of its columns.

    Raises
    ------
    UserError
        The log lacks features.
    """
    found: dict[tuple[str, int], dict[str, str]] = {}
    n_left_out = 0
    values = {label: truth_text(value) for label, value in zip(classes, column_values(target, classes), strict=True)}
    rules = {snake_case(name): said for name, said in columns.items() if isinstance(said, Mapping)}
    for frame in frames:
        if missing := [name for name in features if f"{INPUT}{name}" not in frame]:
            raise UserError(
                f"the log has no values of {', '.join(missing)}, which the model learns from: serve.log_without leaves "
                "them out, or another version was logged"
            )
        inputs = frame[[f"{INPUT}{name}" for name in features]].to_numpy(dtype=object)
        for request_id, row, truth, given in zip(frame[REQUEST_ID], frame[ROW], frame[TRUTH], inputs, strict=True):
            key = (str(request_id), int(row))
            if key in known or key in found:
                continue
            label = values.get(str(truth)) if classes else truth_text(float(truth))
            texts = {name: cell_text(value) for name, value in zip(features, given, strict=True)}
            if label is None or any(breaks_rule(rules.get(name, {}), texts[name]) for name in features):
                n_left_out += 1
                continue
            found[key] = dict(zip(KEY_COLUMNS, (key[0], str(key[1])), strict=True)) | texts | {target.column: label}
    if n_left_out:
        log.info(
            "%d labelled rows are left out: another class than the champion's, or a value that the data set forbids",
            n_left_out,
        )
    return list(found.values())


def column_values(target: Target, classes: Sequence[str]) -> list[str | float]:
    """A value of the target's column for each class: of a bin of numbers, its edge."""
    if target.bins is None or target.labels is None:
        return list(classes)
    edges = [*target.bins, target.bins[-1] + 1]
    return [edges[target.labels.index(name)] for name in classes]


def cell_text(value: Any) -> str:
    """A value as it is written in a CSV file: to the bit, and empty where it is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA:
        return ""
    return truth_text(value)


def breaks_rule(said: Mapping[str, Any], text: str) -> bool:
    """Whether a value is out of the range, or none of the levels, that the data set's YAML says of its column."""
    if not text:
        return False
    if (bounds := said.get("range")) is not None:
        low, high = bounds
        return not ((low is None or low <= float(text)) and (high is None or float(text) <= high))
    return said.get("levels") is not None and text not in set(map(truth_text, said["levels"]))


def keys(file: Path) -> set[tuple[str, int]]:
    """Request ids and rows of the lines of a snapshot."""
    content = pinned_file.load(pin.read(file)).decode()
    # The separator is that of the data set.
    head = content.partition("\n")[0]
    lines = csv.DictReader(io.StringIO(content), delimiter=head[len(KEY_COLUMNS[0])])
    return {(line[KEY_COLUMNS[0]], int(line[KEY_COLUMNS[1]])) for line in lines}


def write(name: str, lines: Sequence[Mapping[str, str]], data: Mapping[str, Any]) -> Path:
    """Write and pin a snapshot, whose name has its md5: the same lines are the same file. Gives the pin's path."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]), delimiter=data.get("separator") or ",", lineterminator="\n")
    writer.writeheader()
    decimal = data.get("decimal") or "."
    writer.writerows(
        line if decimal == "." else {key: text.replace(".", decimal) for key, text in line.items()} for line in lines
    )
    content = out.getvalue().encode(data.get("encoding") or "utf-8")
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    path = paths.ROOT / FOLDER / f"{name}-{md5[:12]}.csv"
    pinned = path.with_name(f"{path.name}.dvc")
    pinned_file.write(path, content)
    if not is_pin_of(pinned, md5):
        # A process that was killed may have left a part of it.
        pinned.unlink(missing_ok=True)
        pin.write(path, None)
    pin.store_in_cache([pin.read(pinned)])
    return pinned


def is_pin_of(pinned: Path, md5: str) -> bool:
    """Whether there is a whole pin of the bytes with this md5."""
    try:
        return pin.read(pinned).md5 == md5
    except UserError:
        return False
