"""A version that answers: compiled, so that it needs little more than numpy, or with its plain pipeline."""

import itertools
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import yaml

from wineexp import schema, seal
from wineexp.compiled import form
from wineexp.errors import UserError
from wineexp.schema import Schema
from wineexp.serving.cache import Kept
from wineexp.serving.problems import Fault, Refused
from wineexp.serving.rows import Reader, Row

# How far probabilities may be from those that were stored with the version: other processors round otherwise.
GOLDEN_GAP = 1e-6

# Rows that a model fails on which are named, each of them found by asking some more.
MOST_NAMED = 10

# A model card, where the version has one.
CARD, CARD_PAGE = "card.md", "card.html"

# From rows to probabilities (n_rows, n_classes).
Ask = Callable[[Sequence[Row]], npt.NDArray[np.float64]]
# From those to positions of the classes that are answered (n_rows,), and to whether each class is not ruled out.
Decide = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.intp]]
Sets = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.bool_] | None]


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
        The class that the model decides on: the likeliest, the first of equals, unless it has learned otherwise.
    probabilities : dict of str to float
        By class, in the schema's order.
    outside : list of str
        Features whose value is beyond what the training rows had.
    not_ruled_out : list of str, optional
        The prediction set, of a model that gives one.
    """

    label: str = msgspec.field(name="class")
    probabilities: dict[str, float] = {}
    outside: list[str] = []
    not_ruled_out: list[str] | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True)
class Model:
    """What answers rows, in whichever form.

    Attributes
    ----------
    labels : list of int or str
        The classes, as they are in the data.
    ask, decide, sets : callable
    """

    labels: list[int | str]
    ask: Ask
    decide: Decide
    sets: Sets


@dataclass(frozen=True)
class Served(Model):
    """A registered version, ready to answer.

    Attributes
    ----------
    kept : Kept
    mlflow_version : str
        Of the MLflow that stored it.
    lineage : Lineage
    schema : Schema
    form : str
        `form.COMPILED`, or why the plain pipeline answers.
    reader : Reader
    card : str or None
        Markdown.
    card_page : str or None
        The same in HTML.
    gap : float
        How far its answers on the golden rows are from those stored with it.
    row_seconds : float
        What one row took, once warm.
    since : str
        When it was loaded; UTC, ISO 8601.
    """

    kept: Kept
    mlflow_version: str
    lineage: Lineage
    schema: Schema
    form: str
    reader: Reader
    card: str | None
    card_page: str | None
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
        return self.answered(rows, self.probabilities(rows))

    def answered(self, rows: Sequence[Row], found: npt.NDArray[np.float64]) -> list[Answer]:
        """The answer for each row that these probabilities make."""
        classes, outside = self.schema.classes, self.reader.outside
        decided, sets = self.decide(found).tolist(), self.sets(found)
        kept: Iterable[list[str] | msgspec.UnsetType] = (
            itertools.repeat(msgspec.UNSET, len(rows))
            if sets is None
            else (list(itertools.compress(classes, each)) for each in sets.tolist())
        )
        return [
            Answer(classes[best], dict(zip(classes, each, strict=True)), outside(row), left)
            for best, each, row, left in zip(decided, found.tolist(), rows, kept, strict=True)
        ]

    def _ask(self, rows: Sequence[Row]) -> npt.NDArray[np.float64]:
        found = self.ask(rows)
        # Of shares the sum is finite where all of them are.
        if not math.isfinite(np.add.reduce(found, axis=None)):
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


def load(folder: Path, kept: Kept, alias: str, *, most: int) -> Served:
    """A version from its files, after every check that needs no registry: schema, golden rows, a warm answer.

    Parameters
    ----------
    folder : Path
        Held against the version's seal already.
    kept : Kept
    alias : str
    most : int
        Rows that one request may hold.

    Raises
    ------
    UserError
        A check fails.
    """
    described = stored_schema(folder)
    reader = Reader(described, most)
    model, told = _model(folder, kept, reader)
    gap = _golden_gap(folder, model.ask)
    bound(gap)
    return _warmed(
        Served(
            **vars(model),
            kept=kept,
            mlflow_version=str(stored_model(folder).get("mlflow_version", "")),
            lineage=Lineage(
                name=kept.name,
                alias=alias,
                version=kept.number,
                run_id=kept.run_id,
                config_sha256=kept.tags.get("config.sha256", ""),
                data_md5=kept.tags.get("data.md5", ""),
            ),
            schema=described,
            form=told,
            reader=reader,
            card=_text(folder / seal.EXTRA / CARD),
            card_page=_text(folder / seal.EXTRA / CARD_PAGE),
            gap=gap,
            row_seconds=0.0,
            since=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    )


def stored_schema(folder: Path) -> Schema:
    """The schema in a version's files.

    Raises
    ------
    UserError
        There is none that can be read.
    """
    try:
        return schema.read((folder / seal.EXTRA / schema.NAME).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        told = f"it has no {schema.NAME}, so that nobody can tell what it may be asked; promote it anew"
        raise UserError(told) from error
    except (OSError, ValueError) as error:
        raise UserError(f"its schema cannot be read ({type(error).__name__}: {error})") from error


def stored_model(folder: Path) -> dict[str, object]:
    """What MLflow wrote down of the model.

    Raises
    ------
    UserError
        There is nothing that can be read.
    """
    try:
        return dict(yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"its MLmodel cannot be read ({type(error).__name__})") from error


def _model(folder: Path, kept: Kept, reader: Reader) -> tuple[Model, str]:
    """What answers: the compiled form where there is one, else the pipeline."""
    packed = folder / seal.EXTRA / form.NAME
    if packed.exists():
        found = form.read(packed.read_bytes())
        # Only models that answer the likeliest class, and rule none out, are compiled.
        model = Model(found.classes, found.ask, lambda shares: shares.argmax(axis=1), lambda _: None)
        told = form.COMPILED
        if found.plan.columns != list(reader.features) or {each.name for each in found.plan.texts} != reader.texts:
            raise UserError("its compiled form asks for other features than its schema names")
    else:
        # All that a lean server goes without.
        from wineexp.serving.pipeline import loaded

        model, told = loaded(folder, reader), kept.form
    if [str(label) for label in model.labels] != reader.schema.classes:
        raise UserError(f"its schema names the classes {reader.schema.classes}, the model {model.labels}")
    return model, told


def _golden_gap(folder: Path, ask: Ask) -> float:
    """How far answers are from those that were stored with the version: at most."""
    try:
        golden = json.loads((folder / seal.EXTRA / seal.GOLDEN).read_text(encoding="utf-8"))
        return float(np.abs(ask(golden["rows"]["data"]) - np.asarray(golden["probabilities"])).max())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"the model cannot answer its golden rows ({type(error).__name__}: {error})") from error


def bound(gap: float) -> None:
    """Refuse answers on the golden rows that are too far from those that were stored.

    Raises
    ------
    UserError
        They are.
    """
    # Written so that no number is refused as well.
    if not gap <= GOLDEN_GAP:
        raise UserError(
            f"its probabilities on its golden rows are off by {gap:g} from those that were stored with it; at most "
            f"{GOLDEN_GAP:g} is let through"
        )


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _warmed(served: Served) -> Served:
    """Ask a row as a client would, and see what it takes."""
    if not served.schema.samples:
        raise UserError("its schema has no samples")
    body = msgspec.json.encode(served.schema.samples[0].row)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        served.answers(served.reader.json(body))
        seconds.append(time.perf_counter() - began)
    return replace(served, row_seconds=min(seconds))
