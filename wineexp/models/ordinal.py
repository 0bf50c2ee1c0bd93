"""Ordinal models: classifiers that know that the classes have an order."""

from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, RegressorMixin, clone
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils.validation import check_is_fitted, validate_data

from wineexp.models.decision import LOSSES
from wineexp.models.pipeline import best


class CumulativeClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """One binary classifier a step, for whether the class is above it.

    Frank & Hall 2001, "A Simple Approach to Ordinal Classification". A probability of being above a step that exceeds
    that of a lower step is set back to it, so that no class gets a negative one.

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

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Fit on X (n_samples, n_features) and y (n_samples,), whose labels are in their order.

        Raises
        ------
        ValueError
            The estimator refuses the data.
        """
        values, labels = validate_data(self, X, y)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        steps = range(len(self.classes_) - 1)
        self.estimators_ = [clone(self.estimator).fit(values, (codes > step).astype(int)) for step in steps]
        return self

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.generic]:
        """The likeliest label of each row: shape (n_samples,)."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def predict_proba(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Probabilities of shape (n_samples, n_classes)."""
        check_is_fitted(self)
        values = validate_data(self, X, reset=False)
        above = [np.asarray(each.predict_proba(values)[:, 1], dtype=np.float64) for each in self.estimators_]
        return _between(np.minimum.accumulate(np.reshape(above, (len(above), len(values))).T, axis=1))


class ThresholdClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """A regression on the classes' places, and thresholds between them fitted to its out-of-fold predictions.

    The thresholds are those of proportional odds (McCullagh 1980, "Regression Models for Ordinal Data"): the
    probability of a class not above step k is the logistic function of `thresholds_[k] - slope_ * prediction`, by
    maximum likelihood. Out of fold, since a regression is too sure of rows that it has seen. The median class is
    answered: the one whose thresholds the prediction lies between.

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
        See `wineexp.models.pipeline.best`.
    """

    def __init__(self, estimator: RegressorMixin, cv: BaseCrossValidator) -> None:
        self.estimator = estimator
        self.cv = cv

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Fit on X (n_samples, n_features) and y (n_samples,), whose labels are in their order.

        Raises
        ------
        ValueError
            The estimator or the cross-validator refuses the data.
        """
        values, labels = validate_data(self, X, y)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        predicted = np.zeros(len(codes))
        for train, test in self.cv.split(values, codes):
            predicted[test] = clone(self.estimator).fit(values[train], codes[train].astype(float)).predict(values[test])
        self.thresholds_, self.slope_ = _proportional_odds(predicted, codes, len(self.classes_))
        self.estimator_ = clone(self.estimator).fit(values, codes.astype(float))
        places = np.arange(len(self.classes_))
        self.utility_ = -LOSSES["absolute"](places[:, None] - places)
        return self

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.generic]:
        """The median label of each row: shape (n_samples,)."""
        return np.asarray(self.classes_[best(self.predict_proba(X), self.utility_)])

    def predict_proba(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Probabilities of shape (n_samples, n_classes)."""
        check_is_fitted(self)
        predicted = np.asarray(self.estimator_.predict(validate_data(self, X, reset=False)), dtype=np.float64)
        return _between(expit(self.slope_ * predicted[:, None] - self.thresholds_))


def _between(above: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Probabilities (n_samples, n_classes) from those of being above each step, falling: (n_samples, n_classes - 1)."""
    rows = len(above)
    return -np.diff(np.hstack([np.ones((rows, 1)), above, np.zeros((rows, 1))]), axis=1)


def _proportional_odds(
    predicted: npt.NDArray[np.float64], codes: npt.NDArray[np.intp], n_classes: int
) -> tuple[npt.NDArray[np.float64], float]:
    """Ascending thresholds (n_classes - 1,) and positive slope of the greatest likelihood."""
    rows = np.arange(len(codes))

    def unpacked(point: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], float]:
        # Logarithms keep the steps and the slope positive.
        return np.cumsum(np.r_[point[1], np.exp(point[2:])]), float(np.exp(point[0]))

    def loss(point: npt.NDArray[np.float64]) -> float:
        thresholds, slope = unpacked(point)
        likelihood = _between(expit(slope * predicted[:, None] - thresholds))[rows, codes]
        return float(-np.log(np.maximum(likelihood, np.finfo(float).tiny)).mean())

    start = np.r_[np.log(2.0), 1.0, np.full(n_classes - 2, np.log(2.0))]
    # Bounded: classes that are told apart without a fault would have an infinite slope.
    found = minimize(loss, start, method="L-BFGS-B", bounds=[(-4, 4), *[(-50, 50)] * (len(start) - 1)])
    return unpacked(found.x)
