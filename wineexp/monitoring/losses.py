"""What each answer of a model loses, from 0 to 1: the mean of it is watched, and compared between versions."""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from wineexp.evaluation.metrics import METRICS, Metric
from wineexp.evaluation.predictions import NumberPredictions, Predictions

Floats = npt.NDArray[np.float64]

# Of predicted numbers errors beyond this quantile of the out-of-fold errors count as much as one at it: the losses are
# then bounded, and no single row decides.
CAP_QUANTILE = 0.995


class Loss(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an answer is scored, next to the deciding metric.

    Attributes
    ----------
    kind : str
        `error` (0 or 1), `distance` of ordered classes, `brier` (of the probabilities), `cost` of the decision,
        `absolute` or `squared` error of a number.
    low, high : float
        What becomes 0 and 1; what lies beyond becomes that, too.
    """

    kind: str
    low: float = 0.0
    high: float = 1.0

    def of_rows(self, predictions: Predictions | NumberPredictions) -> Floats:
        """The loss of each row: shape (n_samples,)."""
        raw = _raw(self.kind, predictions)
        return np.asarray(np.clip((raw - self.low) / (self.high - self.low), 0, 1))

    def in_unit(self, mean: float) -> float:
        """A mean of losses in the unit that they were scaled from."""
        return self.low + mean * (self.high - self.low)

    @property
    def name(self) -> str:
        """In words, without scaling."""
        return {
            "error": "share of wrong answers",
            "distance": "mean distance from the true class",
            "brier": "Brier score",
            "cost": "mean cost",
            "absolute": "mean absolute error",
            "squared": "mean squared error",
        }[self.kind]


def loss_for(metric: str, predictions: Predictions | NumberPredictions, definition: Metric | None = None) -> Loss:
    """The loss that goes with a deciding metric, scaled by out-of-fold predictions.

    Metrics that are no means over rows, such as ROC-AUC, go with the closest one that is. `definition` says
    what a metric of the user's own is computed from.
    """
    if isinstance(predictions, NumberPredictions):
        kind = "squared" if metric in ("root_mean_squared_error", "r2") else "absolute"
        # Where all predictions are right there is nothing to scale by.
        return Loss(kind, 0.0, float(np.quantile(_raw(kind, predictions), CAP_QUANTILE)) or 1.0)
    if metric == "cost" and predictions.costs is not None:
        return Loss("cost", float(predictions.costs.min()), float(predictions.costs.max()))
    definition = definition or METRICS[metric]
    if "ordinal" in definition.applies_to:
        return Loss("distance", 0.0, float(predictions.distances.max()))
    if definition.computed_from == "probabilities":
        return Loss("brier", 0.0, 2.0)
    return Loss("error")


def _raw(kind: str, predictions: Predictions | NumberPredictions) -> Floats:
    if isinstance(predictions, NumberPredictions):
        return predictions.errors if kind == "absolute" else predictions.errors**2
    if kind == "distance":
        return predictions.errors
    if kind == "cost" and predictions.costs is not None:
        return np.asarray(predictions.costs[predictions.y, predictions.predicted])
    if kind == "brier":
        truth = np.eye(predictions.probabilities.shape[1])[predictions.y]
        return np.asarray(((predictions.probabilities - truth) ** 2).sum(axis=1))
    return np.asarray(predictions.y != predictions.predicted, dtype=float)


def mean_by_row(
    losses: npt.ArrayLike, rows: Sequence[int] | npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.intp], Floats]:
    """The predicted rows, ascending, and the mean loss of each: a repeated split predicts each several times."""
    numbers, place = np.unique(rows, return_inverse=True)
    return numbers, np.bincount(place, np.asarray(losses, dtype=float)) / np.bincount(place)
