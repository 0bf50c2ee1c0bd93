"""Decisions: worked out by hand, and the best that probabilities allow for a loss or a metric."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score, f1_score

from tests.conftest import composed
from wineexp import compose, train
from wineexp.data.split import CopiesTogetherKFold
from wineexp.evaluation.metrics import METRICS
from wineexp.evaluation.predictions import Predictions, best_decisions
from wineexp.models.decision import LOSSES, LossClassifier, MetricClassifier
from wineexp.models.ensemble import SelectionClassifier
from wineexp.models.pipeline import FixedClassesClassifier, out_of_fold_probabilities
from wineexp.workflows.experiment import assemble

CV = CopiesTogetherKFold(folds=4, random_state=0)


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray]:
    """300 rows of classes 0 to 3, of which the last is rare, with much noise."""
    rng = np.random.default_rng(0)
    y = rng.choice(4, 300, p=[0.25, 0.45, 0.25, 0.05])
    return np.c_[y + rng.normal(0, 1, 300), rng.normal(0, 1, 300)], y


@pytest.mark.parametrize(
    ("loss", "probabilities", "decision"),
    [
        ("zero_one", [0.4, 0.3, 0.3], 0),
        # The median is the second class: 0.7 lies at or below it.
        ("absolute", [0.4, 0.3, 0.3], 1),
        ("absolute", [0.6, 0.0, 0.4], 0),
        # The mean position is 0.8.
        ("squared", [0.6, 0.0, 0.4], 1),
        # The first of equal ones.
        ("zero_one", [0.5, 0.5, 0.0], 0),
        ("absolute", [0.5, 0.0, 0.5], 0),
    ],
)
def test_a_loss_by_hand(loss: str, probabilities: list[float], decision: int) -> None:
    prior = np.repeat([0, 1, 2], np.multiply(probabilities, 10).astype(int))
    utility = -LOSSES[loss](np.arange(3)[:, None] - np.arange(3))
    assert best_decisions(np.array([probabilities]), utility) == [decision]
    present = np.unique(prior).tolist()
    if len(present) == 3:
        fitted = LossClassifier(DummyClassifier(), loss).fit(np.zeros((10, 1)), prior)
        assert fitted.predict([[0.0]]) == [decision]


@pytest.mark.parametrize("seed", range(3))
def test_the_decision_has_the_least_expected_loss(seed: int) -> None:
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(5), 200)
    positions = np.arange(5)
    for loss in LOSSES.values():
        cost = loss(positions[:, None] - positions)
        decisions = best_decisions(probabilities, -cost)
        expected = probabilities @ cost
        np.testing.assert_allclose(expected[np.arange(200), decisions], expected.min(axis=1))


@pytest.mark.parametrize(("metric", "ordinal"), [("quadratic_weighted_kappa", True), ("f1_macro", False)])
def test_a_metric_is_better_out_of_fold_than_with_the_likeliest_class(
    metric: str, ordinal: bool, rows: tuple[np.ndarray, np.ndarray]
) -> None:
    X, y = rows
    fitted = MetricClassifier(LogisticRegression(), metric, CV).fit(X, y)
    probabilities = out_of_fold_probabilities(LogisticRegression(), X, y, CV)
    score = (
        (lambda predicted: cohen_kappa_score(y, predicted, weights="quadratic"))
        if ordinal
        else (lambda predicted: f1_score(y, predicted, average="macro"))
    )
    likeliest = probabilities.argmax(axis=1)
    assert score(best_decisions(probabilities, fitted.utility_)) > score(likeliest) + 0.02
    np.testing.assert_array_equal(fitted.predict_proba(X), LogisticRegression().fit(X, y).predict_proba(X))


def test_an_ordinal_metric_gives_thresholds_on_the_expected_position(
    rows: tuple[np.ndarray, np.ndarray],
) -> None:
    X, y = rows
    fitted = MetricClassifier(LogisticRegression(), "mean_absolute_error", CV).fit(X, y)
    expected = fitted.predict_proba(X) @ np.arange(4)
    decisions = fitted.predict(X)
    assert set(decisions) >= {0, 1, 2}
    for k in range(3):
        assert expected[decisions <= k].max() <= expected[decisions > k].min()


@pytest.mark.parametrize(
    "metric", [name for name, metric in METRICS.items() if metric.computed_from == "probabilities"]
)
def test_for_a_metric_of_probabilities_the_likeliest_class_is_decided_on(
    metric: str, rows: tuple[np.ndarray, np.ndarray]
) -> None:
    X, y = rows
    fitted = MetricClassifier(LogisticRegression(), metric, CV).fit(X, y % 2)
    np.testing.assert_array_equal(fitted.predict(X), fitted.predict_proba(X).argmax(axis=1))


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.applies_to != ("numbers",)])
def test_a_metric_depends_on_decisions_as_computed_from_says(name: str, rows: tuple[np.ndarray, np.ndarray]) -> None:
    classes = 2 if METRICS[name].applies_to == ("binary",) else 4
    y = rows[1] % classes
    probabilities = np.random.default_rng(1).dirichlet(np.ones(classes), len(y))
    scores = {
        METRICS[name].score(Predictions(y, predicted, probabilities)) for predicted in (y, classes - 1 - y, 0 * y)
    }
    assert (len(scores) == 1) == (METRICS[name].computed_from == "probabilities")


@pytest.mark.parametrize(
    ("classes", "decision"),
    [
        # The mean of 1, 2 and 10 is 2.85.
        ([1, 2, 6, 10], 2),
        # The mean of the positions 0, 1 and 3 is 0.65, that of 0, 1 and 2 without the missing class would be 0.45.
        (["low", "middle", "high", "top"], "middle"),
    ],
)
def test_distances_are_those_of_the_classes_whichever_are_missing(classes: list, decision: object) -> None:
    y = np.repeat([classes[0], classes[1], classes[3]], [75, 5, 20])
    model = FixedClassesClassifier(LossClassifier(DummyClassifier(), "squared"), classes)
    assert model.fit(np.zeros((100, 1)), y).predict(np.zeros((2, 1))).tolist() == [decision] * 2


@pytest.mark.parametrize(
    "estimator",
    [
        MetricClassifier(LogisticRegression(), "mean_absolute_error", CV),
        SelectionClassifier({"line": LogisticRegression()}, "log_loss", 1, "mean_absolute_error", False, CV),
    ],
)
def test_decisions_for_an_ordinal_metric_are_in_the_unit_of_the_classes(
    estimator: ClassifierMixin, rows: tuple[np.ndarray, np.ndarray]
) -> None:
    X, y = rows
    values = np.array([0.0, 1.0, 2.0, 20.0])
    fitted = FixedClassesClassifier(estimator, values.tolist()).fit(X, values[y])
    expected = fitted.predict_proba(X) @ values
    decisions = fitted.predict(X)
    for lower, upper in pairwise(sorted(set(decisions))):
        assert expected[decisions <= lower].max() <= expected[decisions >= upper].min()
    likeliest = values[fitted.predict_proba(X).argmax(axis=1)]
    assert np.abs(decisions - values[y]).mean() < np.abs(likeliest - values[y]).mean()


def test_an_unknown_loss_or_metric_is_refused(rows: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="loss must be one of zero_one, absolute, squared, but got huber"):
        LossClassifier(LogisticRegression(), "huber").fit(*rows)
    with pytest.raises(ValueError, match=r"metric must be one of accuracy, .*, but got kappa"):
        MetricClassifier(LogisticRegression(), "kappa", CV).fit(*rows)


@pytest.mark.usefixtures("wine_quality")
def test_a_run_records_the_decision_and_not_the_likeliest_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = train(compose("data=red", "model=median", "model.estimator.n_estimators=10", "tracking=off"))
    table = pd.read_parquet(result.folder / "predictions.parquet")
    probabilities = table.filter(regex="^probability ")
    labels = probabilities.columns.str.removeprefix("probability ").to_numpy()
    code = pd.Index(labels).get_indexer(table["predicted"])
    cumulative = np.c_[np.zeros(len(table)), probabilities.to_numpy().cumsum(axis=1)]
    assert (cumulative[range(len(table)), code] <= 0.5 + 1e-9).all()
    assert (cumulative[range(len(table)), code + 1] >= 0.5 - 1e-9).all()
    likeliest = labels[probabilities.to_numpy().argmax(axis=1)]
    assert (table["predicted"] != likeliest).sum() > 20
    # The folds' models and the one for the holdout both decide so.
    assert set(table["fold"]) == {-1, 0, 1, 2, 3, 4}


@pytest.mark.journey
@pytest.mark.usefixtures("wine_quality")
def test_decisions_for_the_metric_are_better_on_rows_that_were_not_in_training() -> None:
    def mean_kappa(model: str, *settings: str) -> float:
        experiment = assemble(composed("data=red", f"model={model}", "split.n_splits=3", "n_jobs=1", *settings))
        return float(np.mean([fold.scores["quadratic_weighted_kappa"] for fold in experiment.cross_validate()]))

    likeliest = mean_kappa("extratrees", "model.n_estimators=30")
    assert mean_kappa("decided", "model.estimator.n_estimators=30", "model.cv.folds=3") > likeliest + 0.02
