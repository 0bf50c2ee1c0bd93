"""Ensembles of several models, which are weighted or combined by their out-of-fold probabilities."""

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils.validation import check_is_fitted, validate_data

from wineexp.evaluation.metrics import METRICS, Metric
from wineexp.evaluation.predictions import Predictions, best_decisions
from wineexp.models.decision import learn_utility, values_of
from wineexp.models.pipeline import (
    FixedClassesClassifier,
    fit_on_all_classes,
    out_of_fold_probabilities,
)
from wineexp.models.weights import Weights

# Probabilities are raised to this before their logarithm is taken.
MIN_PROBABILITY = 1e-4


class EnsembleClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """Base class: members predict out of fold while the ensemble is fitted, and are then fitted on all rows.

    Parameters
    ----------
    members : dict of str to classifier
    cv : cross-validator
        Splits the training rows.

    Attributes
    ----------
    members_ : dict of str to FixedClassesClassifier
        Those with a part in the ensemble, fitted on all training rows.
    classes_ : ndarray of shape (n_classes,)
    utility_ : ndarray of shape (n_classes, n_classes)
        See `wineexp.evaluation.predictions.best_decisions`.
    """

    members: dict[str, ClassifierMixin]
    cv: BaseCrossValidator

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.generic]:
        """The label of the greatest expected utility for each row: shape (n_samples,)."""
        return np.asarray(self.classes_[best_decisions(self.predict_proba(X), self.utility_)])

    def predict_proba(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Probabilities of shape (n_samples, n_classes)."""
        check_is_fitted(self)
        values = validate_data(self, X, reset=False)
        return self._combine([member.predict_proba(values) for member in self.members_.values()])

    def _combine(self, member_probabilities: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        """The ensemble's probabilities from those of `members_`, all of shape (n_samples, n_classes)."""
        raise NotImplementedError

    def _out_of_fold(
        self, values: npt.NDArray[np.float64], codes: npt.NDArray[np.intp], weights: Weights
    ) -> dict[str, npt.NDArray[np.float64]]:
        """Out-of-fold probabilities (n_samples, n_classes) of each member."""
        if not self.members:
            raise ValueError("members must name one model or more, but got none")
        return {
            name: out_of_fold_probabilities(member, values, codes, self.cv, weights)
            for name, member in self.members.items()
        }

    def _fit_members(
        self, names: list[str], values: npt.NDArray[np.float64], codes: npt.NDArray[np.intp], weights: Weights
    ) -> None:
        classes: list[object] = list(range(len(self.classes_)))
        self.members_ = {
            name: FixedClassesClassifier(clone(self.members[name]), classes).fit(values, codes, weights)
            for name in names
        }


class SelectionClassifier(EnsembleClassifier):
    """A mean over models that are picked one by one, each time the one that improves a metric the most.

    Caruana et al. 2004, "Ensemble Selection from Libraries of Models", with replacement: a model that is picked twice
    counts twice. Models are picked by out-of-fold probabilities of the training rows, so that the choice between models
    and their settings is a part of fitting, and a cross-validation of the ensemble is a nested one.

    Parameters
    ----------
    members : dict of str to classifier
    metric : str
        One of `wineexp.evaluation.metrics.METRICS`, by which members are picked.
    picks : int
        How many are picked at most; the picks after the best value of the metric are dropped.
    decision : str
        The metric for which decisions are optimized on the mean's out-of-fold probabilities; see
        `wineexp.models.decision.learn_utility`.
    temper : bool
        Whether the mean's probabilities are then scaled to the least log loss; see `_fit_temperature`.
    cv : cross-validator
    class_values : list of float, optional
        As of `wineexp.models.decision.LossClassifier`.

    Attributes
    ----------
    weights_ : dict of str to float
        The share of the picks of each member; a member that was not picked is not fitted again.
    temperature_ : float or None
    """

    def __init__(
        self,
        members: dict[str, ClassifierMixin],
        metric: str,
        picks: int,
        decision: str,
        temper: bool,
        cv: BaseCrossValidator,
        class_values: list[float] | None = None,
    ) -> None:
        self.members = members
        self.metric = metric
        self.picks = picks
        self.decision = decision
        self.temper = temper
        self.cv = cv
        self.class_values = class_values

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: Weights = None) -> Self:
        """Fit on X (n_samples, n_features), y (n_samples,) and, where there are any, weights (n_samples,).

        Raises
        ------
        ValueError
            A metric is unknown, `picks` is less than 1, there is no member, or one of them refuses the data.
        """
        for name, metric in (("metric", self.metric), ("decision", self.decision)):
            if metric not in METRICS:
                raise ValueError(f"{name} must be one of {', '.join(METRICS)}, but got {metric}")
        if self.picks < 1:
            raise ValueError(f"picks >= 1 must hold, but got picks={self.picks}")
        values, labels = validate_data(self, X, y)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        out_of_fold = self._out_of_fold(values, codes, sample_weight)
        picked = self._pick_members(out_of_fold, codes, sample_weight)
        self.weights_ = {name: picked.count(name) / len(picked) for name in self.members}
        mean = np.asarray(sum(self.weights_[name] * out_of_fold[name] for name in self.members))
        self.temperature_ = _fit_temperature(mean, codes, sample_weight) if self.temper else None
        self.utility_ = learn_utility(self.decision, codes, self._scale(mean), self.class_values, sample_weight)
        self._fit_members([name for name in self.members if name in picked], values, codes, sample_weight)
        return self

    def _pick_members(
        self, out_of_fold: dict[str, npt.NDArray[np.float64]], codes: npt.NDArray[np.intp], weights: Weights
    ) -> list[str]:
        """The picked names in their order, up to the best value of the metric."""
        values = values_of(self.class_values, len(self.classes_))

        def predictions(mean: npt.NDArray[np.float64]) -> Predictions:
            return Predictions(codes, mean.argmax(axis=1), mean, values=values, weights=weights)

        return pick_members(out_of_fold, METRICS[self.metric], predictions, self.picks)

    def _combine(self, member_probabilities: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        weights = [self.weights_[name] for name in self.members_]
        weighted = (weight * probabilities for weight, probabilities in zip(weights, member_probabilities, strict=True))
        return self._scale(np.asarray(sum(weighted)))

    def _scale(self, probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return probabilities if self.temperature_ is None else _with_temperature(probabilities, self.temperature_)


def pick_members(
    out_of_fold: Mapping[str, npt.NDArray[np.float64]],
    metric: Metric,
    predictions: Callable[[npt.NDArray[np.float64]], Any],
    picks: int,
) -> list[str]:
    """The names of the members that are picked one by one, each the one whose mean with those before is the best.

    Parameters
    ----------
    out_of_fold : mapping of str to ndarray
        What each member predicts, all of one shape.
    metric : Metric
    predictions : callable
        From a mean of such arrays to what the metric is computed from.
    picks : int
        The most; those after the best value of the metric are dropped.
    """
    sign = 1 if metric.direction == "maximize" else -1
    picked: list[str] = []
    best_scores: list[float] = []
    total = np.zeros_like(next(iter(out_of_fold.values())))
    for n_picked in range(1, picks + 1):
        scores = {
            name: sign * float(metric.score(predictions((total + predicted) / n_picked)))
            for name, predicted in out_of_fold.items()
        }
        best_name = max(scores, key=lambda name: scores[name])
        total += out_of_fold[best_name]
        picked.append(best_name)
        best_scores.append(scores[best_name])
    return picked[: int(np.argmax(best_scores)) + 1]


class StackClassifier(EnsembleClassifier):
    """A final model over the members' probabilities (Wolpert 1992, "Stacked Generalization").

    It is fitted on the logarithms of their out-of-fold probabilities.

    Parameters
    ----------
    members : dict of str to classifier
    final : classifier
    cv : cross-validator

    Attributes
    ----------
    final_ : classifier
    """

    def __init__(self, members: dict[str, ClassifierMixin], final: ClassifierMixin, cv: BaseCrossValidator) -> None:
        self.members = members
        self.final = final
        self.cv = cv

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: Weights = None) -> Self:
        """Fit on X (n_samples, n_features), y (n_samples,) and, where there are any, weights (n_samples,).

        Raises
        ------
        ValueError
            There is no member, or one of them or the final model refuses the data.
        """
        values, labels = validate_data(self, X, y)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        out_of_fold = self._out_of_fold(values, codes, sample_weight)
        self.final_ = fit_on_all_classes(self.final, _logarithms(list(out_of_fold.values())), codes, sample_weight)
        self.utility_ = np.eye(len(self.classes_))
        self._fit_members(list(self.members), values, codes, sample_weight)
        return self

    def _combine(self, member_probabilities: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        return np.asarray(self.final_.predict_proba(_logarithms(member_probabilities)), dtype=np.float64)


def _fit_temperature(
    probabilities: npt.NDArray[np.float64], codes: npt.NDArray[np.intp], weights: Weights = None
) -> float:
    """The temperature between 1/3 and 3 that gives the least log loss.

    Guo et al. 2017, "On Calibration of Modern Neural Networks": the logarithms of the probabilities are divided by the
    temperature. A mean over models is underconfident, which a temperature below 1 corrects.

    Parameters
    ----------
    probabilities : ndarray of shape (n_samples, n_classes)
    codes : ndarray of shape (n_samples,)
        True classes, 0 to n_classes - 1.
    weights : ndarray of shape (n_samples,), optional
    """
    rows = np.arange(len(codes))

    def log_loss(log_temperature: float) -> float:
        of_true_classes = _with_temperature(probabilities, np.exp(log_temperature))[rows, codes]
        return float(np.average(-np.log(of_true_classes), weights=weights))

    return float(np.exp(minimize_scalar(log_loss, bounds=(-np.log(3), np.log(3)), method="bounded").x))


def _with_temperature(probabilities: npt.NDArray[np.float64], temperature: float) -> npt.NDArray[np.float64]:
    return np.asarray(softmax(np.log(np.maximum(probabilities, MIN_PROBABILITY)) / temperature, axis=1))


def _logarithms(member_probabilities: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """The input of the final model: shape (n_samples, n_members * n_classes)."""
    return np.log(np.maximum(np.hstack(member_probabilities), MIN_PROBABILITY))
