"""Ensembles of models of numbers: what they pick and how they combine, and what they refuse."""

from typing import Any

import numpy as np
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import KFold, ShuffleSplit, cross_val_predict
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

from wineexp.models.ensemble_of_numbers import MeanRegressor, SelectionRegressor, StackRegressor

CV = KFold(4, shuffle=True, random_state=0)
MEMBERS = {"linear": LinearRegression(), "tree": DecisionTreeRegressor(max_depth=4, random_state=0)}


def table() -> tuple[Any, Any]:
    """A line with a step, of which each member learns a part."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, (200, 2))
    return X, X[:, 0] + 2 * (X[:, 1] > 0) + rng.normal(0, 0.1, 200)


def out_of_fold() -> Any:
    X, y = table()
    return np.column_stack([cross_val_predict(member, X, y, cv=CV) for member in MEMBERS.values()])


def error(y: Any, predicted: Any) -> float:
    return float(np.sqrt(np.mean((y - predicted) ** 2)))


@parametrize_with_checks(
    [
        MeanRegressor({"linear": LinearRegression(), "mean": DummyRegressor()}),
        SelectionRegressor({"linear": LinearRegression(), "mean": DummyRegressor()}, "r2", 3, KFold(2)),
        StackRegressor({"linear": LinearRegression(), "mean": DummyRegressor()}, Ridge(), KFold(2)),
    ],
    expected_failed_checks=lambda ensemble: (
        {"check_sample_weight_equivalence_on_dense_data": "folds have other rows once some are repeated"}
        if hasattr(ensemble, "cv")
        else {}
    ),
)
def test_they_keep_the_contract_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def test_the_mean_counts_all_members_the_same() -> None:
    X, y = table()
    fitted = MeanRegressor(MEMBERS).fit(X, y)
    of_members = [member.fit(X, y).predict(X) for member in MEMBERS.values()]
    assert fitted.predict(X) == pytest.approx(np.mean(of_members, axis=0))


def test_the_selection_is_the_best_mean_of_out_of_fold_predictions() -> None:
    X, y = table()
    fitted = SelectionRegressor(MEMBERS, "root_mean_squared_error", 20, CV).fit(X, y)
    of_members = out_of_fold()
    shares = [k / n for n in range(1, 21) for k in range(n + 1)]
    best = min(error(y, of_members @ [share, 1 - share]) for share in shares)
    mean = of_members @ list(fitted.weights_.values())
    assert error(y, mean) == pytest.approx(best, rel=0.005)
    assert error(y, mean) < 0.95 * min(error(y, column) for column in of_members.T)
    expected = sum(share * MEMBERS[name].fit(X, y).predict(X) for name, share in fitted.weights_.items())
    assert fitted.predict(X) == pytest.approx(expected)


def test_a_useless_member_is_not_picked() -> None:
    X, y = table()
    fitted = SelectionRegressor({"mean": DummyRegressor(), **MEMBERS}, "mean_absolute_error", 20, CV).fit(X, y)
    assert fitted.weights_["mean"] == 0
    assert set(fitted.members_) == {"linear", "tree"}


def test_the_stack_learns_from_out_of_fold_predictions() -> None:
    X, y = table()
    fitted = StackRegressor(MEMBERS, LinearRegression(), CV).fit(X, y)
    final = LinearRegression().fit(out_of_fold(), y)
    assert fitted.final_.coef_ == pytest.approx(final.coef_)
    of_members = np.column_stack([member.fit(X, y).predict(X) for member in MEMBERS.values()])
    assert fitted.predict(X) == pytest.approx(final.predict(of_members))


def test_weights_count_as_repeated_rows() -> None:
    X, y = table()
    weights = np.where(X[:, 0] > 0, 5.0, 0.1)
    members = {"mean": DummyRegressor(), "median": DummyRegressor(strategy="median")}
    for model in (StackRegressor(members, Ridge(), CV), MeanRegressor(members)):
        weighted = model.fit(X, y, weights)
        assert weighted.members_["mean"].constant_.item() == pytest.approx(np.average(y, weights=weights))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (SelectionRegressor(MEMBERS, "accuracy", 3, CV), "metric must be one of mean_absolute_error"),
        (SelectionRegressor(MEMBERS, "r2", 0, CV), "picks >= 1 must hold, but got picks=0"),
        (SelectionRegressor({}, "r2", 3, CV), "members must name one model or more"),
        (MeanRegressor({}), "members must name one model or more"),
        (StackRegressor(MEMBERS, Ridge(), ShuffleSplit(1, random_state=0)), "180 of 200 are not"),
    ],
)
def test_what_cannot_be_fitted_is_refused(model: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.fit(*table())
