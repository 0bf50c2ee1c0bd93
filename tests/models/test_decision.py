"""Decisions: worked out by hand, made from the probabilities alone, and the same wherever they are asked for."""

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score, f1_score

from tests.conftest import Command, composed
from wineexp.data.split import CopiesTogetherKFold
from wineexp.evaluation.metrics import METRICS, Predictions
from wineexp.models.decision import LOSSES, LossClassifier, MetricClassifier
from wineexp.models.pipeline import FixedClassesClassifier, best, out_of_fold
from wineexp.workflows.experiment import assemble

CV = CopiesTogetherKFold(folds=4, random_state=0)


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray]:
    """300 rows of classes 0 to 3, of which the last is rare, with much noise."""
    rng = np.random.default_rng(0)
    y = rng.choice(4, 300, p=[0.25, 0.45, 0.25, 0.05])
    return np.c_[y + rng.normal(0, 1, 300), rng.normal(0, 1, 300)], y


@pytest.mark.parametrize(
    ("loss", "probabilities", "answer"),
    [
        ("zero_one", [0.4, 0.3, 0.3], 0),
        # Half of it lies at or below the second class.
        ("absolute", [0.4, 0.3, 0.3], 1),
        ("absolute", [0.6, 0.0, 0.4], 0),
        # The mean is 0.8.
        ("squared", [0.6, 0.0, 0.4], 1),
        # The first of equals.
        ("zero_one", [0.5, 0.5, 0.0], 0),
        ("absolute", [0.5, 0.0, 0.5], 0),
    ],
)
def test_a_loss_by_hand(loss: str, probabilities: list[float], answer: int) -> None:
    prior = np.repeat([0, 1, 2], np.multiply(probabilities, 10).astype(int))
    utility = -LOSSES[loss](np.arange(3)[:, None] - np.arange(3))
    assert best(np.array([probabilities]), utility) == [answer]
    present = np.unique(prior).tolist()
    if len(present) == 3:
        fitted = LossClassifier(DummyClassifier(), loss).fit(np.zeros((10, 1)), prior)
        assert fitted.predict([[0.0]]) == [answer]


@pytest.mark.parametrize("seed", range(3))
def test_each_loss_is_least_where_it_decides(seed: int) -> None:
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(5), 200)
    places = np.arange(5)
    for loss in LOSSES.values():
        cost = loss(places[:, None] - places)
        decided = best(probabilities, -cost)
        expected = probabilities @ cost
        np.testing.assert_allclose(expected[np.arange(200), decided], expected.min(axis=1))


@pytest.mark.parametrize(("metric", "ordinal"), [("quadratic_weighted_kappa", True), ("f1_macro", False)])
def test_a_metric_is_better_out_of_fold_than_with_the_likeliest_class(
    metric: str, ordinal: bool, rows: tuple[np.ndarray, np.ndarray]
) -> None:
    X, y = rows
    fitted = MetricClassifier(LogisticRegression(), metric, CV).fit(X, y)
    told = out_of_fold(LogisticRegression(), X, y, CV)
    score = (
        (lambda predicted: cohen_kappa_score(y, predicted, weights="quadratic"))
        if ordinal
        else (lambda predicted: f1_score(y, predicted, average="macro"))
    )
    assert score(best(told, fitted.utility_)) > score(told.argmax(axis=1)) + 0.02
    # The estimator's own probabilities stay.
    np.testing.assert_array_equal(fitted.predict_proba(X), LogisticRegression().fit(X, y).predict_proba(X))


def test_thresholds_are_of_the_expected_place(rows: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = rows
    fitted = MetricClassifier(LogisticRegression(), "mean_absolute_error", CV).fit(X, y)
    expected = fitted.predict_proba(X) @ np.arange(4)
    decided = fitted.predict(X)
    assert set(decided) >= {0, 1, 2}
    for k in range(3):
        assert expected[decided <= k].max() <= expected[decided > k].min()


@pytest.mark.parametrize(
    "metric", [name for name, metric in METRICS.items() if metric.computed_from == "probabilities"]
)
def test_a_metric_of_the_probabilities_leaves_the_likeliest_class(
    metric: str, rows: tuple[np.ndarray, np.ndarray]
) -> None:
    X, y = rows
    fitted = MetricClassifier(LogisticRegression(), metric, CV).fit(X, y % 2)
    np.testing.assert_array_equal(fitted.predict(X), fitted.predict_proba(X).argmax(axis=1))


@pytest.mark.parametrize("name", METRICS)
def test_what_a_metric_judges(name: str, rows: tuple[np.ndarray, np.ndarray]) -> None:
    classes = 2 if METRICS[name].applies_to == "binary" else 4
    y = rows[1] % classes
    probabilities = np.random.default_rng(1).dirichlet(np.ones(classes), len(y))
    scores = {
        METRICS[name].score(Predictions(y, predicted, probabilities)) for predicted in (y, classes - 1 - y, 0 * y)
    }
    assert (len(scores) == 1) == (METRICS[name].computed_from == "probabilities")


def test_a_decision_counts_on_where_a_class_is_missing() -> None:
    y = np.repeat([3, 5, 6, 8], [30, 20, 30, 20])
    fitted = FixedClassesClassifier(LossClassifier(DummyClassifier(), "absolute"), [3, 4, 5, 6, 7, 8]).fit(
        np.zeros((100, 1)), y
    )
    assert fitted.predict(np.zeros((2, 1))).tolist() == [5, 5]
    assert fitted.predict_proba(np.zeros((1, 1)))[0].argmax() == 0


def test_a_wrong_loss_and_metric_are_told(rows: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="loss must be one of zero_one, absolute, squared, but got huber"):
        LossClassifier(LogisticRegression(), "huber").fit(*rows)
    with pytest.raises(ValueError, match=r"metric must be one of accuracy, .*, but got kappa"):
        MetricClassifier(LogisticRegression(), "kappa", CV).fit(*rows)


def test_a_row_that_no_fold_tests_is_told(rows: tuple[np.ndarray, np.ndarray]) -> None:
    class Half:
        def split(self, X: np.ndarray, y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
            return [(np.arange(150, 300), np.arange(150))]

    with pytest.raises(ValueError, match="every row must be in a test part of cv, but 150 of 300 are not"):
        out_of_fold(LogisticRegression(), *rows, Half())  # type: ignore[arg-type]


@pytest.mark.usefixtures("wine_quality")
def test_the_record_holds_the_decision_and_not_the_likeliest_class(command: Command, tmp_path: object) -> None:
    arguments = ("data=red", "model=median", "model.estimator.n_estimators=20")
    done = command("train", *arguments, "hydra.run.dir=out")
    assert done.returncode == 0, done.stderr
    table = pd.read_parquet(f"{tmp_path}/out/predictions.parquet")
    probabilities = table.filter(regex="^probability ")
    labels = probabilities.columns.str.removeprefix("probability ").to_numpy()
    code = pd.Index(labels).get_indexer(table["predicted"])
    upto = np.c_[np.zeros(len(table)), probabilities.to_numpy().cumsum(axis=1)]
    assert (upto[range(len(table)), code] <= 0.5 + 1e-9).all()
    assert (upto[range(len(table)), code + 1] >= 0.5 - 1e-9).all()
    likeliest = labels[probabilities.to_numpy().argmax(axis=1)]
    assert (table["predicted"] != likeliest).sum() > 20
    # Cross-validated and fitted on all of it: both decide.
    assert set(table["fold"]) == {-1, 0, 1, 2, 3, 4}


@pytest.mark.usefixtures("wine_quality")
def test_choosing_by_the_metric_helps_on_rows_that_were_not_seen() -> None:
    def kappa(model: str) -> float:
        few = f"model.{'estimator.' if model == 'decided' else ''}n_estimators=60"
        folds = list(assemble(composed("data=red", f"model={model}", few, "n_jobs=1")).cross_validate())
        return float(np.mean([fold.scores["quadratic_weighted_kappa"] for fold in folds]))

    assert kappa("decided") > kappa("extratrees") + 0.02
