"""Prediction sets that hold the true class as often as they say, of each class; those of MAPIE 1.x, of all together."""

from typing import Self

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassifierMixin, clone
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils.validation import validate_data

from wineexp.models.pipeline import DecidingClassifier, out_of_fold


class ConformalClassifier(DecidingClassifier):
    """A classifier that also knows with which probability a class is not yet ruled out.

    Cross-conformal (Vovk 2015, "Cross-conformal predictors") and class-conditional (Sadinle, Lei & Wasserman 2019,
    "Least Ambiguous Set-Valued Classifiers with Bounded Error Levels"): of the training rows of a class, told out of
    fold, a share `coverage` gave it at least so much. A class of too few rows to tell, less than 9 of them where
    coverage is 0.9, is in every set: that is what the promise costs where little is known.

    Parameters
    ----------
    estimator : classifier
    coverage : float
        In (0, 1): how often a set is to hold the true class.
    cv : cross-validator
        Splits the training rows.

    Attributes
    ----------
    estimator_ : classifier
        Fitted on all training rows; its probabilities and decisions are the answers.
    classes_ : ndarray of shape (n_classes,)
    least_ : ndarray of shape (n_classes,)
        The least probability with which a class is in the set.
    utility_ : ndarray of shape (n_classes, n_classes)
        The estimator's own; see `wineexp.models.pipeline.best`.
    """

    def __init__(self, estimator: ClassifierMixin, coverage: float, cv: BaseCrossValidator) -> None:
        self.estimator = estimator
        self.coverage = coverage
        self.cv = cv

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Fit on X (n_samples, n_features) and y (n_samples,).

        Raises
        ------
        ValueError
            The coverage is out of its range, or the estimator or the cross-validator refuses the data.
        """
        if not 0 < self.coverage < 1:
            raise ValueError(f"0 < coverage < 1 must hold, but got coverage={self.coverage}")
        values, labels = validate_data(self, X, y)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        told = out_of_fold(self.estimator, values, codes, self.cv)
        self.least_ = np.array([_least(told[codes == code, code], self.coverage) for code in range(len(self.classes_))])
        self.estimator_ = clone(self.estimator).fit(values, labels)
        self.utility_ = getattr(self.estimator_, "utility_", np.eye(len(self.classes_)))
        return self


def _least(told: npt.NDArray[np.float64], coverage: float) -> float:
    """The k-th smallest of a class's own probabilities (n_samples,), k = floor((1 - coverage)(n + 1)); 0 where k is 0.

    A further row of the class is as likely to fall below any of them as between any two, so that it falls below the
    k-th with a probability of k / (n + 1) or less.
    """
    # Rounded, or 0.1 times 10 would be less than 1.
    k = int(np.floor(round((1 - coverage) * (len(told) + 1), 9)))
    return float(np.sort(told)[k - 1]) if k else 0.0
