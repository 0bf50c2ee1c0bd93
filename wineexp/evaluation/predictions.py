"""Predictions of classes and of numbers, on rows that the model was not trained on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from wineexp.evaluation.intervals import ErrorDistribution


@dataclass(frozen=True)
class Predictions:
    """A model's predictions on rows that it was not trained on.

    Attributes
    ----------
    y : ndarray of shape (n_samples,)
        True classes, as positions in the list of classes.
    predicted : ndarray of shape (n_samples,)
        Predicted classes, likewise.
    probabilities : ndarray of shape (n_samples, n_classes)
    prediction_sets : ndarray of bool of shape (n_samples, n_classes), or None
        Which classes a conformal model does not rule out; None for other models.
    values : ndarray of shape (n_classes,), or None
        The number that each class stands for, ascending, with which distances are measured; None where classes are no
        numbers, so that neighbours are 1 apart. See `class_values`.
    weights : ndarray of shape (n_samples,), or None
        How many rows each row counts for; None where each counts for one.
    costs : ndarray of shape (n_classes, n_classes), or None
        What it costs to decide on the column's class where the row's class is true; None where the target says none.
    all_scores : mapping of str to float, or None
        The scores of all predictions where these are a sample of them; see `wineexp.workflows.external`.
    """

    y: npt.NDArray[np.intp]
    predicted: npt.NDArray[np.intp]
    probabilities: npt.NDArray[np.float64]
    prediction_sets: npt.NDArray[np.bool_] | None = None
    values: npt.NDArray[np.float64] | None = None
    weights: npt.NDArray[np.float64] | None = None
    costs: npt.NDArray[np.float64] | None = None
    all_scores: Mapping[str, float] | None = field(default=None, kw_only=True)

    def select(self, rows: npt.NDArray[np.bool_ | np.intp]) -> Self:
        """The predictions of some of the rows, by a mask of shape (n_samples,) or by their positions."""
        return replace(self, **_select(self, rows))

    @property
    def distances(self) -> npt.NDArray[np.float64]:
        """The distance of every class from every other one: shape (n_classes, n_classes)."""
        values = np.arange(self.probabilities.shape[1], dtype=float) if self.values is None else self.values
        return np.abs(values[:, None] - values)

    @property
    def errors(self) -> npt.NDArray[np.float64]:
        """The distance of each prediction from the true class: shape (n_samples,)."""
        return np.asarray(self.distances[self.y, self.predicted])


def of_classes(predictions: "Predictions | NumberPredictions") -> Predictions:
    """Predictions that are known to be of classes.

    Raises
    ------
    TypeError
        They are of numbers, which the caller should have refused.
    """
    if isinstance(predictions, NumberPredictions):
        raise TypeError("predictions of classes are wanted")
    return predictions


def class_values(labels: Iterable[object]) -> npt.NDArray[np.float64] | None:
    """The number that each label stands for, if all of them are ascending numbers, whether or not written as text."""
    try:
        values = np.array([float(str(label)) for label in labels])
    except ValueError:
        return None
    return values if np.isfinite(values).all() and (np.diff(values) > 0).all() else None


def best_decisions(probabilities: npt.NDArray[np.float64], utility: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """The decision of the greatest expected utility for each row; the first of several equal ones.

    Parameters
    ----------
    probabilities : ndarray of shape (n_samples, n_classes)
    utility : ndarray of shape (n_classes, n_classes)
        The utility of deciding on the column's class where the row's class is true.

    Returns
    -------
    ndarray of int of shape (n_samples,)
        Positions of classes.
    """
    # No matrix product: its last bits, and so the ties, would depend on the number of rows.
    return np.asarray((probabilities[:, :, None] * utility).sum(axis=1).argmax(axis=1))


@dataclass(frozen=True)
class NumberPredictions:
    """A model's predictions of numbers for rows that it was not trained on.

    Attributes
    ----------
    y, predicted : ndarray of shape (n_samples,)
        True and predicted numbers.
    weights : ndarray of shape (n_samples,), or None
        How many rows each row counts for; None where each counts for one.
    low, high : ndarray of shape (n_samples,), or None
        The ends of prediction intervals; None where there are none.
    crps : ndarray of shape (n_samples,), or None
        Likewise the continuous ranked probability score of each; see `intervals.ErrorDistribution`.
    all_scores : mapping of str to float, or None
        The scores of all predictions where these are a sample of them.
    """

    y: npt.NDArray[np.float64]
    predicted: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64] | None = None
    low: npt.NDArray[np.float64] | None = None
    high: npt.NDArray[np.float64] | None = None
    crps: npt.NDArray[np.float64] | None = None
    all_scores: Mapping[str, float] | None = field(default=None, kw_only=True)

    def with_intervals(self, errors: ErrorDistribution | None) -> Self:
        """These predictions with the intervals that the errors on other rows give; as they are without such."""
        if errors is None:
            return self
        low, high = errors.intervals(self.predicted)
        return replace(self, low=low, high=high, crps=errors.crps(self.y, self.predicted))

    def select(self, rows: npt.NDArray[np.bool_ | np.intp]) -> Self:
        """The predictions of some of the rows, by a mask of shape (n_samples,) or by their positions."""
        return replace(self, **_select(self, rows))

    @property
    def errors(self) -> npt.NDArray[np.float64]:
        """The distance of each prediction from the true number: shape (n_samples,)."""
        return np.asarray(np.abs(self.y - self.predicted))


def _select(predictions: Predictions | NumberPredictions, rows: npt.NDArray[np.bool_ | np.intp]) -> dict[str, Any]:
    """What the predictions have of each row, for some of the rows."""
    by_row = ("y", "predicted", "probabilities", "prediction_sets", "weights", "low", "high", "crps")
    values = {name: getattr(predictions, name, None) for name in by_row}
    return {name: of_rows[rows] for name, of_rows in values.items() if of_rows is not None} | {"all_scores": None}
