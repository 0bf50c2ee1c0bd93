"""Evaluation: metrics worked out by hand, nothing of the test rows in a fit, the same figures with more threads."""

import math
from typing import Self

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from threadpoolctl import threadpool_info, threadpool_limits

from tests.conftest import choices, composed, tree_count_keys
from wineexp.core.errors import UserError
from wineexp.core.instantiation import build
from wineexp.data.task import Task, make_task
from wineexp.evaluation import cross_validation, metrics
from wineexp.evaluation.cross_validation import Fold
from wineexp.evaluation.metrics import METRICS, Predictions
from wineexp.models.pipeline import make_pipeline


def posed(*overrides: str) -> tuple[Task, Pipeline]:
    cfg = composed(*overrides)
    parts = build(cfg)
    task = make_task(parts["data"](), parts["target"], parts["split"], cfg.holdout)
    return task, make_pipeline(parts["feature"], parts["model"], task.classes)


def cross_validated(task: Task, estimator: Pipeline, n_jobs: int = 1) -> list[Fold]:
    args = (estimator, task.X, task.y, task.folds, task.metrics)
    return list(cross_validation.cross_validate(*args, n_jobs=n_jobs))


# Ordinal classes 0, 1, 2; a sixth row is taken for the opposite end.
ORDINAL = Predictions(
    y=np.array([0, 0, 1, 1, 2, 2]),
    predicted=np.array([0, 1, 1, 1, 2, 0]),
    probabilities=np.array(
        [
            [0.5, 0.25, 0.25],
            [0.25, 0.5, 0.25],
            [0.25, 0.5, 0.25],
            [0.25, 0.5, 0.25],
            [0.25, 0.25, 0.5],
            [0.5, 0.25, 0.25],
        ]
    ),
)
BINARY = Predictions(
    y=np.array([0, 0, 1, 1]),
    predicted=np.array([0, 1, 0, 1]),
    probabilities=np.array([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.2, 0.8]]),
)


@pytest.mark.parametrize(
    ("name", "answers", "value"),
    [
        ("accuracy", ORDINAL, 4 / 6),
        ("balanced_accuracy", ORDINAL, (1 / 2 + 1 + 1 / 2) / 3),
        # Per class 2tp / (2tp + fp + fn): 2/4, 4/5, 2/3.
        ("f1_macro", ORDINAL, (1 / 2 + 4 / 5 + 2 / 3) / 3),
        # (c n - sum t p) / sqrt((n² - sum p²)(n² - sum t²)) with t = (2, 2, 2), p = (2, 3, 1).
        ("matthews_corrcoef", ORDINAL, (4 * 6 - 12) / math.sqrt((36 - 14) * (36 - 12))),
        # (c n - sum t p) / (n² - sum t p).
        ("cohen_kappa", ORDINAL, (4 * 6 - 12) / (36 - 12)),
        ("log_loss", ORDINAL, -(4 * math.log(0.5) + 2 * math.log(0.25)) / 6),
        # Right: 0.5² + 0.25² + 0.25². Wrong: 0.75² + 0.5² + 0.25².
        ("brier_score", ORDINAL, (4 * 0.375 + 2 * 0.875) / 6),
        ("brier_score", BINARY, 2 * (0.1**2 + 0.6**2 + 0.7**2 + 0.2**2) / 4),
        # Few answers, one bin: how often right, against the mean probability.
        ("expected_calibration_error", ORDINAL, 4 / 6 - 0.5),
        ("expected_calibration_error", BINARY, 0.75 - 2 / 4),
        ("mean_absolute_error", ORDINAL, (1 + 2) / 6),
        ("accuracy_within_1", ORDINAL, 5 / 6),
        # Observed squared distances 1 + 4; expected over all pairs of true and predicted: 42 / 6.
        ("quadratic_weighted_kappa", ORDINAL, 1 - 5 / 7),
        # Of the four pairs only (0.6, 0.3) is in the wrong order.
        ("roc_auc", BINARY, 3 / 4),
    ],
)
def test_metrics_by_hand(name: str, answers: Predictions, value: float) -> None:
    assert metrics.score(answers, [name]) == {name: pytest.approx(value)}


def test_every_metric_is_worked_out_by_hand_above() -> None:
    (mark,) = [mark for mark in test_metrics_by_hand.pytestmark if mark.name == "parametrize"]
    assert {case[0] for case in mark.args[1]} == set(METRICS)


@pytest.mark.parametrize("seed", range(5))
def test_metrics_agree_with_scikit_learn_on_random_answers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(5), 200)
    y, predicted = rng.integers(0, 5, 200), probabilities.argmax(axis=1)
    scores = metrics.score(Predictions(y, predicted, probabilities), metrics.metrics_for(5, ordinal=True))
    assert scores["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(y, predicted))
    assert scores["log_loss"] == pytest.approx(-np.log(probabilities[range(200), y]).mean())
    assert scores["brier_score"] == pytest.approx(((np.eye(5)[y] - probabilities) ** 2).sum(axis=1).mean())
    assert scores["mean_absolute_error"] == pytest.approx(np.abs(y - predicted).mean())
    assert scores["f1_macro"] == pytest.approx(reference.f1_score(y, predicted, average="macro"))


def confident(probabilities: np.ndarray, right: np.ndarray) -> Predictions:
    """Predictions of two classes, given with these probabilities, some of them right."""
    rows = len(probabilities)
    return Predictions(np.where(right, 0, 1), np.zeros(rows, dtype=int), np.c_[probabilities, 1 - probabilities])


def test_probabilities_are_held_against_what_happened_in_bins_of_equal_mass() -> None:
    # Two bins of ten: right 6 times at 0.6, 5 times at 0.9.
    answers = confident(np.repeat([0.9, 0.6], 10), np.r_[np.arange(10) < 5, np.arange(10) < 6])
    table = metrics.calibration_curve(answers)
    assert table["confidence"].tolist() == pytest.approx([0.6, 0.9])
    assert table["accuracy"].tolist() == [0.6, 0.5]
    assert table["rows"].tolist() == [10, 10]
    assert metrics.score(answers, ["expected_calibration_error"]) == {
        "expected_calibration_error": pytest.approx((0 + 0.4) / 2)
    }


def test_the_calibration_error_knows_its_limits() -> None:
    (name,) = names = ["expected_calibration_error"]
    right = np.arange(200) < 150
    assert metrics.score(confident(np.full(200, 1.0), right | True), names)[name] == 0
    assert metrics.score(confident(np.full(200, 1.0), right & False), names)[name] == 1
    # One probability for all is one bin, in whatever order the right ones come.
    for order in (right, right[::-1], np.random.default_rng(0).permutation(right)):
        assert metrics.score(confident(np.full(200, 0.75), order), names)[name] == pytest.approx(0)


@pytest.mark.parametrize(("rows", "bins"), [(1, 1), (19, 1), (20, 2), (99, 9), (100, 10), (1000, 10)])
def test_there_are_as_many_bins_as_have_enough_answers(rows: int, bins: int) -> None:
    answers = confident(np.linspace(0.5, 1, rows), np.ones(rows, dtype=bool))
    table = metrics.calibration_curve(answers)
    assert len(table) == bins
    assert table["rows"].sum() == rows
    assert table["rows"].max() - table["rows"].min() <= 1
    assert (table["high"].to_numpy()[:-1] < table["low"].to_numpy()[1:]).all()


def test_the_brier_score_goes_from_0_to_2() -> None:
    sure = np.ones(4)
    assert metrics.score(confident(sure, sure == 1), ["brier_score"]) == {"brier_score": 0}
    assert metrics.score(confident(sure, sure == 0), ["brier_score"]) == {"brier_score": 2}


def test_a_class_that_no_row_has_changes_no_recall() -> None:
    answers = Predictions(np.array([0, 0, 2]), np.array([0, 1, 2]), np.full((3, 3), 1 / 3))
    scores = metrics.score(answers, metrics.metrics_for(3, ordinal=True))
    assert scores["balanced_accuracy"] == pytest.approx((1 / 2 + 1) / 2)
    assert scores["log_loss"] == pytest.approx(math.log(3))
    assert scores["brier_score"] == pytest.approx((2 / 3) ** 2 + 2 * (1 / 3) ** 2)
    assert scores["quadratic_weighted_kappa"] == pytest.approx(1 - 1 / 5)


def test_roc_auc_and_kappa_of_one_class_are_no_numbers() -> None:
    answers = Predictions(np.array([0, 0]), np.array([0, 0]), np.array([[0.9, 0.1], [0.8, 0.2]]))
    scores = metrics.score(answers, metrics.metrics_for(2, ordinal=False))
    assert [name for name, value in scores.items() if math.isnan(value)] == ["cohen_kappa", "roc_auc"]


def test_which_metrics_a_target_has() -> None:
    assert "roc_auc" in metrics.metrics_for(2, ordinal=False)
    assert "roc_auc" not in metrics.metrics_for(3, ordinal=False)
    ordinal = {"quadratic_weighted_kappa", "mean_absolute_error", "accuracy_within_1"}
    assert ordinal <= set(metrics.metrics_for(3, ordinal=True))
    assert ordinal.isdisjoint(metrics.metrics_for(3, ordinal=False))


@pytest.mark.parametrize(
    ("name", "direction", "said"),
    [
        ("acuracy", "maximize", "target.metric=acuracy: not a metric of this target; did you mean accuracy?"),
        ("roc_auc", "maximize", "target.metric=roc_auc: not a metric of this target;"),
        ("log_loss", "maximize", "target.direction=maximize: log_loss is to minimize"),
    ],
)
def test_a_wrong_deciding_metric_is_told(name: str, direction: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        metrics.check_metric(name, direction, 3, ordinal=False)
    assert str(caught.value).startswith(said)
    metrics.check_metric("log_loss", "minimize", 3, ordinal=False)


def test_majority_answers_the_training_rows_most_frequent_class() -> None:
    assert metrics.majority_accuracy(np.array([0, 1, 1]), np.array([0, 0, 1, 2])) == 1 / 4
    # The first of equals.
    assert metrics.majority_accuracy(np.array([0, 1]), np.array([0, 0, 1])) == 2 / 3


def test_the_majority_model_scores_the_majority() -> None:
    for fold in cross_validated(*posed("model=majority")):
        assert fold.scores["accuracy"] == fold.scores["majority_accuracy"]
        assert fold.scores["balanced_accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("name", choices("feature"))
def test_nothing_of_a_folds_test_rows_reaches_its_fit(name: str) -> None:
    task, estimator = posed(f"feature={name}", "model=logreg")
    train, test = task.folds[0]
    probe, spoilt = test[0], test[1:]
    X, y = task.X.copy(), task.y.copy()
    X.iloc[spoilt] = X.iloc[spoilt] * 1000
    y.iloc[spoilt] = np.roll(y.iloc[spoilt], 1)
    args = (task.folds[:1], task.metrics)
    (clean,) = cross_validation.cross_validate(estimator, task.X, task.y, *args, n_jobs=1)
    (other,) = cross_validation.cross_validate(estimator, X, y, *args, n_jobs=1)
    assert clean.test[0] == probe
    np.testing.assert_array_equal(clean.predictions.probabilities[0], other.predictions.probabilities[0])
    assert not np.array_equal(clean.predictions.probabilities[1:], other.predictions.probabilities[1:])
    # The probe does tell: a training row's change reaches it.
    X.iloc[train[0]] = X.iloc[train[0]] * 2
    (moved,) = cross_validation.cross_validate(estimator, X, y, *args, n_jobs=1)
    assert not np.array_equal(clean.predictions.probabilities[0], moved.predictions.probabilities[0])


def test_the_estimator_itself_stays_unfitted() -> None:
    task, estimator = posed("model=logreg")
    cross_validated(task, estimator)
    assert not hasattr(estimator.named_steps["model"], "classes_")


@pytest.mark.parametrize("name", choices("model"))
def test_figures_are_the_same_with_one_thread_and_with_two(name: str) -> None:
    pytest.importorskip(composed(f"model={name}").model._target_.partition(".")[0])
    # Fewer trees, to be quick; the rest is as in conf/model.
    task, estimator = posed(f"model={name}", "split.n_splits=3", *(f"{key}=30" for key in tree_count_keys(name)))
    one, two = (cross_validated(task, estimator, n_jobs=n_jobs) for n_jobs in (1, 2))
    for first, second in zip(one, two, strict=True):
        assert first.number == second.number
        assert first.scores == second.scores
        np.testing.assert_array_equal(first.predictions.probabilities, second.predictions.probabilities)
    if name != "majority":
        assert all(fold.scores["accuracy"] > fold.scores["majority_accuracy"] for fold in one)


class Threads(DummyClassifier):  # type: ignore[misc]
    """Notes how many native threads it may use."""

    def fit(self, X: pd.DataFrame, y: pd.Series) -> Self:
        """Fit, and note them."""
        self.threads_ = {pool["num_threads"] for pool in threadpool_info()}
        return super().fit(X, y)

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Predict, and note them."""
        self.threads_ |= {pool["num_threads"] for pool in threadpool_info()}
        return super().predict_proba(X)


def test_the_final_model_is_fitted_and_scored_with_one_native_thread() -> None:
    task, _ = posed()
    # Two, on a machine of one core too.
    with threadpool_limits(2):
        estimator = make_pipeline(FunctionTransformer(), Threads(), task.classes)
        fitted = cross_validation.fit(estimator, task.X, task.y)
        assert task.predict_holdout(fitted) is not None
    assert fitted[-1].estimator_.threads_ == {1}


def test_folds_come_in_order_with_the_rows_they_scored() -> None:
    task, estimator = posed("model=logreg")
    folds = cross_validated(task, estimator, n_jobs=2)
    assert [fold.number for fold in folds] == [0, 1, 2, 3, 4]
    for fold, (_, test) in zip(folds, task.folds, strict=True):
        np.testing.assert_array_equal(fold.test, test)
        np.testing.assert_array_equal(fold.predictions.y, task.codes(task.y.iloc[test]))
        assert fold.scores["accuracy"] == np.mean(fold.predictions.y == fold.predictions.predicted)
        assert fold.fit_seconds > 0
        assert fold.predict_seconds > 0


def test_the_holdout_is_scored_by_the_training_rows_majority() -> None:
    task, estimator = posed("model=majority")
    scores = task.score_holdout(task.predict_holdout(cross_validation.fit(estimator, task.X, task.y)))
    assert scores["accuracy"] == scores["majority_accuracy"] == pytest.approx((task.y_holdout == 2).mean())
    empty, _ = posed("holdout.size=0")
    assert empty.predict_holdout(estimator) is None
    assert empty.score_holdout(None) == {}


def test_a_parameter_that_the_model_refuses_is_told() -> None:
    with pytest.raises(UserError, match=r"fitting failed: .*'C' parameter .* Got -1.0 instead"):
        cross_validation.fit(LogisticRegression(C=-1.0), pd.DataFrame({"a": [0.0, 1.0]}), pd.Series([0, 1]))


def test_summary_by_hand() -> None:
    answers = Predictions(np.array([0]), np.array([0]), np.array([[1.0]]))
    folds = [
        Fold(number, np.array([0]), answers, {"accuracy": value, "roc_auc": auc}, 0.0, 0.0)
        for number, (value, auc) in enumerate([(0.5, 0.7), (0.7, math.nan), (0.9, 0.9)])
    ]
    summary = cross_validation.summarise(folds)
    assert summary["accuracy"] == pytest.approx((0.7, 0.2))
    assert summary["roc_auc"] == pytest.approx((0.8, math.sqrt(0.02)))


def test_only_a_column_that_the_model_uses_drops_the_metric_when_shuffled() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"tells": np.repeat([0.0, 1.0], 50), "noise": rng.normal(size=100)})
    y = X["tells"].astype(int)
    fitted = make_pipeline(FunctionTransformer(), LogisticRegression(C=100), [0, 1]).fit(X, y)
    for metric in ("accuracy", "log_loss"):
        drops = cross_validation.permutation_drops(fitted, X, y.to_numpy(), metric, seed=0)
        assert drops.shape == (2, 5)
        assert drops[0].min() > 0.2, f"{metric} gets worse"
        assert np.abs(drops[1]).max() < 0.1
