"""Calibration: whether probabilities, predicted numbers and prediction sets hold what they promise."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from wineexp.evaluation.predictions import NumberPredictions, Predictions

# The most bins of a calibration curve, and the fewest rows of a bin: shares of fewer rows are mostly noise.
MAX_CALIBRATION_BINS, MIN_BIN_ROWS = 10, 10


def calibration_curve(predictions: Predictions, *, code: int | None = None) -> pd.DataFrame:
    """How often a class is the true one, by the probability that it was given.

    Bins have equal mass, as Nixon et al. 2019, "Measuring Calibration in Deep Learning", advise.

    Parameters
    ----------
    predictions : Predictions
    code : int, optional
        Position of the class; by default the likeliest class of each row, whichever class the model decided on.

    Returns
    -------
    DataFrame of shape (n_bins, 5)
        `low`, `high` and `confidence` (smallest, greatest and mean probability), `accuracy` (share of rows whose true
        class it is), `rows`; in ascending order of probability. Where rows have weights, means, shares and `rows` are
        weighted; the bins have the same number of rows nevertheless.
    """
    if code is None:
        confidence = predictions.probabilities.max(axis=1)
        correct = predictions.y == predictions.probabilities.argmax(axis=1)
    else:
        confidence, correct = predictions.probabilities[:, code], predictions.y == code
    bins = _equal_mass_bins(confidence)
    means = _means(pd.DataFrame({"confidence": confidence, "accuracy": correct}), bins, predictions.weights)
    ends = pd.Series(confidence).groupby(bins).agg(low="min", high="max")
    return pd.concat([ends, means], axis=1, join="inner")


def binned_numbers(predictions: NumberPredictions) -> pd.DataFrame:
    """The mean of the true numbers, by the number that was predicted, in bins as those of `calibration_curve`.

    Returns
    -------
    DataFrame of shape (n_bins, 3)
        `predicted` and `true` (means), and `rows`; in ascending order of the prediction; weighted as there.
    """
    numbers = pd.DataFrame({"predicted": predictions.predicted, "true": predictions.y})
    return _means(numbers, _equal_mass_bins(predictions.predicted), predictions.weights)


def _means(columns: pd.DataFrame, bins: npt.NDArray[np.intp], weights: npt.NDArray[np.float64] | None) -> pd.DataFrame:
    """The mean of each column by bin, and `rows`, the number of rows or their weight; without bins of no weight."""
    if weights is None:
        by_bin = columns.groupby(bins)
        return by_bin.mean().assign(rows=by_bin.size())
    totals = pd.Series(weights).groupby(bins).sum()
    weighted = columns.mul(weights, axis=0).groupby(bins).sum()
    return weighted.div(totals, axis=0).assign(rows=totals)[totals > 0]


def _equal_mass_bins(values: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """The number of each value's bin, of `MAX_CALIBRATION_BINS` or of as many as have `MIN_BIN_ROWS` values each.

    Equal values share a bin, so that the order of the rows does not matter.
    """
    n_bins = min(MAX_CALIBRATION_BINS, max(1, len(values) // MIN_BIN_ROWS))
    edges = np.unique(np.quantile(values, np.arange(1, n_bins) / n_bins, method="inverted_cdf"))
    return np.searchsorted(edges, values)


def calibrated_class(n_classes: int) -> int | None:
    """Position of the class whose calibration is drawn: the positive one of two; None for the likeliest of more."""
    return 1 if n_classes == 2 else None


def expected_calibration_error(predictions: Predictions) -> float:
    """Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3, over the likeliest class's curve."""
    curve = calibration_curve(predictions)
    return float(np.average((curve["accuracy"] - curve["confidence"]).abs(), weights=curve["rows"]))


def coverage_by_class(predictions: Predictions) -> pd.DataFrame:
    """How often prediction sets hold the true class: one row a class, by position; NaN for a class without rows.

    Rows count by their weights, where they have any.

    Returns
    -------
    DataFrame of shape (n_classes, 2)
        `rows` and `coverage`.

    Raises
    ------
    ValueError
        The predictions have no prediction sets.
    """
    if predictions.prediction_sets is None:
        raise ValueError("the predictions have no prediction sets")
    covered = predictions.prediction_sets[np.arange(len(predictions.y)), predictions.y]
    table = _means(pd.DataFrame({"coverage": covered}), predictions.y, predictions.weights)[["rows", "coverage"]]
    table = table.reindex(range(predictions.prediction_sets.shape[1])).fillna({"rows": 0})
    return table if predictions.weights is not None else table.astype({"rows": int})
