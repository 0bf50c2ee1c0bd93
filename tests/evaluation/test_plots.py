"""Figures of a run: the numbers that are drawn."""

import numpy as np
import pytest

from wineexp.evaluation import plots
from wineexp.evaluation.calibration import calibration_curve
from wineexp.evaluation.predictions import Predictions

RNG = np.random.default_rng(0)


def predictions(n_classes: int) -> Predictions:
    probabilities = RNG.dirichlet(np.ones(n_classes), 60)
    return Predictions(RNG.integers(0, n_classes, 60), probabilities.argmax(axis=1), probabilities)


def test_the_confusion_matrix_shows_counts() -> None:
    figure = plots.confusion(
        Predictions(np.array([0, 0, 1]), np.array([0, 1, 1]), np.eye(2)[[0, 1, 1]]), ["red", "white"]
    )
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "1", "0", "1"]
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["red", "white"]


def test_of_two_classes_the_positive_one_is_drawn_with_its_roc_curve() -> None:
    drawn = predictions(2)
    calibration, roc = plots.probabilities(drawn, ["ordinary", "good"]).axes
    curve = calibration_curve(drawn, code=1)
    np.testing.assert_array_equal(calibration.lines[1].get_xydata(), curve[["confidence", "accuracy"]])
    assert calibration.get_xlabel() == "probability of good"
    assert roc.lines[0].get_label().startswith("area 0.")


def test_of_more_classes_the_likeliest_is_drawn() -> None:
    drawn = predictions(3)
    (calibration,) = plots.probabilities(drawn, ["1", "2", "3"]).axes
    curve = calibration_curve(drawn)
    np.testing.assert_array_equal(calibration.lines[1].get_xydata(), curve[["confidence", "accuracy"]])
    assert calibration.get_xlabel() == "probability of the likeliest class"


@pytest.mark.filterwarnings("ignore:No artists with labels:UserWarning")
def test_there_is_no_roc_curve_of_one_class() -> None:
    one_class = Predictions(np.ones(20, dtype=int), np.ones(20, dtype=int), np.tile([0.3, 0.7], (20, 1)))
    _, roc = plots.probabilities(one_class, ["ordinary", "good"]).axes
    assert len(roc.lines) == 1


def test_importances_are_sorted() -> None:
    figure = plots.importance(["hue", "ash"], np.array([[0.1, 0.3], [0.0, 0.1]]), "accuracy")
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["ash", "hue"]
    assert [bar.get_width() for bar in figure.axes[0].patches] == pytest.approx([0.05, 0.2])


def test_expected_grades_are_drawn_of_the_classes_that_occur() -> None:
    drawn = Predictions(np.array([0, 0, 2]), np.array([0, 0, 2]), np.eye(3)[[0, 1, 2]])
    axis = plots.grades(drawn, ["3", "4", "5"]).axes[0]
    medians = [line.get_ydata()[0] for line in axis.lines if len(line.get_xdata()) == 2][1:]
    assert 0.5 in medians
    assert 2 in medians
