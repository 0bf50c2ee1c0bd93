"""Metrics, worked out by hand."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as reference

from wineexp.core.errors import UserError
from wineexp.evaluation import metrics
from wineexp.evaluation.baseline import baseline, baseline_scores
from wineexp.evaluation.calibration import calibration_curve
from wineexp.evaluation.metrics import METRICS
from wineexp.evaluation.predictions import NumberPredictions, Predictions, class_values

# Ordinal classes 0, 1, 2; the sixth row's prediction is wrong by two classes.
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
# The same, where the classes are the numbers 1, 2 and 4.
NUMBERS = replace(ORDINAL, values=np.array([1.0, 2.0, 4.0]))
BINARY = Predictions(
    y=np.array([0, 0, 1, 1]),
    predicted=np.array([0, 1, 0, 1]),
    probabilities=np.array([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.2, 0.8]]),
)


@pytest.mark.parametrize(
    ("name", "predictions", "value"),
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
        # So few rows make one bin: the accuracy against the mean probability of the likeliest class.
        ("expected_calibration_error", ORDINAL, 4 / 6 - 0.5),
        ("expected_calibration_error", BINARY, 0.75 - 2 / 4),
        ("mean_absolute_error", ORDINAL, (1 + 2) / 6),
        ("accuracy_within_1", ORDINAL, 5 / 6),
        # Observed squared distances 1 + 4; expected over all pairs of true and predicted: 42 / 6.
        ("quadratic_weighted_kappa", ORDINAL, 1 - 5 / 7),
        # The errors are 2 - 1 and 4 - 1.
        ("mean_absolute_error", NUMBERS, (1 + 3) / 6),
        ("accuracy_within_1", NUMBERS, 5 / 6),
        ("accuracy_within_1", replace(NUMBERS, values=np.array([0.0, 10.0, 20.0])), 4 / 6),
        ("accuracy_within_1", replace(NUMBERS, values=np.array([0.1, 1.1, 2.2])), 5 / 6),
        # Observed 1 + 9; by chance 2 * (1 * 3 + 9 * 1 + 1 * 2 + 4 * 1 + 9 * 2 + 4 * 3) / 6.
        ("quadratic_weighted_kappa", NUMBERS, 1 - 10 / 16),
        # Of the four pairs of a negative and a positive row, only (0.6, 0.3) is in the wrong order.
        ("roc_auc", BINARY, 3 / 4),
        ("precision", BINARY, 1 / 2),
        ("recall", BINARY, 1 / 2),
        ("f1", BINARY, 1 / 2),
        # The second row costs 3, the third one 5.
        ("cost", replace(BINARY, costs=np.array([[0.0, 3.0], [5.0, 1.0]])), (3 + 5 + 1) / 4),
        # By falling probability a positive row, a negative one, the other positive one: 1 at a recall of 1/2, then 2/3.
        ("average_precision", BINARY, (1 + 2 / 3) / 2),
    ],
)
def test_metrics_by_hand(name: str, predictions: Predictions, value: float) -> None:
    assert metrics.score(predictions, [name]) == {name: pytest.approx(value)}


def test_every_metric_is_in_the_table_above() -> None:
    (mark,) = [mark for mark in test_metrics_by_hand.pytestmark if mark.name == "parametrize"]
    of_numbers = {name for name, metric in METRICS.items() if metric.applies_to == ("numbers",)}
    assert {case[0] for case in mark.args[1]} == set(METRICS) - of_numbers


@pytest.mark.parametrize("seed", range(5))
def test_metrics_agree_with_other_implementations_on_random_predictions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(5), 200)
    y, predicted = rng.integers(0, 5, 200), probabilities.argmax(axis=1)
    scores = metrics.score(Predictions(y, predicted, probabilities), metrics.metrics_for(5, ordinal=True))
    assert scores["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(y, predicted))
    assert scores["log_loss"] == pytest.approx(-np.log(probabilities[range(200), y]).mean())
    assert scores["brier_score"] == pytest.approx(((np.eye(5)[y] - probabilities) ** 2).sum(axis=1).mean())
    assert scores["mean_absolute_error"] == pytest.approx(np.abs(y - predicted).mean())
    kappa = reference.cohen_kappa_score(y, predicted, weights="quadratic", labels=range(5))
    assert scores["quadratic_weighted_kappa"] == kappa, "to the last bit"
    assert scores["f1_macro"] == pytest.approx(reference.f1_score(y, predicted, average="macro"))


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        ([3, 4, 9], [3, 4, 9]),
        (["0.5", "1", "10"], [0.5, 1, 10]),
        (["low", "middle", "10"], None),
        (["10", "9"], None),
        ([False, True], None),
    ],
)
def test_labels_that_are_ascending_numbers_are_values(labels: list[object], values: list[float] | None) -> None:
    found = class_values(labels)
    assert (None if found is None else found.tolist()) == values


def confident(probabilities: np.ndarray, right: np.ndarray) -> Predictions:
    """Predictions of class 0 of two with these probabilities, and whether each is correct."""
    rows = len(probabilities)
    return Predictions(np.where(right, 0, 1), np.zeros(rows, dtype=int), np.c_[probabilities, 1 - probabilities])


def test_the_calibration_curve_has_bins_of_equal_mass() -> None:
    # Two bins of ten rows: 6 correct at 0.6, 5 correct at 0.9.
    predictions = confident(np.repeat([0.9, 0.6], 10), np.r_[np.arange(10) < 5, np.arange(10) < 6])
    table = calibration_curve(predictions)
    assert table["confidence"].tolist() == pytest.approx([0.6, 0.9])
    assert table["accuracy"].tolist() == [0.6, 0.5]
    assert table["rows"].tolist() == [10, 10]
    assert metrics.score(predictions, ["expected_calibration_error"]) == {
        "expected_calibration_error": pytest.approx((0 + 0.4) / 2)
    }


def test_the_calibration_error_is_0_or_1_at_its_limits() -> None:
    (name,) = names = ["expected_calibration_error"]
    right = np.arange(200) < 150
    assert metrics.score(confident(np.full(200, 1.0), right | True), names)[name] == 0
    assert metrics.score(confident(np.full(200, 1.0), right & False), names)[name] == 1
    # Equal probabilities share one bin, in whatever order the correct rows come.
    for order in (right, right[::-1], np.random.default_rng(0).permutation(right)):
        assert metrics.score(confident(np.full(200, 0.75), order), names)[name] == pytest.approx(0)


@pytest.mark.parametrize(("rows", "bins"), [(1, 1), (19, 1), (20, 2), (99, 9), (100, 10), (1000, 10)])
def test_there_are_as_many_bins_as_have_enough_rows(rows: int, bins: int) -> None:
    predictions = confident(np.linspace(0.5, 1, rows), np.ones(rows, dtype=bool))
    table = calibration_curve(predictions)
    assert len(table) == bins
    assert table["rows"].sum() == rows
    assert table["rows"].max() - table["rows"].min() <= 1
    assert (table["high"].to_numpy()[:-1] < table["low"].to_numpy()[1:]).all()


def test_the_calibration_curve_of_a_class_counts_that_class_alone() -> None:
    # Class 0 has 0.9 in ten rows and 0.2 in ten; the former are all of class 0, the latter all of class 1.
    predictions = confident(np.repeat([0.9, 0.2], 10), np.repeat([True, False], 10))
    positive, negative = (calibration_curve(predictions, code=code) for code in (1, 0))
    assert positive["confidence"].tolist() == pytest.approx([0.1, 0.8])
    assert positive["accuracy"].tolist() == [0, 1]
    assert negative["confidence"].tolist() == pytest.approx([0.2, 0.9])
    assert negative["accuracy"].tolist() == [0, 1]
    # The likeliest class is class 0 in ten rows and class 1 in ten, and always correct.
    likeliest = calibration_curve(predictions)
    assert likeliest["confidence"].tolist() == pytest.approx([0.8, 0.9])
    assert likeliest["accuracy"].tolist() == [1, 1]


def test_the_brier_score_goes_from_0_to_2() -> None:
    sure = np.ones(4)
    assert metrics.score(confident(sure, sure == 1), ["brier_score"]) == {"brier_score": 0}
    assert metrics.score(confident(sure, sure == 0), ["brier_score"]) == {"brier_score": 2}


def test_a_class_without_rows_does_not_change_the_mean_recall() -> None:
    predictions = Predictions(np.array([0, 0, 2]), np.array([0, 1, 2]), np.full((3, 3), 1 / 3))
    scores = metrics.score(predictions, metrics.metrics_for(3, ordinal=True))
    assert scores["balanced_accuracy"] == pytest.approx((1 / 2 + 1) / 2)
    assert scores["log_loss"] == pytest.approx(math.log(3))
    assert scores["brier_score"] == pytest.approx((2 / 3) ** 2 + 2 * (1 / 3) ** 2)
    assert scores["quadratic_weighted_kappa"] == pytest.approx(1 - 1 / 5)


def test_roc_auc_and_kappa_of_one_class_are_nan() -> None:
    predictions = Predictions(np.array([0, 0]), np.array([0, 0]), np.array([[0.9, 0.1], [0.8, 0.2]]))
    scores = metrics.score(predictions, metrics.metrics_for(2, ordinal=False))
    assert [name for name, value in scores.items() if math.isnan(value)] == [
        "cohen_kappa",
        "recall",
        "average_precision",
        "roc_auc",
    ]


def test_metrics_that_are_defined_for_a_target() -> None:
    assert "roc_auc" in metrics.metrics_for(2, ordinal=False)
    assert "roc_auc" not in metrics.metrics_for(3, ordinal=False)
    ordinal = {"quadratic_weighted_kappa", "mean_absolute_error", "accuracy_within_1"}
    assert ordinal <= set(metrics.metrics_for(3, ordinal=True))
    assert ordinal.isdisjoint(metrics.metrics_for(3, ordinal=False))


@pytest.mark.parametrize(
    ("name", "direction", "message"),
    [
        ("acuracy", "maximize", "target.metric=acuracy: not a metric of this target; did you mean accuracy?"),
        ("roc_auc", "maximize", "target.metric=roc_auc: not a metric of this target;"),
        ("log_loss", "maximize", "target.direction=maximize: log_loss is to minimize"),
    ],
)
def test_a_wrong_deciding_metric_is_refused(name: str, direction: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        metrics.check_metric(name, direction, 3, ordinal=False)
    assert str(caught.value).startswith(message)
    metrics.check_metric("log_loss", "minimize", 3, ordinal=False)


def test_majority_accuracy_is_that_of_the_training_rows_most_frequent_class() -> None:
    def accuracy(y_train: list[int], y_test: list[int]) -> float:
        y = np.array(y_test)
        constant, of_a_model = baseline(np.array(y_train)), Predictions(y, y, np.eye(3)[y])
        return baseline_scores(constant, of_a_model, [])["majority_accuracy"]

    assert accuracy([0, 1, 1], [0, 0, 1, 2]) == 1 / 4
    # Of equally frequent classes, the first.
    assert accuracy([0, 1], [0, 0, 1]) == 2 / 3


@pytest.mark.parametrize("kind", ["binary", "ordinal", "numbers"])
def test_a_row_counts_as_often_as_its_weight_says(kind: str) -> None:
    rng = np.random.default_rng(0)
    weights = rng.integers(0, 4, 60)
    n_classes = {"binary": 2, "ordinal": 5, "numbers": 0}[kind]
    if n_classes:
        probabilities = rng.dirichlet(np.ones(n_classes), 60)
        # A class whose rows have no weight does not occur.
        y = np.where(weights == 0, n_classes - 1, rng.integers(0, max(2, n_classes - 1), 60))
        rows: Any = Predictions(y, probabilities.argmax(axis=1), probabilities, rng.random((60, n_classes)) < 0.5)
    else:
        # Rounded, so that some are equal.
        rows = NumberPredictions(rng.normal(size=60).round(1), rng.normal(size=60).round(1))
    names = metrics.metrics_for(n_classes, ordinal=kind == "ordinal")
    repeated = rows.select(np.repeat(np.arange(60), weights))
    weighted = replace(rows, weights=weights.astype(float))
    expected, found = metrics.score(repeated, names), metrics.score(weighted, names)
    # Its bins have equal numbers of rows, whatever their weights.
    expected.pop("expected_calibration_error", None)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    constants = [baseline(rows.y.repeat(weights)), baseline(rows.y, weights.astype(float))]
    assert constants[1] == pytest.approx(constants[0])
    of_baseline = [baseline_scores(constants[0], predictions, names) for predictions in (repeated, weighted)]
    assert of_baseline[1] == pytest.approx(of_baseline[0])
    assert all(math.isnan(value) for value in metrics.score(replace(rows, weights=np.zeros(60)), names).values())


def test_shares_of_a_calibration_curve_are_weighted() -> None:
    predictions = replace(BINARY, weights=np.array([3.0, 0.0, 1.0, 0.0]))
    curve = calibration_curve(predictions)
    # The first row is right with 0.9, the third one wrong with 0.7.
    assert curve[["confidence", "accuracy", "rows"]].to_numpy().tolist() == [pytest.approx([3.4 / 4, 3 / 4, 4])]
    assert metrics.score(predictions, ["expected_calibration_error"])["expected_calibration_error"] == pytest.approx(
        0.1
    )
