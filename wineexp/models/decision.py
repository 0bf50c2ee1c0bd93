"""Decisions other than the likeliest class: for the least expected loss, or for the best value of a metric."""

from collections.abc import Callable
from typing import Self

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassifierMixin, clone
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils.validation import validate_data

from wineexp.evaluation.metrics import METRICS, Predictions
from wineexp.models.pipeline import DecidingClassifier, best_decisions, out_of_fold_probabilities

# The loss of a decision by its distance from the true class, in classes. The best decisions are then the likeliest
# class, the median class, and the class next to the mean.
LOSSES: dict[str, Callable[[npt.NDArray[np.intp]], npt.NDArray[np.float64]]] = {
    "zero_one": lambda distances: (distances != 0).astype(float),
    "absolute": lambda distances: np.abs(distances).astype(float),
    "squared": lambda distances: distances.astype(float) ** 2,
}

# Candidate values for one threshold or weight, and rounds over all of them.
N_CANDIDATES, MAX_ROUNDS = 40, 3


class LossClassifier(DecidingClassifier):
    """Decides on the class of the least expected loss among ordered classes (Bayes' decision).

    Where an inner class is missing from the training rows, its neighbours count as one class apart.

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
        """Fit on X (n_samples, n_features) and y (n_samples,), whose labels sort in the order of the classes.

        Raises
        ------
        ValueError
            The loss is unknown, or the estimator refuses the data.
        """
        if self.loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, but got {self.loss}")
        self.estimator_ = clone(self.estimator).fit(*validate_data(self, X, y))
        self.classes_ = self.estimator_.classes_
        positions = np.arange(len(self.classes_))
        self.utility_ = -LOSSES[self.loss](positions[:, None] - positions)
        return self


class MetricClassifier(DecidingClassifier):
    """Decides so that a metric is best on out-of-fold probabilities of the training rows; see `learn_utility`.

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
        """Fit on X (n_samples, n_features) and y (n_samples,), whose labels sort in the order of the classes.

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
            probabilities = out_of_fold_probabilities(self.estimator, values, codes, self.cv)
            self.utility_ = learn_utility(self.metric, codes, probabilities)
        self.estimator_ = clone(self.estimator).fit(values, labels)
        return self


def learn_utility(
    metric: str, codes: npt.NDArray[np.intp], probabilities: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """A utility of shape (n_classes, n_classes) whose decisions have the best value of a metric that a search finds.

    For a metric of ordered classes the search is over thresholds on the expected position of the class, for any other
    one over a weight for each class. A metric of the probabilities themselves, such as the log loss, does not depend on
    decisions: the utility is then that of the likeliest class.

    Parameters
    ----------
    metric : str
        One of `wineexp.evaluation.metrics.METRICS`.
    codes : ndarray of shape (n_samples,)
        True classes, 0 to n_classes - 1.
    probabilities : ndarray of shape (n_samples, n_classes)
        Out of fold.
    """
    definition = METRICS[metric]
    if definition.computed_from == "probabilities":
        return np.eye(probabilities.shape[1])
    sign = 1 if definition.direction == "maximize" else -1

    def evaluate(utility: npt.NDArray[np.float64]) -> float:
        decisions = best_decisions(probabilities, utility)
        return sign * float(definition.score(Predictions(codes, decisions, probabilities)))

    if definition.applies_to == "ordinal":
        return _utility_of_thresholds(probabilities, evaluate)
    return _utility_of_weights(probabilities, evaluate)


def _utility_of_thresholds(
    probabilities: npt.NDArray[np.float64], evaluate: Callable[[npt.NDArray[np.float64]], float]
) -> npt.NDArray[np.float64]:
    """A utility that decides on class k where the expected position lies above k of the thresholds.

    With e the expected position, the utility of class k is the line k e - t_1 - ... - t_k. The greatest of these lines
    is the one whose k is the number of thresholds below e. The search starts from thresholds half-way between classes.

    Parameters
    ----------
    probabilities : ndarray of shape (n_samples, n_classes)
    evaluate : callable
        From a utility to its score, of which greater is better.
    """
    positions = np.arange(probabilities.shape[1], dtype=float)
    expected = probabilities @ positions

    def utility(thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(np.outer(positions, positions) - np.r_[0, np.cumsum(thresholds)])

    def candidates(thresholds: npt.NDArray[np.float64], k: int) -> npt.NDArray[np.float64]:
        low = thresholds[k - 1] if k else 0.0
        high = thresholds[k + 1] if k + 1 < len(thresholds) else positions[-1]
        between = expected[(expected > low) & (expected < high)]
        return np.unique(np.quantile(between, np.linspace(0, 1, N_CANDIDATES))) if len(between) else thresholds[[k]]

    return utility(
        _coordinate_ascent(positions[:-1] + 0.5, candidates, lambda thresholds: evaluate(utility(thresholds)))
    )


def _utility_of_weights(
    probabilities: npt.NDArray[np.float64], evaluate: Callable[[npt.NDArray[np.float64]], float]
) -> npt.NDArray[np.float64]:
    """A utility that decides on the class of the greatest weighted probability; the search starts from equal weights.

    Parameters
    ----------
    probabilities : ndarray of shape (n_samples, n_classes)
    evaluate : callable
        From a utility to its score, of which greater is better.
    """
    factors = np.geomspace(1 / 4, 4, N_CANDIDATES)
    weights = _coordinate_ascent(
        np.ones(probabilities.shape[1]),
        lambda weights, k: weights[k] * factors,
        lambda weights: evaluate(np.diag(weights)),
    )
    return np.diag(weights)


def _coordinate_ascent(
    start: npt.NDArray[np.float64],
    candidates: Callable[[npt.NDArray[np.float64], int], npt.NDArray[np.float64]],
    evaluate: Callable[[npt.NDArray[np.float64]], float],
) -> npt.NDArray[np.float64]:
    """The best point that is found by changing one coordinate at a time; the start where no other is better.

    Parameters
    ----------
    start : ndarray of shape (n_coordinates,)
    candidates : callable
        From a point and the index of a coordinate to values to try for it.
    evaluate : callable
        From a point to its score, of which greater is better.
    """
    point, score = start, evaluate(start)
    for _ in range(MAX_ROUNDS):
        score_before = score
        for k in range(len(start)):
            for value in candidates(point, k):
                changed = np.r_[point[:k], value, point[k + 1 :]]
                if (changed_score := evaluate(changed)) > score:
                    point, score = changed, changed_score
        if score == score_before:
            break
    return point
