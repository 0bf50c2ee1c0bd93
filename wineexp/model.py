"""Models: any scikit-learn compatible classifier behind a feature pipeline, over a fixed set of classes."""

from typing import Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, TransformerMixin, clone
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted


def pipeline(feature: TransformerMixin, model: ClassifierMixin, classes: npt.ArrayLike) -> Pipeline:
    """Features and model as one estimator, so that whatever is fitted is fitted on the same rows.

    Parameters
    ----------
    feature : transformer
    model : classifier
    classes : array-like of shape (n_classes,)
        All labels in ascending order; see `FixedClassesClassifier`.
    """
    return Pipeline([("feature", feature), ("model", FixedClassesClassifier(model, np.asarray(classes).tolist()))])


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
        """The likeliest label of each row, the first of equals: shape (n_samples,)."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def predict_proba(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Probabilities of shape (n_samples, n_classes), in the order of `classes_`."""
        check_is_fitted(self)
        present = np.asarray(self.estimator_.predict_proba(X), dtype=np.float64)
        probabilities = np.zeros((len(present), len(self.classes_)))
        # XGBoost computes in single precision, where a row's sum is 1 to seven digits only.
        probabilities[:, self.present_] = present / present.sum(axis=1, keepdims=True)
        return probabilities
