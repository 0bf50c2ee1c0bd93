"""Decisions other than the likeliest class: for the least expected loss, or for the best value of a metric."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassifierMixin
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils.validation import validate_data

from wineexp.evaluation.metrics import METRICS
from wineexp.evaluation.own_metric import is_own
from wineexp.evaluation.predictions import Predictions, best_decisions
from wineexp.models.arguments import change_arguments
from wineexp.models.pipeline import (
    DecidingClassifier,
    fit_on_all_classes,
    out_of_fold_probabilities,
)
from wineexp.models.weights import Weights

# The loss of a decision by its distance from the true class. The best decisions are then the likeliest class, the
# median class, and the class next to the mean.
LOSSES: dict[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "zero_one": lambda distances: (distances != 0).astype(float),
    "absolute": np.abs,
    "squared": np.square,
}

# Candidate values for one threshold or weight, and rounds over all of them.
N_CANDIDATES, MAX_ROUNDS = 40, 3


class LossClassifier(DecidingClassifier):
    """Decides on the class of the least expected loss among ordered classes (Bayes' decision).

    Parameters
    ----------
    estimator : classifier
    loss : str
        One of `LOSSES`.
    class_values : list of float, optional
        The number that each class stands for, with which distances are measured; see
        `wineexp.models.label_arguments.translate_labels`. By default neighbours are 1 apart.
    """

    def __init__(self, estimator: ClassifierMixin, loss: str, class_values: list[float] | None = None) -> None:
        self.estimator = estimator
        self.loss = loss
        self.class_values = class_values

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: Weights = None) -> Self:
        """Fit on X (n_samples, n_features), y (n_samples,) and, where there are any, weights (n_samples,).

        The labels sort in the order of the classes.

        Raises
        ------
        ValueError
            The loss is unknown, or the estimator refuses the data.
        """
        if self.loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, but got {self.loss}")
        values, labels = validate_data(self, X, y)
        self.estimator_ = fit_on_all_classes(self.estimator, values, labels, sample_weight)
        self.classes_ = self.estimator_.classes_
        numbers = values_of(self.class_values, len(self.classes_))
        self.utility_ = -LOSSES[self.loss](numbers[:, None] - numbers)
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
    class_values : list of float, optional
        As of `LossClassifier`.
    """

    def __init__(
        self,
        estimator: ClassifierMixin,
        metric: str,
        cv: BaseCrossValidator,
        class_values: list[float] | None = None,
    ) -> None:
        self.estimator = estimator
        self.metric = metric
        self.cv = cv
        self.class_values = class_values

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: Weights = None) -> Self:
        """Fit on X (n_samples, n_features), y (n_samples,) and, where there are any, weights (n_samples,).

        The labels sort in the order of the classes.

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
            probabilities = out_of_fold_probabilities(self.estimator, values, codes, self.cv, sample_weight)
            self.utility_ = learn_utility(self.metric, codes, probabilities, self.class_values, sample_weight)
        self.estimator_ = fit_on_all_classes(self.estimator, values, labels, sample_weight)
        return self


def own_metric_faults(model: Any) -> list[str]:
    """Which arguments of a model and of those within it want a metric optimized that is the user's own."""
    faults = []

    def check(_: Sequence[Any], name: str, value: Any) -> Any:
        if name.rpartition(".")[2] in ("metric", "decision") and isinstance(value, str) and is_own(value):
            faults.append(
                f"model.{name}={value}: a metric of your own decides between models, but no model optimizes its "
                f"decisions for it; model.{name}=log_loss leaves them to the probabilities"
            )
        return value

    change_arguments(model, check)
    return faults


def values_of(class_values: list[float] | None, n_classes: int) -> npt.NDArray[np.float64]:
    """The number that each class stands for, from 0 on; its position where classes are no numbers.

    Raises
    ------
    ValueError
        There are not as many values as classes.
    """
    values = np.arange(n_classes, dtype=float) if class_values is None else np.asarray(class_values, dtype=float)
    if len(values) != n_classes:
        raise ValueError(f"class_values must have one value for each of {n_classes} classes, but got {class_values}")
    return np.asarray(values - values[0])


def learn_utility(
    metric: str,
    codes: npt.NDArray[np.intp],
    probabilities: npt.NDArray[np.float64],
    class_values: list[float] | None = None,
    weights: Weights = None,
) -> npt.NDArray[np.float64]:
    """A utility of shape (n_classes, n_classes) whose decisions have the best value of a metric that a search finds.

    For a metric of ordered classes the search is over thresholds on the expected value of the class, for any other
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
    class_values : list of float, optional
        As of `LossClassifier`.
    weights : ndarray of shape (n_samples,), optional
        How many rows each row counts for in the metric.
    """
    definition = METRICS[metric]
    values = values_of(class_values, probabilities.shape[1])
    if definition.computed_from == "probabilities":
        return np.eye(probabilities.shape[1])
    sign = 1 if definition.direction == "maximize" else -1

    def evaluate(utility: npt.NDArray[np.float64]) -> float:
        decisions = best_decisions(probabilities, utility)
        return sign * float(
            definition.score(Predictions(codes, decisions, probabilities, values=values, weights=weights))
        )

    if "ordinal" in definition.applies_to:
        return _utility_of_thresholds(probabilities, values, evaluate)
    return _utility_of_weights(probabilities, evaluate)


def _utility_of_thresholds(
    probabilities: npt.NDArray[np.float64],
    values: npt.NDArray[np.float64],
    evaluate: Callable[[npt.NDArray[np.float64]], float],
) -> npt.NDArray[np.float64]:
    """A utility that decides on class k where the expected value lies above k of the thresholds.

    With e the expected value, the utility of class k is the line k e - t_1 - ... - t_k. The greatest of these lines
    is the one whose k is the number of thresholds below e. The search starts from thresholds half-way between classes.

    Parameters
    ----------
    probabilities : ndarray of shape (n_samples, n_classes)
    values : ndarray of shape (n_classes,)
        The number that each class stands for, ascending from 0.
    evaluate : callable
        From a utility to its score, of which greater is better.
    """
    positions = np.arange(len(values), dtype=float)
    expected = probabilities @ values

    def utility(thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(np.outer(values, positions) - np.r_[0, np.cumsum(thresholds)])

    def candidates(thresholds: npt.NDArray[np.float64], k: int) -> npt.NDArray[np.float64]:
        low = thresholds[k - 1] if k else 0.0
        high = thresholds[k + 1] if k + 1 < len(thresholds) else values[-1]
        between = expected[(expected > low) & (expected < high)]
        return np.unique(np.quantile(between, np.linspace(0, 1, N_CANDIDATES))) if len(between) else thresholds[[k]]

    return utility(
        _coordinate_ascent((values[:-1] + values[1:]) / 2, candidates, lambda thresholds: evaluate(utility(thresholds)))
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
