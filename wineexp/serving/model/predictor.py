"""A registered version that predicts: compiled, so that it needs little more than numpy, or with its pipeline."""

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from wineexp.data.schema import Schema
from wineexp.serving.http.problems import Fault, ProblemError
from wineexp.serving.model.cache import CachedVersion
from wineexp.serving.model.rows import RowParser, Rows

# Rows without a finite prediction that a refusal names; to find each of them takes some more predictions.
MAX_NAMED_ROWS = 10

# Of some rows: probabilities of shape (n_rows, n_classes), or predicted numbers of shape (n_rows, 1).
Outputs = npt.NDArray[np.float64]


class Lineage(msgspec.Struct, frozen=True):
    """Where a prediction comes from."""

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
        Features whose value is outside the range of the training rows.
    prediction_set : list of str, optional
        The prediction set, of a model that gives one.
    """

    label: str = msgspec.field(name="class")
    probabilities: dict[str, float] = {}
    out_of_range: list[str] = []
    prediction_set: list[str] | msgspec.UnsetType = msgspec.UNSET


class NumberPrediction(msgspec.Struct, frozen=True):
    """The predicted number for one row.

    Attributes
    ----------
    prediction : float
        In the unit of the schema's `numbers`.
    interval : list of two float, optional
        Its ends, between which the true number is in `Schema.intervals.coverage` of the cases.
    out_of_range : list of str
        Features whose value is outside the range of the training rows.
    """

    prediction: float
    interval: list[float] | msgspec.UnsetType = msgspec.UNSET
    out_of_range: list[str] = []


class Model:
    """A `Classifier` or a `Regressor`.

    Attributes
    ----------
    outputs : callable
        From rows to probabilities (n_rows, n_classes) or to numbers (n_rows, 1).
    """

    outputs: Callable[[Rows], Outputs]


@dataclass(frozen=True)
class Classifier(Model):
    """The functions of a fitted model of classes, compiled or not.

    Attributes
    ----------
    labels : list of int or str
        The classes, as they are in the data.
    outputs : callable
        From rows to probabilities (n_rows, n_classes).
    decide : callable
        From probabilities to positions in `labels` (n_rows,).
    prediction_sets : callable
        From probabilities to whether each class is in the prediction set (n_rows, n_classes); to None for a model
        without such sets.
    """

    labels: list[int | str]
    outputs: Callable[[Rows], Outputs]
    decide: Callable[[Outputs], npt.NDArray[np.intp]]
    prediction_sets: Callable[[Outputs], npt.NDArray[np.bool_] | None]


@dataclass(frozen=True)
class Regressor(Model):
    """The function of a fitted model of numbers, compiled or not.

    Attributes
    ----------
    outputs : callable
        From rows to numbers (n_rows, 1).
    """

    outputs: Callable[[Rows], Outputs]


@dataclass(frozen=True)
class Predictor:
    """A registered version, ready to predict.

    Attributes
    ----------
    model : Model
    version : CachedVersion
    mlflow_version : str
        Of the MLflow that stored it.
    lineage : Lineage
    schema : Schema
    form : str
        `compiled`, or why the pipeline predicts.
    parser : RowParser
    card : str or None
        The model card in Markdown.
    card_page : str or None
        The same in HTML.
    golden_max_difference : float
        The largest difference between its predictions of the golden rows and those stored with it; see
        `golden_rows_gap`.
    row_seconds : float
        The time that one row takes, once warm.
    loaded_at : str
        UTC, ISO 8601.
    """

    model: Model
    version: CachedVersion
    mlflow_version: str
    lineage: Lineage
    schema: Schema
    form: str
    parser: RowParser
    card: str | None
    card_page: str | None
    golden_max_difference: float
    row_seconds: float
    loaded_at: str

    def outputs(self, rows: Rows) -> Outputs:
        """Probabilities of shape (n_rows, n_classes), or predicted numbers of shape (n_rows, 1).

        Raises
        ------
        ProblemError
            422: the model gives nothing finite for rows outside its training range.
        """
        try:
            return self._finite_outputs(rows)
        except (ValueError, ArithmeticError):
            faults = self._rows_without_prediction(rows)
            if not faults:
                raise
        raise ProblemError(422, "the model has no prediction for some of these rows", faults)

    def answers(self, outputs: Outputs) -> list[Any]:
        """What the outputs of rows say as one value for each: a label, of its type in the data, or a number."""
        if not isinstance(self.model, Classifier):
            return list(outputs[:, 0].tolist())
        return [self.model.labels[position] for position in self.model.decide(outputs).tolist()]

    def predict(self, rows: Rows) -> list[Prediction] | list[NumberPrediction]:
        """The prediction for each row.

        Raises
        ------
        ProblemError
            As `outputs`.
        """
        return self.predictions(rows, self.outputs(rows))

    def predictions(self, rows: Rows, outputs: Outputs) -> list[Prediction] | list[NumberPrediction]:
        """The predictions for rows whose outputs are computed already."""
        if isinstance(self.model, Classifier):
            return self._class_predictions(self.model, rows, outputs)
        values = rows.tolist() if isinstance(rows, np.ndarray) else rows
        outside, intervals = self.parser.features_out_of_range, self.schema.intervals
        numbers = outputs[:, 0].tolist()
        ends: Iterable[list[float] | msgspec.UnsetType] = (
            map(intervals.interval, numbers) if intervals else itertools.repeat(msgspec.UNSET, len(numbers))
        )
        return [
            NumberPrediction(number, interval, outside(row))
            for number, interval, row in zip(numbers, ends, values, strict=True)
        ]

    def _class_predictions(self, model: Classifier, rows: Rows, probabilities: Outputs) -> list[Prediction]:
        classes, outside = self.schema.classes, self.parser.features_out_of_range
        decided = model.decide(probabilities).tolist()
        sets = model.prediction_sets(probabilities)
        labelled_sets: Iterable[list[str] | msgspec.UnsetType] = (
            itertools.repeat(msgspec.UNSET, len(rows))
            if sets is None
            else (list(itertools.compress(classes, members)) for members in sets.tolist())
        )
        # Python's floats are compared faster than numpy's.
        values = rows.tolist() if isinstance(rows, np.ndarray) else rows
        return [
            Prediction(classes[position], dict(zip(classes, shares, strict=True)), outside(row), labelled_set)
            for position, shares, row, labelled_set in zip(
                decided, probabilities.tolist(), values, labelled_sets, strict=True
            )
        ]

    def _finite_outputs(self, rows: Rows) -> Outputs:
        outputs = self.model.outputs(rows)
        # The sum is finite where all outputs are. For a single row Python's sum is faster than numpy's.
        total = sum(outputs[0].tolist()) if len(outputs) == 1 else np.add.reduce(outputs, axis=None)
        # That of great numbers may be infinite nevertheless.
        if not (math.isfinite(total) or np.isfinite(outputs).all()):
            raise FloatingPointError("the model gave an output that is no finite number")
        return outputs

    def _rows_without_prediction(self, rows: Rows) -> list[Fault]:
        """The first rows that the model fails on, found by bisection.

        Empty where one of them is within the training range: then the model is at fault, not the request.
        """
        failing: list[int] = []
        spans = [(0, len(rows))]
        while spans and len(failing) < MAX_NAMED_ROWS:
            start, end = spans.pop()
            try:
                self._finite_outputs(rows[start:end])
            except (ValueError, ArithmeticError):
                middle = (start + end) // 2
                if end - start == 1:
                    failing.append(start)
                else:
                    spans += [(middle, end), (start, middle)]
        outside = {number: self.parser.features_out_of_range(rows[number]) for number in failing}
        if not all(outside.values()):
            return []
        reason = "the model cannot compute with it; far beyond the training range:"
        return [Fault(f"row {row}: {reason} {', '.join(names)}", f"/{row}", row) for row, names in outside.items()]
