"""Ordinal models: steps, thresholds, and probabilities that know of the order."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsRegressor

from wineexp.data.split import CopiesTogetherKFold
from wineexp.models.ordinal import CumulativeClassifier, ThresholdClassifier

CV = CopiesTogetherKFold(folds=5, random_state=0)


@pytest.fixture
def odds() -> tuple[np.ndarray, np.ndarray]:
    """4,000 rows of proportional odds: thresholds -1, 0.5 and 2 on one measurement, with slope 2."""
    rng = np.random.default_rng(0)
    X = rng.normal(0, 1.5, (4000, 1))
    above = expit(2 * X - np.array([-1, 0.5, 2]))
    return X, (rng.random((4000, 1)) < above).sum(axis=1)


class Told(ClassifierMixin, BaseEstimator):
    """Predictions what it finds in the column of its step, which it knows by how many rows are above it."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Told":
        self.classes_ = np.array([0, 1])
        self.column_ = {3: 0, 2: 1, 1: 2}[int(y.sum())]
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return np.c_[1 - X[:, self.column_], X[:, self.column_]]


def test_steps_by_hand() -> None:
    fitted = CumulativeClassifier(Told()).fit(np.zeros((4, 3)), [3, 5, 6, 9])
    asked = np.array([[0.9, 0.5, 0.1], [0.4, 0.6, 0.2]])
    # In the second row a higher step is likelier than the lower one, and is set back to it.
    np.testing.assert_allclose(fitted.predict_proba(asked), [[0.1, 0.4, 0.4, 0.1], [0.6, 0.0, 0.2, 0.2]])
    assert fitted.predict(asked).tolist() == [5, 3]
    assert [each.column_ for each in fitted.estimators_] == [0, 1, 2]


def test_two_classes_are_the_estimators_own(odds: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = odds[0], odds[1] > 1
    ours = CumulativeClassifier(LogisticRegression()).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(ours, LogisticRegression().fit(X, y).predict_proba(X))


def test_thresholds_are_found_again(odds: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = odds
    fitted = ThresholdClassifier(LinearRegression(), CV).fit(X, y)
    # The regression's own scale, undone.
    scale, shift = float(fitted.estimator_.coef_[0]), float(fitted.estimator_.intercept_)
    assert fitted.slope_ * scale == pytest.approx(2, abs=0.15)
    np.testing.assert_allclose(fitted.thresholds_ - fitted.slope_ * shift, [-1, 0.5, 2], atol=0.15)
    np.testing.assert_allclose(fitted.predict_proba([[0.3]])[0], [0.168, 0.307, 0.327, 0.198], atol=0.03)


def test_the_class_between_whose_thresholds_it_lies_is_answered(odds: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = odds
    fitted = ThresholdClassifier(LinearRegression(), CV).fit(X, y)
    predicted = fitted.slope_ * fitted.estimator_.predict(X)
    np.testing.assert_array_equal(fitted.predict(X), np.searchsorted(fitted.thresholds_, predicted))


def test_thresholds_are_not_fitted_to_what_the_regression_has_seen(odds: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = odds
    one = ThresholdClassifier(KNeighborsRegressor(1), CV).fit(X, y)
    # On its own rows the nearest neighbour makes no mistake; elsewhere it does, and the probabilities must know.
    assert one.predict_proba(X).max(axis=1).mean() < 0.8


def test_classes_that_are_told_apart_without_a_fault_have_finite_thresholds() -> None:
    X = np.repeat([0.0, 10.0, 20.0], 30)[:, None] + np.linspace(0, 1, 90)[:, None]
    y = np.repeat(["low", "middle", "top"], 30)
    fitted = ThresholdClassifier(LinearRegression(), CV).fit(X, y)
    assert np.isfinite([*fitted.thresholds_, fitted.slope_]).all()
    assert (fitted.predict(X) == y).all()
