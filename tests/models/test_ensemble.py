"""Ensembles: picks worked out by hand, and made on rows that no member was fitted on."""

import numpy as np
import pytest
from hydra.utils import instantiate
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from tests.conftest import composed
from wineexp.core import instantiation
from wineexp.data.split import CopiesTogetherKFold
from wineexp.evaluation.predictions import best_decisions
from wineexp.models.ensemble import MIN_PROBABILITY, SelectionClassifier, StackClassifier
from wineexp.models.pipeline import out_of_fold_probabilities

CV = CopiesTogetherKFold(folds=4, random_state=0)


class Column(ClassifierMixin, BaseEstimator):
    """Takes the probability of the second class from a column."""

    def __init__(self, column: int) -> None:
        self.column = column

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Column":
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return np.c_[1 - X[:, self.column], X[:, self.column]]


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray]:
    """400 noisy rows of three classes."""
    rng = np.random.default_rng(0)
    y = rng.choice(3, 400, p=[0.3, 0.5, 0.2])
    return np.c_[y + rng.normal(0, 1, 400), np.abs(y - 1) + rng.normal(0, 1, 400), rng.normal(0, 1, 400)], y


def test_a_selection_by_hand() -> None:
    """Class 1 is true. The columns are 0.9 and 0.1, 0.1 and 0.8, 0.4 and 0.4: the mean of the first two is best."""
    X, y = np.array([[0.9, 0.1, 0.4], [0.1, 0.8, 0.4]] * 4) + np.arange(8)[:, None] * 1e-9, np.array([1, 1] * 4)
    X[-2:], y[-2:] = [[0.1, 0.1, 0.6], [0.1, 0.1, 0.6]] + np.arange(2)[:, None] * 1e-9, 0
    members = {"first": Column(0), "second": Column(1), "third": Column(2)}
    fitted = SelectionClassifier(members, "brier_score", 2, "roc_auc", False, CV).fit(X, y)
    # The first column alone has the least Brier score; together with it the second column improves the score most.
    assert fitted.weights_ == {"first": 0.5, "second": 0.5, "third": 0}
    assert list(fitted.members_) == ["first", "second"]
    np.testing.assert_allclose(fitted.predict_proba([[0.2, 0.6, 1.0]]), [[0.6, 0.4]])
    assert fitted.predict([[0.2, 0.6, 1.0]]) == [0]


def test_a_selection_stops_where_more_is_no_better(rows: tuple[np.ndarray, np.ndarray]) -> None:
    members = {"good": LogisticRegression(), "bad": DummyClassifier(strategy="constant", constant=2)}
    fitted = SelectionClassifier(members, "log_loss", 30, "log_loss", False, CV).fit(*rows)
    assert fitted.weights_ == {"good": 1, "bad": 0}
    np.testing.assert_allclose(fitted.predict_proba(rows[0]), LogisticRegression().fit(*rows).predict_proba(rows[0]))


def test_a_selection_is_no_worse_out_of_fold_than_its_best_member(rows: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = rows
    members = {
        "near": KNeighborsClassifier(25),
        "tree": DecisionTreeClassifier(min_samples_leaf=25),
    }
    fitted = SelectionClassifier(members, "log_loss", 20, "f1_macro", False, CV).fit(X, y)

    def loss(probabilities: np.ndarray) -> float:
        return float(-np.log(np.maximum(probabilities[range(len(y)), y], 1e-15)).mean())

    out_of_fold = {name: out_of_fold_probabilities(member, X, y, CV) for name, member in members.items()}
    mean = sum(fitted.weights_[name] * out_of_fold[name] for name in members)
    assert sum(weight > 0 for weight in fitted.weights_.values()) >= 2
    assert loss(mean) < min(map(loss, out_of_fold.values()))
    # Decisions are optimized for the other metric.
    decisions = best_decisions(mean, fitted.utility_)
    assert f1_score(y, decisions, average="macro") > f1_score(y, mean.argmax(axis=1), average="macro")


@pytest.mark.parametrize("exponent", [2.0, 0.5])
def test_the_temperature_corrects_over_and_underconfidence(exponent: float) -> None:
    """Labels are drawn with known odds; the member predicts a power of these odds."""
    rng = np.random.default_rng(0)
    odds = rng.normal(0, 1.5, 4000)
    y = (rng.random(4000) < 1 / (1 + np.exp(-odds))).astype(int)
    X = 1 / (1 + np.exp(-odds[:, None] * exponent))
    fitted = SelectionClassifier({"member": Column(0)}, "log_loss", 1, "log_loss", True, CV).fit(X, y)
    assert fitted.temperature_ == pytest.approx(exponent, rel=0.06)
    probabilities, not_raised = fitted.predict_proba(X), np.abs(odds) < 3
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    # Where no probability is below `MIN_PROBABILITY`.
    np.testing.assert_allclose(
        np.log(probabilities[:, 1] / probabilities[:, 0])[not_raised],
        (odds * exponent / fitted.temperature_)[not_raised],
        atol=1e-9,
    )


@pytest.mark.parametrize("copies", [1, 3])
def test_a_member_that_memorizes_rows_is_not_picked_for_them(copies: int, rows: tuple[np.ndarray, np.ndarray]) -> None:
    """The nearest neighbour makes no mistake on its training rows and their copies."""
    X, y = (np.repeat(part, copies, axis=0) for part in rows)
    members = {"nearest": KNeighborsClassifier(1), "line": LogisticRegression()}
    fitted = SelectionClassifier(members, "log_loss", 10, "log_loss", False, CV).fit(X, y)
    assert fitted.weights_["line"] > 0.9
    stack = StackClassifier(members, LogisticRegression(), CV).fit(X, y)
    nearest, line = np.abs(stack.final_.coef_[:, :3]).mean(), np.abs(stack.final_.coef_[:, 3:]).mean()
    assert line > 2 * nearest


def test_a_stack_is_its_final_model_over_logarithms(rows: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = rows
    members = {"near": KNeighborsClassifier(5), "line": LogisticRegression()}
    fitted = StackClassifier(members, LogisticRegression(C=0.1), CV).fit(X, y)
    out_of_fold = np.hstack([out_of_fold_probabilities(member, X, y, CV) for member in members.values()])
    final = LogisticRegression(C=0.1).fit(np.log(np.maximum(out_of_fold, MIN_PROBABILITY)), y)
    on_all_rows = np.hstack([member.fit(X, y).predict_proba(X) for member in members.values()])
    np.testing.assert_allclose(
        fitted.predict_proba(X), final.predict_proba(np.log(np.maximum(on_all_rows, MIN_PROBABILITY)))
    )


def test_a_wrong_argument_is_refused(rows: tuple[np.ndarray, np.ndarray]) -> None:
    line = {"line": LogisticRegression()}
    for arguments, message in [
        ((line, "kappa", 3, "accuracy"), r"metric must be one of accuracy, .*, but got kappa"),
        ((line, "accuracy", 3, "kappa"), r"decision must be one of accuracy, .*, but got kappa"),
        ((line, "accuracy", 0, "accuracy"), r"picks >= 1 must hold, but got picks=0"),
        (({}, "accuracy", 3, "accuracy"), r"members must name one model or more, but got none"),
    ]:
        with pytest.raises(ValueError, match=message):
            SelectionClassifier(*arguments, False, CV).fit(*rows)


def test_a_members_arguments_are_checked_as_a_models() -> None:
    cfg = composed("model=selection", "+model.members.xgb.max_dept=3")
    (fault,) = instantiation.check_node("model", cfg.model)
    assert fault.startswith(
        "model.members.xgb.max_dept=3: xgboost.XGBClassifier has no such argument; did you mean max_depth?"
    )


def test_members_are_composed_under_their_names() -> None:
    cfg = composed("model=stack", "model.members.extratrees.n_estimators=5").model
    stack = instantiate(cfg, _convert_="all")
    assert list(stack.members) == ["extratrees", "xgb", "svm", "logreg"]
    assert stack.members["extratrees"].n_estimators == 5
    assert stack.members["xgb"].max_depth == 3
