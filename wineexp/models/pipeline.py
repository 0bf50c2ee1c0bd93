"""Models: any scikit-learn compatible classifier behind a feature pipeline, over a fixed set of classes.

A model gives probabilities, and a decision is made from these alone: by a matrix of utilities, where it has learned one
as `utility_`, else for the likeliest class. What is not ruled out is told from them likewise, by `least_`.
"""

from typing import Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, TransformerMixin, clone
from sklearn.model_selection import BaseCrossValidator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted, validate_data


def make_pipeline(feature: TransformerMixin, model: ClassifierMixin, classes: npt.ArrayLike) -> Pipeline:
    """Features and model as one estimator, so that whatever is fitted is fitted on the same rows.

    Parameters
    ----------
    feature : transformer
    model : classifier
    classes : array-like of shape (n_classes,)
        All labels in ascending order; see `FixedClassesClassifier`.
    """
    return Pipeline([("feature", feature), ("model", FixedClassesClassifier(model, np.asarray(classes).tolist()))])


def best(probabilities: npt.NDArray[np.float64], utility: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """The decision of the greatest expected utility for each row, the first of equals.

    Parameters
    ----------
    probabilities : ndarray of shape (n_samples, n_classes)
    utility : ndarray of shape (n_classes, n_classes)
        What it is worth to answer the column's class where the row's is true.

    Returns
    -------
    ndarray of int of shape (n_samples,)
        Positions of classes.
    """
    # Not a product of matrices, whose last bits, and so its ties, depend on how many rows are asked at once.
    return np.asarray((probabilities[:, :, None] * utility).sum(axis=1).argmax(axis=1))


def out_of_fold(
    estimator: ClassifierMixin, X: npt.NDArray[np.float64], y: npt.NDArray[np.intp], cv: BaseCrossValidator
) -> npt.NDArray[np.float64]:
    """Probabilities for each row by clones of the estimator that were not fitted on it.

    Parameters
    ----------
    estimator : classifier
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
        Labels 0 to n_classes - 1.
    cv : cross-validator
        Each row is in one test part or more; of more, the mean is given.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)

    Raises
    ------
    ValueError
        The cross-validator leaves a row out of every test part.
    """
    classes = np.unique(y).tolist()
    total, times = np.zeros((len(y), len(classes))), np.zeros((len(y), 1))
    for train, test in cv.split(X, y):
        total[test] += FixedClassesClassifier(estimator, classes).fit(X[train], y[train]).predict_proba(X[test])
        times[test] += 1
    if not times.all():
        raise ValueError(f"every row must be in a test part of cv, but {int((times == 0).sum())} of {len(y)} are not")
    return np.asarray(total / times)


class DecidingClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """The base of models that answer with another one's probabilities, and with a decision of their own.

    Parameters
    ----------
    estimator : classifier

    Attributes
    ----------
    estimator_ : classifier
    classes_ : ndarray of shape (n_classes,)
    utility_ : ndarray of shape (n_classes, n_classes)
        What it is worth to answer the column's class where the row's is true.
    """

    estimator: ClassifierMixin

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.generic]:
        """The label of the greatest expected utility for each row: shape (n_samples,)."""
        return np.asarray(self.classes_[best(self.predict_proba(X), self.utility_)])

    def predict_proba(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The estimator's probabilities, of shape (n_samples, n_classes)."""
        check_is_fitted(self)
        return np.asarray(self.estimator_.predict_proba(validate_data(self, X, reset=False)), dtype=np.float64)


class FixedClassesClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier that knows all classes, whichever of them its training rows hold.

    Rare classes are missing from some folds. Libraries then return fewer columns of probabilities, and XGBoost
    refuses labels that are not 0 to n - 1. So labels are numbered for each fold, and a class that it lacks gets
    probability 0.

    Parameters
    ----------
    estimator : classifier
    classes : list
        All labels in ascending order.

    Attributes
    ----------
    estimator_ : classifier
        Fitted on labels 0 to n_present - 1.
    classes_ : ndarray of shape (n_classes,)
    present_ : ndarray of int of shape (n_present,)
        Positions in `classes_` of the labels in the training rows.
    """

    def __init__(self, estimator: ClassifierMixin, classes: list[object]) -> None:
        self.estimator = estimator
        self.classes = classes

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Fit on X (n_samples, n_features) and y (n_samples,).

        Raises
        ------
        ValueError
            A label of y is not one of `classes`, or the estimator refuses the data.
        """
        positions = {label: position for position, label in enumerate(self.classes)}
        unknown = sorted({label for label in np.unique(y).tolist() if label not in positions})
        if unknown:
            raise ValueError(f"labels must be among classes={self.classes}, but got {unknown}")
        self.classes_ = np.asarray(self.classes)
        self.present_, codes = np.unique([positions[label] for label in np.asarray(y).tolist()], return_inverse=True)
        self.estimator_ = clone(self.estimator).fit(X, codes)
        return self

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.generic]:
        """The label that is decided on for each row: shape (n_samples,); see `decide`."""
        return np.asarray(self.classes_[self.decide(self.predict_proba(X))])

    def decide(self, probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
        """Positions in `classes_`, of shape (n_samples,), decided on from the estimator's own probabilities.

        The likeliest class, unless the estimator has learned a `utility_`; see `best`.
        """
        check_is_fitted(self)
        utility = getattr(self.estimator_, "utility_", None)
        if utility is None:
            return np.asarray(probabilities.argmax(axis=1))
        return np.asarray(self.present_[best(probabilities[:, self.present_], utility)])

    def sets(self, probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_] | None:
        """Which classes are not ruled out, from the estimator's own probabilities: (n_samples, n_classes).

        None where the estimator has not learned a `least_`, the least probability with which a class is not. Of a
        class that the training rows lacked nothing was learned, so that it is in every set.
        """
        check_is_fitted(self)
        least = getattr(self.estimator_, "least_", None)
        if least is None:
            return None
        bounds = np.zeros(len(self.classes_))
        bounds[self.present_] = least
        return np.asarray(probabilities >= bounds)

    def predict_proba(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Probabilities of shape (n_samples, n_classes), in the order of `classes_`."""
        check_is_fitted(self)
        present = np.asarray(self.estimator_.predict_proba(X), dtype=np.float64)
        probabilities = np.zeros((len(present), len(self.classes_)))
        # XGBoost computes in single precision, where a row's sum is 1 to seven digits only.
        probabilities[:, self.present_] = present / present.sum(axis=1, keepdims=True)
        return probabilities
