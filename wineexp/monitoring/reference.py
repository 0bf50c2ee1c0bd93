"""What a version was trained on, as a sketch that is stored with it and that its live rows are held against."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd

from wineexp.core.columns import as_texts, is_number
from wineexp.core.errors import UserError
from wineexp.data.task import Task
from wineexp.evaluation.cross_validation import Fold, pool_predictions
from wineexp.evaluation.metrics import score
from wineexp.evaluation.predictions import NumberPredictions, Predictions
from wineexp.models.manifest import EXTRA_FOLDER, REFERENCE_FILE
from wineexp.monitoring.losses import Loss, loss_for, mean_by_row

Codes = npt.NDArray[np.intp]

# Bins of equal mass of a column of numbers, and the most frequent levels of a column of texts.
N_BINS, MAX_LEVELS = 16, 30
# Bins of equal width of the probability of the predicted class.
N_CONFIDENCE_BINS = 10
# The sample has at most so many rows, and at most so many cells.
MAX_SAMPLE_ROWS, MAX_SAMPLE_CELLS = 2000, 200_000
# What a model gives for a row, watched like a column of it.
PREDICTION, CONFIDENCE = "prediction", "probability of the prediction"


class ColumnSketch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a column's values are distributed.

    Attributes
    ----------
    name : str
    counts : list of int
        Rows of each bin. Of numbers: below the range, the bins that end at `edges[1:]`, above the range, missing. Of
        texts: each of `levels`, any other level of training, a level that training had not, missing.
    edges : list of float
        Of numbers, ascending: just below the least value, quantiles, the greatest value. Empty for texts.
    levels, others : list of str
        Of texts: the most frequent ones, and the others. Empty for numbers.
    unit, meaning : str
    """

    name: str
    counts: list[int]
    edges: list[float] = []
    levels: list[str] = []
    others: list[str] = []
    unit: str = ""
    meaning: str = ""

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers."""
        return bool(self.edges)

    @property
    def n_bins(self) -> int:
        """How many bins there are, with those that training rows cannot be in."""
        return len(self.counts)

    @property
    def outside_bins(self) -> list[int]:
        """The bins that no training row can be in: beyond the range, or new levels."""
        return [0, self.n_bins - 2] if self.is_number else [self.n_bins - 2]

    @property
    def missing_bin(self) -> int:
        """The bin of missing values."""
        return self.n_bins - 1

    def codes_of_numbers(self, numbers: npt.NDArray[np.float64]) -> Codes:
        """The bin of each number (n_rows,), where NaN is a missing one."""
        return np.where(np.isnan(numbers), self.missing_bin, np.searchsorted(np.asarray(self.edges), numbers))

    def codes(self, values: pd.Series) -> Codes:
        """The bin of each value (n_rows,)."""
        if self.is_number:
            return self.codes_of_numbers(as_numbers(values))
        bins = {level: place for place, level in enumerate(self.levels)} | dict.fromkeys(self.others, len(self.levels))
        texts = as_texts(values)
        codes = texts.map(bins).fillna(self.n_bins - 2).to_numpy(dtype=np.intp, copy=True)
        codes[texts.isna().to_numpy()] = self.missing_bin
        return np.asarray(codes)


def as_numbers(values: pd.Series) -> npt.NDArray[np.float64]:
    """A column as numbers (n_rows,); a text where a number should be was answered as a missing value."""
    return (values if is_number(values) else pd.to_numeric(values, errors="coerce")).to_numpy(dtype=np.float64)


class LossSummary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The losses of rows that the model was not trained on: how many, their mean and their variance (n - 1)."""

    n_rows: int
    mean: float
    variance: float


class CalibrationBin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Predictions of about one size: how many, what they say on average, and what came true on average.

    Of classes the probability of the predicted class, and how often it was the true one; of numbers the two numbers.
    """

    upper: float
    n_rows: int
    predicted: float
    true: float


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version's reference.

    Attributes
    ----------
    n_rows : int
        Of training.
    columns : list of ColumnSketch
        The features in the model's order.
    answers : list of ColumnSketch
        The out-of-fold predictions, and of classes the probability of the predicted one.
    classes : list of str
        Empty where numbers are predicted.
    metric : str
        The deciding one.
    score : float
        It, of all out-of-fold predictions.
    loss : Loss
    losses : LossSummary
    calibration : list of CalibrationBin
    costs : list of list of float, or None
        As the target says them.
    sample, sample_losses : dict of str to list, list of float
        Some training rows by column, and the out-of-fold loss of each.
    noun : list of two str
        What a row is.
    """

    n_rows: int
    columns: list[ColumnSketch]
    answers: list[ColumnSketch]
    classes: list[str]
    metric: str
    score: float
    loss: Loss
    losses: LossSummary
    calibration: list[CalibrationBin]
    costs: list[list[float]] | None
    sample: dict[str, list[float | str | None]]
    sample_losses: list[float]
    noun: list[str]


def sketch(values: pd.Series, name: str, *, unit: str = "", meaning: str = "") -> ColumnSketch:
    """The sketch of a column (n_rows,)."""
    if is_number(values):
        known = values.dropna().to_numpy(dtype=np.float64)
        if not len(known):
            known = np.zeros(1)
        quantiles = np.quantile(known, np.arange(1, N_BINS + 1) / N_BINS, method="inverted_cdf")
        edges = [float(np.nextafter(known.min(), -np.inf)), *np.unique(quantiles).tolist()]
        empty = ColumnSketch(name, [0] * (len(edges) + 2), edges, unit=unit, meaning=meaning)
    else:
        levels = [str(level) for level in as_texts(values).value_counts().index]
        empty = ColumnSketch(
            *(
                name,
                [0] * (min(len(levels), MAX_LEVELS) + 3),
                [],
                levels[:MAX_LEVELS],
                levels[MAX_LEVELS:],
                unit,
                meaning,
            )
        )
    counts = np.bincount(empty.codes(values), minlength=empty.n_bins)
    return msgspec.structs.replace(empty, counts=counts.tolist())


def make_reference(task: Task, folds: list[Fold]) -> Reference:
    """The reference of a model that was cross-validated on these folds and trained on all rows of a task."""
    predictions = pool_predictions(folds)
    tested = np.concatenate([fold.test for fold in folds])
    loss = loss_for(task.target.metric, predictions, task.deciding_metric)
    rows, losses = mean_by_row(loss.of_rows(predictions), tested)
    labels = [str(label) for label in task.classes]
    # One answer for each row, where a repeated split gives several.
    first = predictions.select(np.unique(tested, return_index=True)[1])
    X = task.X
    described = {str(name): X[name] for name in X}
    n_sample = max(2, min(len(rows), MAX_SAMPLE_ROWS, MAX_SAMPLE_CELLS // max(1, len(described))))
    # In a random order, whatever the order of the rows.
    sampled = np.random.default_rng(0).permutation(len(rows))[:n_sample]
    return Reference(
        n_rows=len(X),
        columns=[
            sketch(values, name, unit=task.dataset.units.get(name, ""), meaning=task.dataset.meanings.get(name, ""))
            for name, values in described.items()
        ],
        answers=[sketch(pd.Series(values), name) for name, values in answers(first, labels).items()],
        classes=labels,
        metric=task.target.metric,
        score=score(predictions, task.metrics)[task.target.metric],
        loss=loss,
        losses=LossSummary(len(losses), float(losses.mean()), float(losses.var(ddof=1)) if len(losses) > 1 else 0.0),
        calibration=calibration(predictions),
        costs=predictions.costs.tolist()
        if isinstance(predictions, Predictions) and predictions.costs is not None
        else None,
        sample={name: _values(values.iloc[rows[sampled]]) for name, values in described.items()},
        sample_losses=losses[sampled].tolist(),
        noun=list(task.dataset.noun),
    )


def answers(predictions: Predictions | NumberPredictions, labels: list[str]) -> dict[str, Any]:
    """The answers of a model as columns (n_rows,), by name."""
    if isinstance(predictions, NumberPredictions):
        return {PREDICTION: predictions.predicted}
    confidence = predictions.probabilities[np.arange(len(predictions.predicted)), predictions.predicted]
    return {PREDICTION: np.array(labels, dtype=object)[predictions.predicted], CONFIDENCE: confidence}


def calibration(predictions: Predictions | NumberPredictions, upper: list[float] | None = None) -> list[CalibrationBin]:
    """The predictions in bins that end at `upper`; by default in as many as a reference has."""
    if isinstance(predictions, NumberPredictions):
        predicted, true = predictions.predicted, predictions.y
        ends = np.unique(np.quantile(predicted, np.arange(1, N_CONFIDENCE_BINS + 1) / N_CONFIDENCE_BINS))
    else:
        predicted = predictions.probabilities[np.arange(len(predictions.y)), predictions.predicted]
        true = (predictions.y == predictions.predicted).astype(float)
        ends = np.arange(1, N_CONFIDENCE_BINS + 1) / N_CONFIDENCE_BINS
    ends = ends if upper is None else np.array(upper)
    bins = np.minimum(np.searchsorted(ends, predicted), len(ends) - 1)
    n_rows = np.bincount(bins, minlength=len(ends))
    sums = [np.bincount(bins, values, minlength=len(ends)) for values in (predicted, true)]
    return [
        CalibrationBin(float(end), int(n), float(sums[0][place] / n), float(sums[1][place] / n))
        for place, (end, n) in enumerate(zip(ends, n_rows, strict=True))
        if n
    ]


def _values(column: pd.Series) -> list[float | str | None]:
    """A column as values of JSON."""
    values = column if is_number(column) else as_texts(column)
    return [
        None if value is None or value != value else value
        for value in values.astype(object).where(values.notna(), None)
    ]


def to_json(reference: Reference) -> bytes:
    """The reference as JSON for `read_reference`."""
    return msgspec.json.encode(reference)


def read_reference(folder: Path) -> Reference | None:
    """The reference in the folder of a stored model; None for one that was stored without.

    Raises
    ------
    UserError
        The file cannot be read.
    """
    try:
        return msgspec.json.decode((folder / EXTRA_FOLDER / REFERENCE_FILE).read_bytes(), type=Reference)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise UserError(
            f"the reference of the stored model cannot be read ({type(error).__name__}: {error})"
        ) from error
