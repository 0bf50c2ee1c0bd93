"""Cross-validation: test rows never reach a fit, and the number of threads changes no score."""

import math
from typing import Self

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from threadpoolctl import threadpool_info, threadpool_limits

from tests.conftest import choices, composed, models_of_classes
from wineexp.core.config import flatten_config
from wineexp.core.errors import UserError
from wineexp.core.instantiation import build
from wineexp.data.task import Task, make_task, predictions_from_table
from wineexp.evaluation import cross_validation
from wineexp.evaluation.cross_validation import Fold
from wineexp.evaluation.metrics import METRICS, score
from wineexp.evaluation.predictions import Predictions
from wineexp.models.pipeline import make_pipeline


def task_and_estimator(*overrides: str) -> tuple[Task, Pipeline]:
    cfg = composed(*overrides)
    parts = build(cfg)
    task = make_task(parts["data"](), parts["target"], parts["split"], cfg.holdout)
    return task, make_pipeline(parts["feature"], parts["model"], task.classes)


def cross_validate(task: Task, estimator: Pipeline, n_jobs: int = 1) -> list[Fold]:
    args = (estimator, task.X, task.y, task.folds, task.metrics)
    return list(cross_validation.cross_validate(*args, n_jobs=n_jobs))


@pytest.mark.parametrize(
    ("overrides", "nothing"),
    [
        (["model=majority"], True),
        # Single precision and leaves of all rows: no split is good enough.
        (["model=xgb", "model.n_estimators=3", "model.gamma=1e9"], True),
        (["model=xgb", "model.n_estimators=1"], False),
    ],
)
def test_a_model_that_learned_nothing_is_recognized(overrides: list[str], nothing: bool) -> None:
    assert cross_validation.learned_nothing(cross_validate(*task_and_estimator(*overrides))) is nothing


def test_the_majority_model_has_the_majority_classs_accuracy() -> None:
    for fold in cross_validate(*task_and_estimator("model=majority")):
        assert fold.scores["accuracy"] == fold.scores["majority_accuracy"]
        assert fold.scores["balanced_accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("name", choices("feature"))
def test_test_rows_do_not_reach_the_fit_of_their_fold(name: str) -> None:
    task, estimator = task_and_estimator(f"feature={name}", "model=logreg")
    train, test = task.folds[0]
    first, others = test[0], test[1:]
    X, y = task.X.copy(), task.y.copy()
    X.iloc[others] = X.iloc[others] * 1000
    y.iloc[others] = np.roll(y.iloc[others], 1)
    args = (task.folds[:1], task.metrics)
    (original,) = cross_validation.cross_validate(estimator, task.X, task.y, *args, n_jobs=1)
    (changed,) = cross_validation.cross_validate(estimator, X, y, *args, n_jobs=1)
    assert original.test[0] == first
    np.testing.assert_array_equal(original.predictions.probabilities[0], changed.predictions.probabilities[0])
    assert not np.array_equal(original.predictions.probabilities[1:], changed.predictions.probabilities[1:])
    # The comparison can fail: the change of a training row does reach the prediction.
    X.iloc[train[0]] = X.iloc[train[0]] * 2
    (changed_training,) = cross_validation.cross_validate(estimator, X, y, *args, n_jobs=1)
    assert not np.array_equal(original.predictions.probabilities[0], changed_training.predictions.probabilities[0])


def test_the_estimator_itself_is_not_fitted() -> None:
    task, estimator = task_and_estimator("model=logreg")
    cross_validate(task, estimator)
    assert not hasattr(estimator.named_steps["model"], "classes_")


def cheaper(model: str) -> list[str]:
    """Overrides with fewer trees, inner folds and rounds of selection than conf/model has."""
    fewer = {"n_estimators": 10, "cv.folds": 2, "cv.n_splits": 2, "picks": 5}
    keys = [key for key in flatten_config(composed(f"model={model}")) if key.startswith("model.")]
    return [f"{key}={count}" for key in keys for suffix, count in fewer.items() if key.endswith(f".{suffix}")]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("xgb", "logreg", "selection") else pytest.mark.journey)
        for name in models_of_classes()
    ],
)
def test_scores_are_the_same_with_one_thread_and_with_two(name: str) -> None:
    pytest.importorskip(composed(f"model={name}").model._target_.partition(".")[0])
    task, estimator = task_and_estimator(f"model={name}", "split.n_splits=2", *cheaper(name))
    one_thread, two_threads = (cross_validate(task, estimator, n_jobs=n_jobs) for n_jobs in (1, 2))
    for first, second in zip(one_thread, two_threads, strict=True):
        assert first.number == second.number
        assert first.scores == second.scores
        np.testing.assert_array_equal(first.predictions.probabilities, second.predictions.probabilities)
    if name != "majority":
        assert all(fold.scores["accuracy"] > fold.scores["majority_accuracy"] for fold in one_thread)


class ThreadCounter(DummyClassifier):  # type: ignore[misc]
    """Records the numbers of native threads that it may use."""

    def fit(self, X: pd.DataFrame, y: pd.Series) -> Self:
        """Fit, and record them."""
        self.threads_ = {pool["num_threads"] for pool in threadpool_info()}
        return super().fit(X, y)

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Predict, and record them."""
        self.threads_ |= {pool["num_threads"] for pool in threadpool_info()}
        return super().predict_proba(X)


def test_the_final_model_is_fitted_and_scored_with_one_native_thread() -> None:
    task, _ = task_and_estimator()
    # A machine with one core would otherwise allow one thread only.
    with threadpool_limits(2):
        estimator = make_pipeline(FunctionTransformer(), ThreadCounter(), task.classes)
        fitted = cross_validation.fit(estimator, task.X, task.y)
        assert task.predict_holdout(fitted) is not None
    assert fitted[-1].estimator_.threads_ == {1}


def test_the_errors_of_ordered_classes_are_in_the_targets_unit() -> None:
    target = ["target.column=magnesium", "target.bins=[95,105]", "target.labels=['90','100','120']"]
    target += ["target.ordinal=true", "target.metric=mean_absolute_error", "target.direction=minimize"]
    task, estimator = task_and_estimator("model=median", *cheaper("median"), *target)
    values = np.array([90, 100, 120])
    folds = cross_validate(task, estimator)
    table = task.predictions_table(folds, None)
    for fold in folds:
        errors = np.abs(values[fold.predictions.y] - values[fold.predictions.predicted])
        assert fold.scores["mean_absolute_error"] == errors.mean() > 1
        assert fold.scores["accuracy_within_1"] == fold.scores["accuracy"]
        recorded = predictions_from_table(table[table["fold"] == fold.number])
        assert score(recorded, ["mean_absolute_error"]) == {"mean_absolute_error": errors.mean()}


def test_folds_are_yielded_in_order_with_their_test_rows() -> None:
    task, estimator = task_and_estimator("model=logreg")
    folds = cross_validate(task, estimator, n_jobs=2)
    assert [fold.number for fold in folds] == [0, 1, 2, 3, 4]
    for fold, (_, test) in zip(folds, task.folds, strict=True):
        np.testing.assert_array_equal(fold.test, test)
        np.testing.assert_array_equal(fold.predictions.y, task.encoded(task.y.iloc[test]))
        assert fold.scores["accuracy"] == np.mean(fold.predictions.y == fold.predictions.predicted)
        assert fold.fit_seconds > 0
        assert fold.predict_seconds > 0


def test_the_holdouts_majority_accuracy_is_that_of_the_training_rows_class() -> None:
    task, estimator = task_and_estimator("model=majority")
    scores = task.score_holdout(task.predict_holdout(cross_validation.fit(estimator, task.X, task.y)))
    assert scores["accuracy"] == scores["majority_accuracy"] == pytest.approx((task.y_holdout == 2).mean())
    empty, _ = task_and_estimator("holdout.size=0")
    assert empty.predict_holdout(estimator) is None
    assert empty.score_holdout(None) == {}


def test_the_message_of_a_model_that_refuses_a_parameter_is_kept() -> None:
    with pytest.raises(UserError, match=r"fitting failed: .*'C' parameter .* Got -1.0 instead"):
        cross_validation.fit(LogisticRegression(C=-1.0), pd.DataFrame({"a": [0.0, 1.0]}), pd.Series([0, 1]))


def test_a_model_that_needs_more_memory_than_there_is_is_refused() -> None:
    # A matrix of eight terabytes.
    X = pd.DataFrame({"a": np.zeros(1_000_000)})
    with pytest.raises(UserError, match=r"fitting failed: 1000000 rows need more memory .*Unable to allocate"):
        cross_validation.fit(KernelRidge(), X, X["a"])


def test_means_and_deviations_by_hand() -> None:
    predictions = Predictions(np.array([0]), np.array([0]), np.array([[1.0]]))
    folds = [
        Fold(number, np.array([0]), predictions, {"accuracy": value, "roc_auc": auc}, 0, 0.0, 0.0)
        for number, (value, auc) in enumerate([(0.5, 0.7), (0.7, math.nan), (0.9, 0.9)])
    ]
    summary = cross_validation.summarise(folds)
    assert summary["accuracy"] == pytest.approx((0.7, 0.2))
    assert summary["roc_auc"] == pytest.approx((0.8, math.sqrt(0.02)))


def test_only_shuffling_a_column_that_the_model_uses_makes_the_metric_worse() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"tells": np.repeat([0.0, 1.0], 50), "noise": rng.normal(size=100)})
    y = X["tells"].astype(int)
    fitted = make_pipeline(FunctionTransformer(), LogisticRegression(C=100), [0, 1]).fit(X, y)
    for metric in ("accuracy", "log_loss"):
        drops = cross_validation.permutation_drops(fitted, X, y.to_numpy(), METRICS[metric], seed=0)
        assert drops.shape == (2, 5)
        assert drops[0].min() > 0.2, f"{metric} gets worse"
        assert np.abs(drops[1]).max() < 0.1
