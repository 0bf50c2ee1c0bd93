"""A version that has passed every check, ready to answer."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml

from wineexp import artifact, schema
from wineexp.errors import UserError
from wineexp.registry import Version
from wineexp.runs import Record
from wineexp.schema import Number, Schema, Text
from wineexp.serving.problems import Fault, Refused
from wineexp.serving.rows import Reader, Row

# How far probabilities may be from those that were stored with the version: other processors round otherwise.
GOLDEN_GAP = 1e-6

# Rows that a model fails on which are named, each of them found by asking some more.
MOST_NAMED = 10

# A model card, where the version has one.
CARD, CARD_PAGE = "card.md", "card.html"


class Lineage(msgspec.Struct, frozen=True):
    """Where an answer comes from."""

    name: str
    alias: str
    version: int
    run_id: str
    config_sha256: str
    data_md5: str


class Answer(msgspec.Struct, frozen=True):
    """The answer for one row.

    Attributes
    ----------
    label : str
        The likeliest class, the first of equals.
    probabilities : dict of str to float
        By class, in the schema's order.
    outside : list of str
        Features whose value is beyond what the training rows had.
    """

    label: str = msgspec.field(name="class")
    probabilities: dict[str, float] = {}
    outside: list[str] = []


@dataclass(frozen=True)
class Served:
    """A registered version with its model in memory.

    Attributes
    ----------
    version : Version
    record : Record
        The run that it was registered from.
    mlflow_version : str
        Of the MLflow that stored it.
    lineage : Lineage
    schema : Schema
    model : classifier
    reader : Reader
    card : str or None
        Markdown.
    card_page : str or None
        The same in HTML.
    golden : DataFrame of shape (n_golden, n_features)
        Training rows, from all over them.
    gap : float
        How far its answers on the golden rows are from those stored with it.
    row_seconds : float
        What one row took, once warm.
    since : str
        When it was loaded; UTC, ISO 8601.
    """

    version: Version
    record: Record
    mlflow_version: str
    lineage: Lineage
    schema: Schema
    model: Any
    reader: Reader
    card: str | None
    card_page: str | None
    golden: pd.DataFrame
    gap: float
    row_seconds: float
    since: str

    def probabilities(self, rows: Sequence[Row]) -> npt.NDArray[np.float64]:
        """Probabilities of shape (n_rows, n_classes).

        Raises
        ------
        Refused
            422: the model has no finite answer for rows beyond its training range.
        """
        try:
            return self._ask(rows)
        except (ValueError, ArithmeticError):
            faults = self._unanswerable(rows)
            if not faults:
                raise
        raise Refused(422, "the model has no answer for some of these values", faults)

    def answers(self, rows: Sequence[Row]) -> list[Answer]:
        """The answer for each row.

        Raises
        ------
        Refused
            As `probabilities`.
        """
        found = self.probabilities(rows)
        classes = self.schema.classes
        return [
            Answer(classes[best], dict(zip(classes, each, strict=True)), self.reader.outside(row))
            for best, each, row in zip(found.argmax(axis=1).tolist(), found.tolist(), rows, strict=True)
        ]

    def frame(self, rows: Sequence[Row]) -> pd.DataFrame:
        """Rows as the table that the model was trained on: (n_rows, n_features)."""
        names = list(self.reader.features)
        if not self.reader.texts:
            return pd.DataFrame(np.array(rows, dtype=np.float64).reshape(len(rows), len(names)), columns=names)
        columns = zip(*rows, strict=True)
        return pd.DataFrame(
            {
                feature.name: pd.Series(values, dtype=feature.dtype if isinstance(feature, Text) else np.float64)
                for feature, values in zip(self.schema.features, columns, strict=True)
            }
        )

    def _ask(self, rows: Sequence[Row]) -> npt.NDArray[np.float64]:
        with np.errstate(all="ignore"):
            found: npt.NDArray[np.float64] = self.model.predict_proba(self.frame(rows))
        if not np.isfinite(found).all():
            raise FloatingPointError("the model gave a probability that is no number")
        return found

    def _unanswerable(self, rows: Sequence[Row]) -> list[Fault]:
        """The first rows that the model fails on, found by halving; none where one is within the training range."""
        failing: list[int] = []
        spans = [(0, len(rows))]
        while spans and len(failing) < MOST_NAMED:
            start, end = spans.pop()
            try:
                self._ask(rows[start:end])
            except (ValueError, ArithmeticError):
                middle = (start + end) // 2
                if end - start == 1:
                    failing.append(start)
                else:
                    spans += [(middle, end), (start, middle)]
        outside = {number: self.reader.outside(rows[number]) for number in failing}
        if not all(outside.values()):
            return []
        told = "the model cannot compute with it; far beyond the training range:"
        return [Fault(f"row {row}: {told} {', '.join(names)}", f"/{row}", row) for row, names in outside.items()]


def load(folder: Path, version: Version, record: Record, alias: str, *, most: int) -> Served:
    """A version from its verified files, after all checks: types, schema, signature, a warm answer, golden rows.

    Parameters
    ----------
    folder : Path
        Held against the version's seal already.
    version : Version
    record : Record
    alias : str
    most : int
        Rows that one request may hold.

    Raises
    ------
    UserError
        A check fails.
    """
    model = artifact.load(folder)
    stored = _stored(folder)
    described = _schema(folder, stored, model)
    reader = Reader(described, most)
    tags = record.tags
    lineage = Lineage(
        name=version.name,
        alias=alias,
        version=version.number,
        run_id=version.run_id,
        config_sha256=tags.get("config.sha256", ""),
        data_md5=tags.get("data.md5", ""),
    )
    # The first answer makes what later ones reuse.
    gap = artifact.golden_gap(model, folder)
    # Written so that no number is refused as well.
    if not gap <= GOLDEN_GAP:
        raise UserError(
            f"its probabilities on its golden rows are off by {gap:g} from those that were stored with it; at most "
            f"{GOLDEN_GAP:g} is let through"
        )
    served = Served(
        version=version,
        record=record,
        mlflow_version=str(stored.get("mlflow_version", "")),
        lineage=lineage,
        schema=described,
        model=model,
        reader=reader,
        card=_text(folder / artifact.EXTRA / CARD),
        card_page=_text(folder / artifact.EXTRA / CARD_PAGE),
        golden=artifact.golden_rows(folder)[0],
        gap=gap,
        row_seconds=0.0,
        since=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return _warmed(served)


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _warmed(served: Served) -> Served:
    """Ask a row as a client would, and see what it takes."""
    sample = served.schema.samples[0].row
    body = msgspec.json.encode(sample)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        served.answers(served.reader.json(body))
        seconds.append(time.perf_counter() - began)
    return Served(**{**vars(served), "row_seconds": min(seconds)})


def _stored(folder: Path) -> dict[str, Any]:
    """What MLflow wrote down of the model."""
    try:
        return dict(yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"its MLmodel cannot be read ({type(error).__name__})") from error


def _schema(folder: Path, stored: Mapping[str, Any], model: Any) -> Schema:
    """The schema in the files, held against the model and against MLflow's signature."""
    try:
        found = schema.read((folder / artifact.EXTRA / schema.NAME).read_text(encoding="utf-8"))
        inputs = {each["name"]: each["type"] for each in json.loads(stored["signature"]["inputs"])}
    except FileNotFoundError as error:
        told = f"it has no {schema.NAME}, so that nobody can tell what it may be asked; promote it anew"
        raise UserError(told) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"its schema or signature cannot be read ({type(error).__name__}: {error})") from error
    faults = []
    names = [feature.name for feature in found.features]
    if names != list(inputs):
        faults.append(f"its schema names the features {names}, its signature {list(inputs)}")
    faults += [
        f"feature {feature.name} is a {'number' if isinstance(feature, Number) else 'text'} in its schema, but "
        f"{inputs[feature.name]} in its signature"
        for feature in found.features
        if feature.name in inputs and (inputs[feature.name] == "string") is isinstance(feature, Number)
    ]
    classes = [str(label) for label in model.classes_]
    if classes != found.classes:
        faults.append(f"its schema names the classes {found.classes}, the model {classes}")
    if not found.samples:
        faults.append("its schema has no samples")
    if faults:
        raise UserError(*faults)
    return found
