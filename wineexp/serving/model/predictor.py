"""A version that answers: compiled, so that it needs little more than numpy, or with its plain pipeline."""

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from wineexp.data.schema import Schema
from wineexp.serving.http.problems import Fault, Refused
from wineexp.serving.model.cache import Kept
from wineexp.serving.model.rows import Reader, Rows

# Rows that a model fails on which are named, each of them found by asking some more.
MOST_NAMED = 10

# From rows to probabilities (n_rows, n_classes).
Ask = Callable[[Rows], npt.NDArray[np.float64]]
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


class Prediction(msgspec.Struct, frozen=True):
    """The prediction for one row.

    Attributes
    ----------
    label : str
        The class that the model decides on: the likeliest, the first of equals, unless it has learned otherwise.
    probabilities : dict of str to float
        By class, in the schema's order.
    out_of_range : list of str
        Features whose value is beyond what the training rows had.
    prediction_set : list of str, optional
        The prediction set, of a model that gives one.
    """

    label: str = msgspec.field(name="class")
    probabilities: dict[str, float] = {}
    out_of_range: list[str] = []
    prediction_set: list[str] | msgspec.UnsetType = msgspec.UNSET


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

    def probabilities(self, rows: Rows) -> npt.NDArray[np.float64]:
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

    def answers(self, rows: Rows) -> list[Prediction]:
        """The answer for each row.

        Raises
        ------
        Refused
            As `probabilities`.
        """
        return self.answered(rows, self.probabilities(rows))

    def answered(self, rows: Rows, found: npt.NDArray[np.float64]) -> list[Prediction]:
        """The answer for each row that these probabilities make."""
        classes, outside = self.schema.classes, self.reader.outside
        decided, sets = self.decide(found).tolist(), self.sets(found)
        kept: Iterable[list[str] | msgspec.UnsetType] = (
            itertools.repeat(msgspec.UNSET, len(rows))
            if sets is None
            else (list(itertools.compress(classes, each)) for each in sets.tolist())
        )
        return [
            Prediction(classes[best], dict(zip(classes, each, strict=True)), outside(row), left)
            for best, each, row, left in zip(decided, found.tolist(), rows, kept, strict=True)
        ]

    def _ask(self, rows: Rows) -> npt.NDArray[np.float64]:
        found = self.ask(rows)
        # Of shares the sum is finite where all of them are; of few, Python has it before numpy has begun.
        total = sum(found[0].tolist()) if len(found) == 1 else np.add.reduce(found, axis=None)
        if not math.isfinite(total):
            raise FloatingPointError("the model gave a probability that is no number")
        return found

    def _unanswerable(self, rows: Rows) -> list[Fault]:
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
