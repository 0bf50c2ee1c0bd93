"""The baseline: what a model that knows no feature always predicts, and its scores."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from wineexp.evaluation.metrics import Metric, Scores, definitions, score
from wineexp.evaluation.predictions import NumberPredictions, Predictions

# Before the name of a metric that a prediction of the training rows' mean has.
BASELINE = "baseline_"


def baseline(y_train: npt.NDArray[Any], weights: npt.NDArray[np.float64] | None = None) -> Any:
    """What a model that knows no feature predicts always: the training rows' most frequent class, or their mean.

    Parameters
    ----------
    y_train : ndarray of shape (n_training,)
        Positions of classes, or, as floating-point numbers, the numbers of a target of numbers.
    weights : ndarray of shape (n_training,), optional
        How many rows each row counts for.
    """
    if y_train.dtype.kind == "f":
        return float(np.average(y_train, weights=weights))
    return int(np.bincount(y_train, weights).argmax())


def baseline_scores(
    constant: Any, predictions: Predictions | NumberPredictions, metrics: Iterable[str] | Mapping[str, Metric]
) -> Scores:
    """The scores of a constant prediction for test rows.

    Parameters
    ----------
    constant : int or float
        As `baseline` gives it.
    predictions : Predictions or NumberPredictions
        A model's, of the test rows; only their true values and weights count.
    metrics : iterable of str, or mapping of str to Metric
        Those that are scored, as of `score`.

    Returns
    -------
    dict of str to float
        `majority_accuracy`, for classes, and `baseline_cost` where decisions have costs; for numbers `baseline_` and
        the name of each metric that is to be minimized.
    """
    answers = np.full(len(predictions.y), constant)
    if isinstance(predictions, Predictions):
        of_class = score(replace(predictions, predicted=answers, prediction_sets=None), ["accuracy", "cost"])
        of_cost = {} if predictions.costs is None else {f"{BASELINE}cost": of_class["cost"]}
        return {"majority_accuracy": of_class["accuracy"]} | of_cost
    always = replace(predictions, predicted=answers, low=None, high=None, crps=None)
    return {f"{BASELINE}{name}": value for name, value in score(always, _errors(metrics)).items()}


def baseline_names(metrics: Iterable[str] | Mapping[str, Metric]) -> list[str]:
    """The names of the scores that `baseline_scores` gives for a target with these metrics."""
    if "accuracy" in metrics:
        return ["majority_accuracy"]
    return [f"{BASELINE}{name}" for name in _errors(metrics)]


def _errors(metrics: Iterable[str] | Mapping[str, Metric]) -> dict[str, Metric]:
    """Those that are to be minimized, and that a constant has."""
    return {
        name: metric
        for name, metric in definitions(metrics).items()
        if metric.direction == "minimize" and metric.computed_from != "intervals"
    }
