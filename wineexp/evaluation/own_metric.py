"""Metrics of the user's own: any callable with the signature of scikit-learn's metrics."""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from wineexp.core.errors import UserError, did_you_mean
from wineexp.core.instantiation import find_callable
from wineexp.evaluation.metrics import Metric
from wineexp.evaluation.predictions import NumberPredictions, Predictions

# What such a callable may want beside the true labels or numbers.
NEEDS = {"predictions": "decisions", "probabilities": "probabilities"}
DIRECTIONS = ("maximize", "minimize")


def is_own(name: str) -> bool:
    """Whether a metric's name is that of a callable in a module, as `my.module.score`."""
    return "." in name


def own_metric(name: str, direction: str, needs: str, labels: Sequence[object]) -> Metric:
    """The metric that a callable of the user's own computes.

    Parameters
    ----------
    name : str
        Its dotted name. It is called as scikit-learn's metrics are: `score(y_true, y_pred)`, with `sample_weight=`
        where the rows have weights.
    direction : str
        `maximize` or `minimize`.
    needs : str
        `predictions`, labels or numbers; or `probabilities`, of shape (n_samples,) those of the second of two classes,
        of shape (n_samples, n_classes) those of more.
    labels : sequence of n_classes labels
        None of a target of numbers.

    Raises
    ------
    UserError
        There is no such callable, or it does not take two arguments; or the other arguments are none of those named.
    """
    faults = []
    if direction not in DIRECTIONS:
        faults.append(f"target.direction={direction}: {did_you_mean(direction, DIRECTIONS)}")
    if needs not in NEEDS:
        faults.append(f"target.metric_needs={needs}: {did_you_mean(needs, NEEDS)}")
    elif NEEDS[needs] == "probabilities" and not labels:
        faults.append(f"target.metric_needs={needs}: a model of numbers predicts no probabilities")
    try:
        function = find_callable(name)
        if not _accepts(function, [None, None]):
            faults.append(f"target.metric={name}: a callable score(y_true, y_pred) is wanted")
    except UserError as error:
        faults += [f"target.metric={name}: {fault}" for fault in error.faults]
    if faults:
        raise UserError(*faults)

    def score(predictions: Predictions | NumberPredictions) -> float:
        return _call(name, function, predictions, needs, np.asarray(labels))

    return Metric(score, direction, ("numbers",) if not labels else ("classes",), NEEDS[needs])


def try_out(name: str, metric: Metric, predictions: Predictions | NumberPredictions) -> None:
    """Compute a metric of the user's own once, before anything is trained.

    Raises
    ------
    UserError
        It fails, or is no number.
    """
    value = metric.score(predictions)
    if not math.isfinite(value):
        raise UserError(f"target.metric={name}: it is {value} for predictions that are all right")


def _call(
    name: str, function: Callable[..., Any], predictions: Predictions | NumberPredictions, needs: str, labels: Any
) -> float:
    if isinstance(predictions, NumberPredictions):
        y, answers = predictions.y, predictions.predicted
    else:
        y = labels[predictions.y]
        if NEEDS[needs] == "probabilities":
            answers = predictions.probabilities[:, 1] if len(labels) == 2 else predictions.probabilities
        else:
            answers = labels[predictions.predicted]
    options = {} if predictions.weights is None else {"sample_weight": predictions.weights}
    if not _accepts(function, [y, answers], options):
        raise UserError(
            f"target.metric={name}: it takes no sample_weight, and the data set has weights (data.weight); give it "
            "that argument, or let every row count the same with data.weight=null"
        )
    try:
        return float(function(y, answers, **options))
    except Exception as error:
        if len(labels) and len(np.unique(predictions.y)) == 1:
            # Metrics such as the area under a curve are not defined where a slice or a fold has rows of one class.
            return math.nan
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(
            f"target.metric={name}: it gave no number for {len(y):,} rows and their {needs}: {reason} "
            "(HYDRA_FULL_ERROR=1 shows where)"
        ) from error


def _accepts(function: Callable[..., Any], arguments: list[Any], options: dict[str, Any] | None = None) -> bool:
    try:
        inspect.signature(function).bind(*arguments, **(options or {}))
    except TypeError:
        return False
    except ValueError:
        # Some callables of C have no signature.
        return True
    return True
