"""Ordinal models: classifiers that use the order of the classes."""

from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, RegressorMixin, clone
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils.validation import check_is_fitted, validate_data

from wineexp.evaluation.grouped_folds import fitting_part
from wineexp.evaluation.predictions import best_decisions
from wineexp.models.decision import LOSSES
from wineexp.models.pipeline import fit_on_all_classes
from wineexp.models.weights import Weights, weight_options


class CumulativeClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """One binary classifier for each class but the last: whether a row's class is above it.

    Frank & Hall 2001, "A Simple Approach to Ordinal Classification". Where the probability of being above a class
    exceeds that of being above a lower one, it is reduced to it, so that no class gets a negative probability.

    Parameters
    ----------
    estimator : classifier

    Attributes
    ----------
    estimators_ : list of classifier
        For each class but the last, fitted on whether a row is above it.
    classes_ : ndarray of shape (n_classes,)
    """

    def __init__(self, estimator: ClassifierMixin) -> None:
        self.estimator = estimator

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: Weights = None) -> Self:
        """Fit on X (n_samples, n_features), y (n_samples,) and, where there are any, weights (n_samples,).

        The labels sort in the order of the classes.

        Raises
        ------
        ValueError
            The estimator refuses the data.
        """
        values, labels = validate_data(self, X, y)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        lower_codes = range(len(self.classes_) - 1)
        self.estimators_ = [
            fit_on_all_classes(self.estimator, values, (codes > code).astype(int), sample_weight)
            for code in lower_codes
        ]
        return self

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.generic]:
        """The likeliest label of each row: shape (n_samples,)."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def predict_proba(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Probabilities of shape (n_samples, n_classes)."""
        check_is_fitted(self)
        values = validate_data(self, X, reset=False)
        columns = [
            np.asarray(estimator.predict_proba(values)[:, 1], dtype=np.float64) for estimator in self.estimators_
        ]
        above = np.reshape(columns, (len(columns), len(values))).T
        return _class_probabilities(np.minimum.accumulate(above, axis=1))


class ThresholdClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """A regression on the classes' positions, with thresholds between them fitted to its out-of-fold predictions.

    The thresholds are those of proportional odds (McCullagh 1980, "Regression Models for Ordinal Data"): the
    probability of a class up to position k is the logistic function of `thresholds_[k] - slope_ * prediction`, by
    maximum likelihood. Predictions are out of fold, since a regression is overconfident on its training rows. The
    decision is the median class: the one between whose thresholds the prediction lies.

    Parameters
    ----------
    estimator : regressor
    cv : cross-validator
        Splits the training rows.

    Attributes
    ----------
    estimator_ : regressor
        Fitted on all training rows.
    classes_ : ndarray of shape (n_classes,)
    thresholds_ : ndarray of shape (n_classes - 1,)
    slope_ : float
    utility_ : ndarray of shape (n_classes, n_classes)
        See `wineexp.evaluation.predictions.best_decisions`.
    """

    def __init__(self, estimator: RegressorMixin, cv: BaseCrossValidator) -> None:
        self.estimator = estimator
        self.cv = cv

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: Weights = None) -> Self:
        """Fit on X (n_samples, n_features), y (n_samples,) and, where there are any, weights (n_samples,).

        The labels sort in the order of the classes.

        Raises
        ------
        ValueError
            The estimator or the cross-validator refuses the data.
        """
        values, labels = validate_data(self, X, y)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        predicted = np.zeros(len(codes))
        for train, test in self.cv.split(values, codes):
            options = weight_options(sample_weight, train)
            with fitting_part(train):
                fitted = clone(self.estimator).fit(values[train], codes[train].astype(float), **options)
            predicted[test] = fitted.predict(values[test])
        self.thresholds_, self.slope_ = _fit_proportional_odds(predicted, codes, len(self.classes_), sample_weight)
        self.estimator_ = clone(self.estimator).fit(values, codes.astype(float), **weight_options(sample_weight))
        positions = np.arange(len(self.classes_), dtype=float)
        self.utility_ = -LOSSES["absolute"](positions[:, None] - positions)
        return self

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.generic]:
        """The median label of each row: shape (n_samples,)."""
        return np.asarray(self.classes_[best_decisions(self.predict_proba(X), self.utility_)])

    def predict_proba(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Probabilities of shape (n_samples, n_classes)."""
        check_is_fitted(self)
        predicted = np.asarray(self.estimator_.predict(validate_data(self, X, reset=False)), dtype=np.float64)
        return _class_probabilities(expit(self.slope_ * predicted[:, None] - self.thresholds_))


def _class_probabilities(above: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Probabilities of the classes, of shape (n_samples, n_classes).

    Parameters
    ----------
    above : ndarray of shape (n_samples, n_classes - 1)
        Probabilities of being above each class but the last, not increasing along a row.
    """
    n_samples = len(above)
    return -np.diff(np.hstack([np.ones((n_samples, 1)), above, np.zeros((n_samples, 1))]), axis=1)


def _fit_proportional_odds(
    predicted: npt.NDArray[np.float64], codes: npt.NDArray[np.intp], n_classes: int, weights: Weights = None
) -> tuple[npt.NDArray[np.float64], float]:
    """The ascending thresholds (n_classes - 1,) and the positive slope of the greatest likelihood.

    Parameters
    ----------
    predicted : ndarray of shape (n_samples,)
        Predictions of the regression, out of fold.
    codes : ndarray of shape (n_samples,)
        True classes, 0 to n_classes - 1.
    n_classes : int
    weights : ndarray of shape (n_samples,), optional
    """
    rows = np.arange(len(codes))

    def unpack(point: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], float]:
        # The slope and the differences between thresholds are positive, since their logarithms are optimized.
        return np.cumsum(np.r_[point[1], np.exp(point[2:])]), float(np.exp(point[0]))

    def log_loss(point: npt.NDArray[np.float64]) -> float:
        thresholds, slope = unpack(point)
        likelihood = _class_probabilities(expit(slope * predicted[:, None] - thresholds))[rows, codes]
        return float(np.average(-np.log(np.maximum(likelihood, np.finfo(float).tiny)), weights=weights))

    start = np.r_[np.log(2.0), 1.0, np.full(n_classes - 2, np.log(2.0))]
    # Bounded, since the slope of perfectly separated classes would be infinite.
    optimum = minimize(log_loss, start, method="L-BFGS-B", bounds=[(-4, 4), *[(-50, 50)] * (len(start) - 1)])
    return unpack(optimum.x)
