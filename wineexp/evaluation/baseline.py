"""The baseline: what a model that knows no feature always predicts, and its scores."""

from typing import Any

import numpy as np
import numpy.typing as npt

from wineexp.evaluation.metrics import METRICS, Scores, score
from wineexp.evaluation.predictions import NumberPredictions

# Before the name of a metric that a prediction of the training rows' mean has.
BASELINE = "baseline_"


def baseline(y_train: npt.NDArray[Any]) -> Any:
    """What a model that knows no feature predicts always: the training rows' most frequent class, or their mean.

    Parameters
    ----------
    y_train : ndarray of shape (n_training,)
        Positions of classes, or, as floating-point numbers, the numbers of a target of numbers.
    """
    return float(y_train.mean()) if y_train.dtype.kind == "f" else int(np.bincount(y_train).argmax())


def baseline_scores(predicted: Any, y: npt.NDArray[Any], names: list[str]) -> Scores:
    """The scores of a constant prediction for test rows.

    Parameters
    ----------
    predicted : int or float
        As `baseline` gives it.
    y : ndarray of shape (n_samples,)
        As there, of the test rows.
    names : list of str
        The metrics that are scored.

    Returns
    -------
    dict of str to float
        `majority_accuracy`, for classes; for numbers `baseline_` and the name of each metric that is to be minimized.
    """
    if y.dtype.kind != "f":
        return {"majority_accuracy": float(np.mean(y == predicted))}
    constant = NumberPredictions(y, np.full(len(y), predicted))
    errors = [name for name in names if METRICS[name].direction == "minimize"]
    return {f"{BASELINE}{name}": value for name, value in score(constant, errors).items()}
