"""Decisions: which class is answered, where the likeliest one is not the best answer."""

from collections.abc import Callable
from typing import Self

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassifierMixin, clone
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils.validation import validate_data

from wineexp.evaluation.metrics import METRICS, Predictions
from wineexp.models.pipeline import DecidingClassifier, best, out_of_fold

# What an answer costs, by how many places it is from the true class. The best answer is then the likeliest class, the
# median class, and the class next to the mean.
LOSSES: dict[str, Callable[[npt.NDArray[np.intp]], npt.NDArray[np.float64]]] = {
    "zero_one": lambda places: (places != 0).astype(float),
    "absolute": lambda places: np.abs(places).astype(float),
    "squared": lambda places: places.astype(float) ** 2,
}

# Values that are tried for one threshold or weight, and rounds over all of them.
TRIED, ROUNDS = 40, 3


class LossClassifier(DecidingClassifier):
    """Predictions the class of the least expected loss among ordered classes (Bayes' decision).

    Where an inner class is missing from the training rows, its neighbours count as one place apart.

    Parameters
    ----------
    estimator : classifier
    loss : str
        One of `LOSSES`.
    """

    def __init__(self, estimator: ClassifierMixin, loss: str) -> None:
        self.estimator = estimator
        self.loss = loss

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Fit on X (n_samples, n_features) and y (n_samples,), whose labels are in their order.

        Raises
        ------
        ValueError
            The loss is unknown, or the estimator refuses the data.
        """
        if self.loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, but got {self.loss}")
        self.estimator_ = clone(self.estimator).fit(*validate_data(self, X, y))
        self.classes_ = self.estimator_.classes_
        places = np.arange(len(self.classes_))
        self.utility_ = -LOSSES[self.loss](places[:, None] - places)
        return self


class MetricClassifier(DecidingClassifier):
    """Decides so that a metric is best on out-of-fold probabilities of its own training rows; see `utility_for`.

    Parameters
    ----------
    estimator : classifier
    metric : str
        One of `wineexp.evaluation.metrics.METRICS`.
    cv : cross-validator
        Splits the training rows.
    """

    def __init__(self, estimator: ClassifierMixin, metric: str, cv: BaseCrossValidator) -> None:
        self.estimator = estimator
        self.metric = metric
        self.cv = cv

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Fit on X (n_samples, n_features) and y (n_samples,), whose labels are in their order.

        Raises
        ------
        ValueError
            The metric is unknown, or the estimator or the cross-validator refuses the data.
        """
        if self.metric not in METRICS:
            raise ValueError(f"metric must be one of {', '.join(METRICS)}, but got {self.metric}")
        values, labels = validate_data(self, X, y)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        self.utility_ = np.eye(len(self.classes_))
        if METRICS[self.metric].computed_from == "decisions":
            self.utility_ = utility_for(self.metric, codes, out_of_fold(self.estimator, values, codes, self.cv))
        self.estimator_ = clone(self.estimator).fit(values, labels)
        return self


def utility_for(metric: str, codes: npt.NDArray[np.intp], told: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The utility of shape (n_classes, n_classes) whose decisions are the best that were found by a metric.

    Of a metric that knows the classes' order: thresholds on the expected place. Of others: a weight for each class,
    which of two classes is a threshold. A metric of the probabilities themselves, as the log loss, has no say: the
    likeliest class is answered.

    Parameters
    ----------
    metric : str
        One of `wineexp.evaluation.metrics.METRICS`.
    codes : ndarray of shape (n_samples,)
        True classes, 0 to n_classes - 1.
    told : ndarray of shape (n_samples, n_classes)
        Probabilities of rows that they were not fitted on.
    """
    by = METRICS[metric]
    if by.computed_from == "probabilities":
        return np.eye(told.shape[1])
    sign = 1 if by.direction == "maximize" else -1

    def judge(utility: npt.NDArray[np.float64]) -> float:
        return sign * float(by.score(Predictions(codes, best(told, utility), told)))

    return _thresholds(told, judge) if by.applies_to == "ordinal" else _weights(told, judge)


def _thresholds(
    told: npt.NDArray[np.float64], judge: Callable[[npt.NDArray[np.float64]], float]
) -> npt.NDArray[np.float64]:
    """A utility that answers class k where the expected place is above k thresholds, from halves in steps to the best.

    The greatest of the lines k e - t_1 - ... - t_k over the expected place e has k = number of thresholds below e.

    Parameters
    ----------
    told : ndarray of shape (n_samples, n_classes)
    judge : callable
        How good a utility is.
    """
    places = np.arange(told.shape[1], dtype=float)
    expected = told @ places

    def utility(thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(np.outer(places, places) - np.r_[0, np.cumsum(thresholds)])

    def candidates(thresholds: npt.NDArray[np.float64], k: int) -> npt.NDArray[np.float64]:
        low = thresholds[k - 1] if k else 0.0
        high = thresholds[k + 1] if k + 1 < len(thresholds) else places[-1]
        between = expected[(expected > low) & (expected < high)]
        return np.unique(np.quantile(between, np.linspace(0, 1, TRIED))) if len(between) else thresholds[[k]]

    return utility(_climb(places[:-1] + 0.5, candidates, lambda thresholds: judge(utility(thresholds))))


def _weights(
    told: npt.NDArray[np.float64], judge: Callable[[npt.NDArray[np.float64]], float]
) -> npt.NDArray[np.float64]:
    """A utility that answers the class of the greatest weighted probability, from equal weights in steps to the best.

    Parameters
    ----------
    told : ndarray of shape (n_samples, n_classes)
    judge : callable
        How good a utility is.
    """
    around = np.geomspace(1 / 4, 4, TRIED)
    return np.diag(_climb(np.ones(told.shape[1]), lambda w, k: w[k] * around, lambda w: judge(np.diag(w))))


def _climb(
    start: npt.NDArray[np.float64],
    candidates: Callable[[npt.NDArray[np.float64], int], npt.NDArray[np.float64]],
    judge: Callable[[npt.NDArray[np.float64]], float],
) -> npt.NDArray[np.float64]:
    """The best point found by changing one coordinate after the other; the start, where nothing is better."""
    point, score = start, judge(start)
    for _ in range(ROUNDS):
        before = score
        for k in range(len(start)):
            for value in candidates(point, k):
                moved = np.r_[point[:k], value, point[k + 1 :]]
                if (found := judge(moved)) > score:
                    point, score = moved, found
        if score == before:
            break
    return point
