"""Conformal prediction sets with a coverage guarantee for each class; MAPIE 1.x guarantees it over all classes only."""

from typing import Self

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassifierMixin
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils.validation import validate_data

from wineexp.evaluation.intervals import kth_value
from wineexp.models.pipeline import DecidingClassifier, fit_on_all_classes, out_of_fold_probabilities
from wineexp.models.weights import Weights


class ConformalClassifier(DecidingClassifier):
    """A classifier that also learns from which probability on each class is in the prediction set.

    Cross-conformal (Vovk 2015, "Cross-conformal predictors") and class-conditional (Sadinle, Lei & Wasserman 2019,
    "Least Ambiguous Set-Valued Classifiers with Bounded Error Levels"): a share `coverage` of the training rows of a
    class have an out-of-fold probability of it that is at least its threshold; rows count by their weights. A class
    with too few rows for a threshold (fewer than 9 with a coverage of 0.9) is in every set.

    Parameters
    ----------
    estimator : classifier
    coverage : float
        The share of rows whose prediction set is to contain the true class, in (0, 1).
    cv : cross-validator
        Splits the training rows.

    Attributes
    ----------
    estimator_ : classifier
        Fitted on all training rows; probabilities and decisions are its own.
    classes_ : ndarray of shape (n_classes,)
    set_thresholds_ : ndarray of shape (n_classes,)
        The least probability with which each class is in the prediction set.
    utility_ : ndarray of shape (n_classes, n_classes)
        The estimator's own; see `wineexp.evaluation.predictions.best_decisions`.
    """

    def __init__(self, estimator: ClassifierMixin, coverage: float, cv: BaseCrossValidator) -> None:
        self.estimator = estimator
        self.coverage = coverage
        self.cv = cv

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: Weights = None) -> Self:
        """Fit on X (n_samples, n_features), y (n_samples,) and, where there are any, weights (n_samples,).

        Raises
        ------
        ValueError
            The coverage is out of its range, or the estimator or the cross-validator refuses the data.
        """
        if not 0 < self.coverage < 1:
            raise ValueError(f"0 < coverage < 1 must hold, but got coverage={self.coverage}")
        values, labels = validate_data(self, X, y)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        probabilities = out_of_fold_probabilities(self.estimator, values, codes, self.cv, sample_weight)
        weights = np.ones(len(codes)) if sample_weight is None else sample_weight
        self.set_thresholds_ = np.array(
            [
                _set_threshold(probabilities[codes == code, code], weights[codes == code], self.coverage)
                for code in range(len(self.classes_))
            ]
        )
        self.estimator_ = fit_on_all_classes(self.estimator, values, labels, sample_weight)
        self.utility_ = getattr(self.estimator_, "utility_", np.eye(len(self.classes_)))
        return self


def _set_threshold(probabilities: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], coverage: float) -> float:
    """The k-th smallest probability with k = floor((1 - coverage)(n_samples + 1)); 0 where k is 0.

    Another row of the class is as likely to fall below the smallest probability as between any two neighbours, so that
    it falls below the k-th smallest with a probability of at most k / (n_samples + 1). Where rows have weights, k of
    them are counted by these; rows without any do not count.

    Parameters
    ----------
    probabilities : ndarray of shape (n_samples,)
        Out-of-fold probabilities that the rows of a class have of this class.
    weights : ndarray of shape (n_samples,)
    coverage : float
    """
    # Rounded, since 0.1 times 10 is less than 1 in floating point.
    k = int(np.floor(round((1 - coverage) * (np.count_nonzero(weights) + 1), 9)))
    if not k:
        return 0.0
    order = np.argsort(probabilities)
    order = order[weights[order] > 0]
    return kth_value(probabilities[order], weights[order] / weights[order].mean(), k)
