from typing import Any

import numpy as np
import pandas as pd
import pytest

from wineexp.evaluation.predictions import NumberPredictions, Predictions
from wineexp.monitoring.column_shifts import block_starts
from wineexp.monitoring.drift import Monitor
from wineexp.monitoring.losses import Loss, loss_for, mean_by_row
from wineexp.monitoring.reference import LossSummary, Reference, answers, calibration, sketch
from wineexp.reports.monitor_page import render

CLASSES = ["bad", "good"]


def rows_of(random: np.random.Generator, n_rows: int, shift: float = 0.0, colour: str = "red") -> pd.DataFrame:
    """Rows of the log: where `strength` is above 0 the model is right less often than elsewhere."""
    strength = random.normal(shift, 1, n_rows)
    good = np.clip(0.5 + 0.4 * random.choice([-1, 1], n_rows), 0, 1)
    return pd.DataFrame(
        {
            "time": pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.arange(n_rows), "min"),
            "input.strength": strength,
            "input.constant": 1.0,
            "input.colour": np.where(random.random(n_rows) < 0.9, colour, "rose"),
            "decision": np.where(good > 0.5, "good", "bad"),
            "probability.bad": 1 - good,
            "probability.good": good,
        }
    )


def with_truth(rows: pd.DataFrame, random: np.random.Generator, error: float | None = None) -> pd.DataFrame:
    rate = np.where(rows["input.strength"] > 0, 0.4, 0.1) if error is None else error
    wrong = random.random(len(rows)) < rate
    other = np.where(rows["decision"] == "good", "bad", "good")
    return rows.assign(truth=np.where(wrong, other, rows["decision"]))


def predictions_of(rows: pd.DataFrame) -> Predictions:
    y, predicted = (rows[name].map(CLASSES.index).to_numpy() for name in ("truth", "decision"))
    return Predictions(y, predicted, rows[["probability.bad", "probability.good"]].to_numpy())


@pytest.fixture(scope="module")
def reference() -> Reference:
    random = np.random.default_rng(0)
    rows = with_truth(rows_of(random, 2000), random)
    predictions = predictions_of(rows)
    losses = Loss("error").of_rows(predictions)
    inputs = {name.removeprefix("input."): rows[name] for name in rows if name.startswith("input.")}
    return Reference(
        n_rows=len(rows),
        columns=[sketch(values, name) for name, values in inputs.items()],
        answers=[sketch(pd.Series(values), name) for name, values in answers(predictions, CLASSES).items()],
        classes=CLASSES,
        metric="accuracy",
        score=float(1 - losses.mean()),
        loss=Loss("error"),
        losses=LossSummary(len(losses), float(losses.mean()), float(losses.var(ddof=1))),
        calibration=calibration(predictions),
        costs=None,
        sample={name: values.head(1000).tolist() for name, values in inputs.items()},
        sample_losses=losses[:1000].tolist(),
        noun=["wine", "wines"],
    )


def test_without_a_change_nothing_is_found(reference: Reference) -> None:
    random = np.random.default_rng(1)
    monitor = Monitor(reference)
    for _ in range(5):
        rows = rows_of(random, 300)
        monitor.update(rows)
        monitor.update_labels(with_truth(rows.head(100), random))
    found = monitor.findings()
    assert not found.alarm
    assert found.shifted == []
    assert (found.n_rows, found.n_labels) == (1500, 500)
    assert found.score == pytest.approx(0.75, abs=0.06)
    assert found.columns[0].counts.sum() == found.columns[0].periods.sum() == 1500
    assert found.labelled.low < 0.25 < found.labelled.high


def test_labels_that_show_a_greater_loss_raise_the_alarm(reference: Reference) -> None:
    random = np.random.default_rng(2)
    monitor = Monitor(reference)
    monitor.update_labels(with_truth(rows_of(random, 400), random))
    assert not monitor.findings().alarm
    monitor.update_labels(with_truth(rows_of(random, 400), random, error=0.6))
    found = monitor.findings().labelled
    assert found.alarm
    assert found.alarm_row is not None
    assert found.change_row is not None
    assert 400 < found.alarm_row < 500
    assert 380 < found.change_row < 420


def test_rows_on_which_the_model_errs_raise_the_alarm_without_labels(reference: Reference) -> None:
    random = np.random.default_rng(3)
    monitor = Monitor(reference)
    monitor.update(rows_of(random, 400))
    monitor.update(rows_of(random, 600, shift=2.0))
    found = monitor.findings()
    assert found.alarm
    assert not found.labelled.alarm
    assert found.expected is not None
    assert 400 < (found.expected.alarm_row or 0) < 700
    assert found.shifted[0].sketch.name == "strength"


def test_labels_without_a_greater_loss_overrule_what_is_expected(reference: Reference) -> None:
    random = np.random.default_rng(4)
    monitor = Monitor(reference)
    rows = rows_of(random, 1000, shift=2.0)
    monitor.update(rows)
    monitor.update_labels(with_truth(rows, random, error=0.05))
    found = monitor.findings()
    assert found.expected is not None
    assert found.expected.alarm
    assert "show no greater loss" in found.expected.overruled
    assert not found.alarm


def test_a_shift_that_does_no_harm_is_shown_and_not_alarmed(reference: Reference) -> None:
    random = np.random.default_rng(5)
    monitor = Monitor(reference)
    rows = rows_of(random, 800, colour="white").assign(**{"input.constant": np.nan})
    monitor.update(rows)
    monitor.update_labels(with_truth(rows, random))
    found = monitor.findings()
    assert not found.alarm
    assert {column.sketch.name for column in found.shifted} == {"colour", "constant"}
    colour = next(column for column in found.columns if column.sketch.name == "colour")
    assert colour.share(colour.sketch.outside_bins) == (0, pytest.approx(0.9, abs=0.05))
    assert colour.moved == pytest.approx(0.9, abs=0.05)


def test_it_does_not_matter_how_often_one_looks(reference: Reference) -> None:
    random = np.random.default_rng(6)
    rows = rows_of(random, 500, shift=0.5)
    labels = with_truth(rows, random)
    once, often = Monitor(reference), Monitor(reference)
    once.update(rows)
    once.update_labels(labels)
    for start in range(0, 500, 70):
        often.update(rows.iloc[start : start + 70])
        often.update_labels(labels.iloc[start : start + 70])
        often.findings()
    first, second = once.findings(), often.findings()
    assert first.labelled.log_e_value == pytest.approx(second.labelled.log_e_value)
    assert [column.log_e_value for column in first.columns] == pytest.approx(
        [column.log_e_value for column in second.columns]
    )


def test_a_class_that_the_model_does_not_know_is_a_wrong_answer(reference: Reference) -> None:
    monitor = Monitor(reference)
    monitor.update_labels(rows_of(np.random.default_rng(7), 60).assign(truth="splendid"))
    found = monitor.findings()
    assert found.labelled.mean == 1
    assert found.n_unknown_labels == 60
    assert found.alarm
    assert found.score is None


def test_columns_that_are_not_logged_are_left_out(reference: Reference) -> None:
    monitor = Monitor(reference)
    monitor.update(rows_of(np.random.default_rng(8), 100).drop(columns="input.colour"))
    found = monitor.findings()
    assert [column.sketch.name for column in found.columns] == ["strength", "constant"]
    assert found.expected is not None


def test_an_empty_log() -> None:
    assert list(block_starts(0)) == [0]
    assert list(block_starts(41)) == [0, 20, 40]


def test_losses_of_each_kind() -> None:
    probabilities = np.array([[0.8, 0.2, 0.0], [0.1, 0.1, 0.8]])
    predictions = Predictions(np.array([0, 0]), np.array([0, 2]), probabilities)
    assert loss_for("accuracy", predictions).of_rows(predictions).tolist() == [0, 1]
    assert loss_for("mean_absolute_error", predictions).of_rows(predictions).tolist() == [0, 1]
    assert loss_for("log_loss", predictions).of_rows(predictions) == pytest.approx([0.04, 0.73])
    costs = np.array([[0.0, 1, 4], [2, 0, 2], [4, 1, 0]])
    priced = Predictions(predictions.y, predictions.predicted, probabilities, costs=costs)
    assert loss_for("cost", priced).of_rows(priced).tolist() == [0, 1]
    numbers = NumberPredictions(np.arange(100.0), np.zeros(100))
    squared = loss_for("root_mean_squared_error", numbers)
    assert squared.in_unit(1) == pytest.approx(98.5**2, rel=0.01)
    assert squared.of_rows(numbers)[[0, 50, 99]] == pytest.approx([0, 0.2576, 1], abs=0.01)
    assert loss_for("mean_absolute_error", numbers).kind == "absolute"
    rows, means = mean_by_row([0.0, 1.0, 1.0], [5, 2, 5])
    assert (rows.tolist(), means.tolist()) == ([2, 5], [1.0, 0.5])


def test_bins_of_a_sketch() -> None:
    numbers = sketch(pd.Series([*range(100), None]), "x")
    assert sum(numbers.counts) == 101
    codes = numbers.codes(pd.Series([-1.0, 0.0, 99.0, 99.5, np.nan]))
    assert codes.tolist() == [0, 1, numbers.n_bins - 3, numbers.n_bins - 2, numbers.missing_bin]
    texts: dict[str, Any] = {"x": [*"aab", None]}
    words = sketch(pd.Series(texts["x"]), "x")
    assert words.levels == ["a", "b"]
    assert words.codes(pd.Series(["b", "a", "c", None])).tolist() == [1, 0, 3, 4]


def test_numbers_are_watched_as_classes_are() -> None:
    random = np.random.default_rng(9)

    def rows(n_rows: int, error: float) -> pd.DataFrame:
        predicted = random.normal(5, 1, n_rows)
        return pd.DataFrame(
            {
                "time": pd.date_range("2026-01-01", periods=n_rows, freq="h"),
                "input.size": predicted,
                "number": predicted,
                "truth": predicted + random.normal(0, error, n_rows),
            }
        )

    training = rows(1000, 0.5)
    predictions = NumberPredictions(training["truth"].to_numpy(), training["number"].to_numpy())
    loss = loss_for("root_mean_squared_error", predictions)
    losses = loss.of_rows(predictions)
    reference = Reference(
        n_rows=1000,
        columns=[sketch(training["input.size"], "size")],
        answers=[sketch(training["number"], "prediction")],
        classes=[],
        metric="root_mean_squared_error",
        score=0.5,
        loss=loss,
        losses=LossSummary(1000, float(losses.mean()), float(losses.var(ddof=1))),
        calibration=calibration(predictions),
        costs=None,
        sample={"size": training["input.size"].tolist()},
        sample_losses=losses.tolist(),
        noun=["fish", "fish"],
    )
    monitor = Monitor(reference)
    for error in (0.5, 1.0):
        part = rows(300, error)
        monitor.update(part)
        monitor.update_labels(part)
        found = monitor.findings()
        assert found.alarm == (error == 1)
    assert found.labelled.alarm_row is not None
    assert 300 <= found.labelled.alarm_row < 400
    assert found.score == pytest.approx(0.79, abs=0.1)
    page = render("fish", 1, reference, found, ["ALARM: the loss is greater"])
    assert "mean squared error" in page
    assert "Calibration" in page
