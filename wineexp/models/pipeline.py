"""A model: any scikit-learn compatible classifier behind a feature pipeline, over a fixed set of classes.

A model predicts probabilities, and its decisions depend on these alone: an estimator that has learned a `utility_`
decides on the class of the greatest expected utility, any other one on the likeliest class. An estimator that has
learned `set_thresholds_` gives prediction sets as well.
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, TransformerMixin, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.model_selection import BaseCrossValidator, GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from wineexp.evaluation.grouped_folds import fitting_part
from wineexp.evaluation.predictions import best_decisions
from wineexp.models.column_arguments import translate_columns
from wineexp.models.device import predicting_on_cpu
from wineexp.models.early_stopping import EarlyStopping, Rows, parts, with_best_rounds
from wineexp.models.label_arguments import translate_labels
from wineexp.models.native_categories import with_categories
from wineexp.models.weights import Weights, weight_options

# By how much the logarithm of a probability of 1e-12 is less than that of 1.
LOG_ODDS_OF_MISSING = 12 * np.log(10)


def make_pipeline(
    feature: TransformerMixin,
    model: ClassifierMixin,
    classes: npt.ArrayLike,
    costs: list[list[float]] | None = None,
) -> Pipeline:
    """Features and model as one estimator, so that both are fitted on the same rows.

    Parameters
    ----------
    feature : transformer
    model : classifier
    classes : array-like of shape (n_classes,)
        All labels in ascending order; see `FixedClassesClassifier`.
    costs : list of n_classes lists of n_classes float, optional
        As of `FixedClassesClassifier`.
    """
    complete = FixedClassesClassifier(model, np.asarray(classes).tolist(), costs=costs)
    return Pipeline([("feature", feature), ("model", complete)])


def outputs(fitted: Pipeline, X: Any) -> npt.NDArray[np.float64]:
    """What a fitted pipeline computes for the rows X (n_samples, n_features).

    Returns
    -------
    ndarray of shape (n_samples, n_classes) or (n_samples, 1)
        Probabilities of classes, or predicted numbers.
    """
    if is_regressor(fitted):
        return np.asarray(fitted.predict(X), dtype=np.float64)[:, None]
    return np.asarray(fitted.predict_proba(X), dtype=np.float64)


def out_of_fold_probabilities(
    estimator: ClassifierMixin,
    X: npt.NDArray[np.float64],
    y: npt.NDArray[np.intp],
    cv: BaseCrossValidator,
    weights: Weights = None,
) -> npt.NDArray[np.float64]:
    """Probabilities of each row, predicted by clones of the estimator that were not fitted on it.

    Parameters
    ----------
    estimator : classifier
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
        Labels 0 to n_classes - 1.
    cv : cross-validator
        Each row is in one test fold or more; of several predictions the mean is taken.
    weights : ndarray of shape (n_samples,), optional
        How many rows each row counts for in fitting.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)

    Raises
    ------
    ValueError
        A row is in no test fold.
    """
    classes = np.unique(y).tolist()
    total, n_predictions = np.zeros((len(y), len(classes))), np.zeros((len(y), 1))
    for train, test in cv.split(X, y):
        complete = FixedClassesClassifier(estimator, classes, accepts_one_class=True)
        with fitting_part(train):
            fitted = complete.fit(X[train], y[train], None if weights is None else weights[train])
        total[test] += fitted.predict_proba(X[test])
        n_predictions[test] += 1
    if not n_predictions.all():
        n_left_out = int((n_predictions == 0).sum())
        raise ValueError(f"every row must be in a test part of cv, but {n_left_out} of {len(y)} are not")
    return np.asarray(total / n_predictions)


def fit_on_all_classes(
    estimator: ClassifierMixin, X: npt.ArrayLike, y: npt.ArrayLike, weights: Weights = None
) -> ClassifierMixin:
    """A copy that is fitted on X (n_samples, n_features) and y (n_samples,), the models within it included.

    Rows count as often as their weights (n_samples,) say, where there are any.

    A model within it may be fitted on rows that lack a class, and knows all classes of y nevertheless.
    """
    return _with_all_classes(copy.deepcopy(estimator), np.unique(y).tolist()).fit(X, y, **weight_options(weights))


def _with_all_classes(estimator: ClassifierMixin, classes: list[object]) -> ClassifierMixin:
    """The estimator, which fits the models within it on parts of its rows, each of which may lack a class.

    scikit-learn calibrates and stacks whatever columns these models return, and XGBoost refuses a gap in the labels.
    """

    def complete(child: object) -> object:
        is_model = isinstance(child, BaseEstimator)
        return FixedClassesClassifier(child, classes, accepts_one_class=True) if is_model else child

    match estimator:
        case CalibratedClassifierCV():
            return estimator.set_params(estimator=complete(estimator.estimator))
        case StackingClassifier():
            return estimator.set_params(estimators=[(name, complete(child)) for name, child in estimator.estimators])
        case VotingClassifier():
            children = [(name, _with_all_classes(child, classes)) for name, child in estimator.estimators]
            return estimator.set_params(estimators=children)
        case GridSearchCV():
            varied = _one_below(estimator.param_grid)
            return estimator.set_params(estimator=complete(estimator.estimator), param_grid=varied)
        case RandomizedSearchCV():
            varied = _one_below(estimator.param_distributions)
            return estimator.set_params(estimator=complete(estimator.estimator), param_distributions=varied)
        case Pipeline():
            *steps, (name, last) = estimator.steps
            return estimator.set_params(steps=[*steps, (name, _with_all_classes(last, classes))])
    return estimator


def _one_below(varied: Any) -> Any:
    """What a search varies, one mapping or several, for its estimator within a `FixedClassesClassifier`."""
    if not isinstance(varied, Mapping):
        return [_one_below(one) for one in varied]
    return {f"estimator__{name}": values for name, values in varied.items()}


class DecidingClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """Base class of models with the probabilities of another estimator, and decisions of their own.

    Parameters
    ----------
    estimator : classifier

    Attributes
    ----------
    estimator_ : classifier
    classes_ : ndarray of shape (n_classes,)
    utility_ : ndarray of shape (n_classes, n_classes)
        The utility of deciding on the column's class where the row's class is true.
    """

    estimator: ClassifierMixin

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.generic]:
        """The label of the greatest expected utility for each row: shape (n_samples,)."""
        return np.asarray(self.classes_[best_decisions(self.predict_proba(X), self.utility_)])

    def predict_proba(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The estimator's probabilities, of shape (n_samples, n_classes)."""
        check_is_fitted(self)
        return np.asarray(self.estimator_.predict_proba(validate_data(self, X, reset=False)), dtype=np.float64)


class FixedClassesClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier with the same classes whichever of them occur in its training rows.

    A rare class is missing from some training folds. Libraries then return fewer columns of probabilities, and XGBoost
    refuses labels that are not 0 to n - 1. This classifier encodes the labels of each fold, and gives a class that is
    missing probability 0. What the estimator's arguments say of labels and features is translated for each fold.

    Parameters
    ----------
    estimator : classifier
    classes : list
        All labels in ascending order.
    accepts_one_class : bool
        Whether rows of a single class make a model that always predicts it, for a part of the rows of another model.
        By default the estimator decides, and may refuse them.
    costs : list of n_classes lists of n_classes float, optional
        What it costs to decide on the inner list's class where the outer list's class is true. The decision is then
        the class of the least expected cost, whatever the estimator has learned.

    Attributes
    ----------
    estimator_ : classifier
        Fitted on labels 0 to n_present - 1.
    classes_ : ndarray of shape (n_classes,)
    present_ : ndarray of int of shape (n_present,)
        Positions in `classes_` of the labels in the training rows.
    """

    def __init__(
        self,
        estimator: ClassifierMixin,
        classes: list[object],
        accepts_one_class: bool = False,
        costs: list[list[float]] | None = None,
    ) -> None:
        self.estimator = estimator
        self.classes = classes
        self.accepts_one_class = accepts_one_class
        self.costs = costs

    def __sklearn_clone__(self) -> "FixedClassesClassifier":
        """Not fitted, as `clone` gives it, and also around a CatBoost model, which `clone` refuses: it copies lists."""
        return FixedClassesClassifier(copy.deepcopy(self.estimator), self.classes, self.accepts_one_class, self.costs)

    @property
    def cost_matrix(self) -> npt.NDArray[np.float64] | None:
        """The costs as an array of shape (n_classes, n_classes), or None."""
        # A model that an earlier version stored has none.
        costs = getattr(self, "costs", None)
        return None if costs is None else np.asarray(costs, dtype=np.float64)

    def fit(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        sample_weight: Weights = None,
        early_stopping: EarlyStopping | None = None,
    ) -> Self:
        """Fit on X (n_samples, n_features), y (n_samples,) and, where the estimator takes them, weights (n_samples,).

        With `early_stopping`, the number of boosting rounds is found first.

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
        if self.accepts_one_class and len(self.present_) == 1:
            self.estimator_ = DummyClassifier().fit(X, codes, sample_weight)
            return self
        estimator = self.estimator
        if early_stopping is not None:
            estimator = self._with_best_rounds(X, codes, sample_weight, early_stopping)
        translated = self._translated(estimator, X, self.present_)
        self.estimator_ = predicting_on_cpu(fit_on_all_classes(translated, X, codes, sample_weight))
        return self

    def _translated(
        self, estimator: ClassifierMixin, X: npt.ArrayLike, present: npt.NDArray[np.intp]
    ) -> ClassifierMixin:
        """The estimator with arguments for rows of X with labels at the positions `present` in `classes`."""
        translated = translate_labels(estimator, self.classes, present.tolist())
        if not isinstance(X, pd.DataFrame):
            return translated
        return with_categories(translate_columns(translated, [str(name) for name in X]), X)

    def for_rows_like(self, X: npt.ArrayLike) -> ClassifierMixin:
        """The estimator with arguments for rows of X, of all classes, as `fit` would fit it."""
        return self._translated(self.estimator, X, np.arange(len(self.classes)))

    def adopt(self, fitted: ClassifierMixin) -> Self:
        """Become the model of an estimator that was fitted elsewhere, on labels 0 to n_classes - 1."""
        self.classes_, self.present_ = np.asarray(self.classes), np.arange(len(self.classes))
        self.estimator_ = predicting_on_cpu(fitted)
        return self

    def _with_best_rounds(
        self, X: npt.ArrayLike, codes: npt.NDArray[np.intp], weights: Weights, early_stopping: EarlyStopping
    ) -> ClassifierMixin:
        """The estimator with the number of rounds that is best on the validation rows."""
        training, validation = parts(X, codes, weights, early_stopping)
        # A rare class may have rows on one side alone, and the libraries want labels 0 to n - 1.
        present, codes_of_training = np.unique(training.y, return_inverse=True)
        known = np.flatnonzero(np.isin(validation.y, present))
        validation = Rows.chosen(validation.X, validation.y, validation.weights, known)
        return with_best_rounds(
            self.estimator,
            self._translated(self.estimator, X, self.present_[present]),
            replace(training, y=codes_of_training),
            replace(validation, y=np.searchsorted(present, validation.y)),
            early_stopping.rounds,
        )

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.generic]:
        """The label that is decided on for each row: shape (n_samples,); see `decide`."""
        return np.asarray(self.classes_[self.decide(self.predict_proba(X))])

    def decide(self, probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
        """Decisions for probabilities (n_samples, n_classes) of this model: positions in `classes_`, (n_samples,).

        The likeliest class, unless there are costs, or the estimator has learned a `utility_`; see `best_decisions`.
        """
        check_is_fitted(self)
        if (costs := self.cost_matrix) is not None:
            return best_decisions(probabilities, -costs)
        utility = getattr(self.estimator_, "utility_", None)
        if utility is None:
            return np.asarray(probabilities.argmax(axis=1))
        return np.asarray(self.present_[best_decisions(probabilities[:, self.present_], utility)])

    def prediction_sets(self, probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_] | None:
        """Which classes are in the prediction set of each row, for probabilities of this model.

        A class is in the set from its threshold in the estimator's `set_thresholds_` on. A class that is missing from
        the training rows has no threshold, and is in every set.

        Returns
        -------
        ndarray of bool of shape (n_samples, n_classes), or None
            None where the estimator has not learned `set_thresholds_`.
        """
        check_is_fitted(self)
        present_thresholds = getattr(self.estimator_, "set_thresholds_", None)
        if present_thresholds is None:
            return None
        thresholds = np.zeros(len(self.classes_))
        thresholds[self.present_] = present_thresholds
        return np.asarray(probabilities >= thresholds)

    def predict_proba(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Probabilities of shape (n_samples, n_classes), in the order of `classes_`."""
        check_is_fitted(self)
        present = np.asarray(self.estimator_.predict_proba(X), dtype=np.float64)
        probabilities = np.zeros((len(present), len(self.classes_)))
        # XGBoost computes in single precision, so that its rows sum to 1 to seven digits only.
        probabilities[:, self.present_] = present / present.sum(axis=1, keepdims=True)
        return probabilities

    @available_if(lambda self: hasattr(self.estimator, "decision_function"))  # type: ignore[untyped-decorator]
    def decision_function(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The estimator's scores, as scikit-learn's classifiers give them: shape (n_samples, n_classes).

        For two classes shape (n_samples,), the score of the second. A class that is missing from the training rows
        scores less than the others by `LOG_ODDS_OF_MISSING`.
        """
        check_is_fitted(self)
        if len(self.present_) == len(self.classes_):
            return np.asarray(self.estimator_.decision_function(X), dtype=np.float64)
        if len(self.present_) == 1:
            present = np.zeros((len(self.estimator_.predict(X)), 1))
        else:
            present = np.asarray(self.estimator_.decision_function(X), dtype=np.float64)
            present = np.column_stack([-present, present]) if present.ndim == 1 else present
        scores = np.tile(present.min(axis=1, keepdims=True) - LOG_ODDS_OF_MISSING, len(self.classes_))
        scores[:, self.present_] = present
        return scores if len(self.classes_) > 2 else scores[:, 1] - scores[:, 0]
