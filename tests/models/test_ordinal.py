"""Ordinal models: binary steps and thresholds, worked out by hand and from known odds."""

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
    """4,000 rows of proportional odds: thresholds -1, 0.5 and 2 on one feature, with slope 2."""
    rng = np.random.default_rng(0)
    X = rng.normal(0, 1.5, (4000, 1))
    above = expit(2 * X - np.array([-1, 0.5, 2]))
    return X, (rng.random((4000, 1)) < above).sum(axis=1)


class FromColumn(ClassifierMixin, BaseEstimator):
    """Takes the probability from the column of its step, which follows from how many rows are above the step."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> "FromColumn":
        self.classes_ = np.array([0, 1])
        self.column_ = {3: 0, 2: 1, 1: 2}[int(y.sum())]
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return np.c_[1 - X[:, self.column_], X[:, self.column_]]


def test_steps_by_hand() -> None:
    fitted = CumulativeClassifier(FromColumn()).fit(np.zeros((4, 3)), [3, 5, 6, 9])
    X = np.array([[0.9, 0.5, 0.1], [0.4, 0.6, 0.2]])
    # In the second row a higher step is likelier than the lower one, and is reduced to it.
    np.testing.assert_allclose(fitted.predict_proba(X), [[0.1, 0.4, 0.4, 0.1], [0.6, 0.0, 0.2, 0.2]])
    assert fitted.predict(X).tolist() == [5, 3]
    assert [estimator.column_ for estimator in fitted.estimators_] == [0, 1, 2]


def test_two_classes_are_the_estimators_own(odds: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = odds[0], odds[1] > 1
    probabilities = CumulativeClassifier(LogisticRegression()).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(probabilities, LogisticRegression().fit(X, y).predict_proba(X))


def test_the_thresholds_of_known_odds_are_recovered(odds: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = odds
    fitted = ThresholdClassifier(LinearRegression(), CV).fit(X, y)
    # The odds are of the feature, the thresholds of the regression's predictions.
    scale, shift = float(fitted.estimator_.coef_[0]), float(fitted.estimator_.intercept_)
    assert fitted.slope_ * scale == pytest.approx(2, abs=0.15)
    np.testing.assert_allclose(fitted.thresholds_ - fitted.slope_ * shift, [-1, 0.5, 2], atol=0.15)
    np.testing.assert_allclose(fitted.predict_proba([[0.3]])[0], [0.168, 0.307, 0.327, 0.198], atol=0.03)


def test_the_decision_is_the_class_between_whose_thresholds_it_lies(
    odds: tuple[np.ndarray, np.ndarray],
) -> None:
    X, y = odds
    fitted = ThresholdClassifier(LinearRegression(), CV).fit(X, y)
    predicted = fitted.slope_ * fitted.estimator_.predict(X)
    np.testing.assert_array_equal(fitted.predict(X), np.searchsorted(fitted.thresholds_, predicted))


def test_thresholds_are_fitted_out_of_fold(odds: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = odds
    nearest = ThresholdClassifier(KNeighborsRegressor(1), CV).fit(X, y)
    # The nearest neighbour makes no mistake on its training rows, but the probabilities must not rely on that.
    assert nearest.predict_proba(X).max(axis=1).mean() < 0.8


def test_perfectly_separated_classes_have_finite_thresholds() -> None:
    X = np.repeat([0.0, 10.0, 20.0], 30)[:, None] + np.linspace(0, 1, 90)[:, None]
    y = np.repeat(["low", "middle", "top"], 30)
    fitted = ThresholdClassifier(LinearRegression(), CV).fit(X, y)
    assert np.isfinite([*fitted.thresholds_, fitted.slope_]).all()
    assert (fitted.predict(X) == y).all()
