"""Prediction intervals of numbers: how often they hold the true number, and their scores by hand."""

import numpy as np
import pytest

from wineexp.evaluation.cross_validation import Fold, error_distribution, with_intervals
from wineexp.evaluation.intervals import COVERAGE, MIN_ROWS, ErrorDistribution, pinball_losses
from wineexp.evaluation.predictions import NumberPredictions


def drawn(n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """True numbers and predictions whose errors grow with the prediction, and are skewed."""
    rng = np.random.default_rng(seed)
    predicted = rng.uniform(1, 10, n_rows)
    return predicted * rng.lognormal(0, 0.3, n_rows), predicted


@pytest.mark.parametrize("n_rows", [19, 60, 200, 2000])
def test_intervals_hold_nine_of_ten_new_rows(n_rows: int) -> None:
    held, n_new = 0, 0
    for seed in range(40):
        errors = ErrorDistribution.of(*drawn(n_rows, seed), n_rows)
        assert errors is not None
        y, predicted = drawn(500, 1000 + seed)
        low, high = errors.intervals(predicted)
        held, n_new = held + int(((y >= low) & (y <= high)).sum()), n_new + len(y)
    # With few rows each end must leave out less, since quantiles are whole errors.
    assert COVERAGE - 0.015 < held / n_new < COVERAGE + (0.01 if n_rows > 100 else 0.05)


def test_they_hold_small_and_large_predictions_alike() -> None:
    errors = ErrorDistribution.of(*drawn(3000, 0), 3000)
    assert errors is not None
    y, predicted = drawn(20_000, 1)
    low, high = errors.intervals(predicted)
    held, large = (y >= low) & (y <= high), predicted > 7
    assert abs(held[large].mean() - COVERAGE) < 0.03
    assert abs(held[predicted < 3].mean() - COVERAGE) < 0.03
    assert (high - low)[large].mean() > 2 * (high - low)[predicted < 3].mean()


def test_rows_count_by_their_weights() -> None:
    """Large errors are rarer among all rows than among those at hand, as the weights say."""
    rng = np.random.default_rng(0)
    is_wild = rng.random(4000) < 0.5
    y = np.where(is_wild, 10, 1) * rng.normal(size=4000)
    errors = ErrorDistribution.of(y, np.zeros(4000), 4000, np.where(is_wild, 0.05, 0.95))
    assert errors is not None
    new = np.where(rng.random(20_000) < 0.05, 10, 1) * rng.normal(size=20_000)
    low, high = errors.intervals(np.zeros(20_000))
    assert abs(((new >= low) & (new <= high)).mean() - COVERAGE) < 0.01
    repeated = ErrorDistribution(np.array([]), [np.array([-1.0, 0.0, 0.0, 2.0])])
    weighted = ErrorDistribution(np.array([]), [np.array([-1.0, 0.0, 2.0])], [np.array([1.0, 2.0, 1.0])])
    actual, predicted = np.array([4.0, 2.0]), np.array([3.0, 3.0])
    assert weighted.crps(actual, predicted) == pytest.approx(repeated.crps(actual, predicted))


def test_of_few_rows_there_are_none() -> None:
    assert ErrorDistribution.of(*drawn(MIN_ROWS - 1, 0), MIN_ROWS - 1) is None
    # Predictions that are all the same make one bin.
    constant = ErrorDistribution.of(np.arange(500.0), np.full(500, 250.0), 500)
    assert constant is not None
    assert len(constant.errors) == 1
    low, high = constant.intervals(np.array([250.0]))
    assert (low, high) == (24, 475)


def test_scores_by_hand() -> None:
    errors = ErrorDistribution(np.array([]), [np.array([-1.0, 0.0, 2.0])])
    # From 3 the distribution 2, 3, 5 is 2, 1 and 1 away when 4 is true; two draws are 4 / 3 apart on average.
    assert errors.crps(np.array([4.0]), np.array([3.0])) == pytest.approx((2 + 1 + 1) / 3 - (2 * (1 + 3 + 2) / 9) / 2)
    y, low, high = np.array([0.0, 5.0]), np.array([1.0, 1.0]), np.array([2.0, 2.0])
    # Of 0 the ends are 1 and 2 too high, of 5 they are 4 and 3 too low.
    expected = [(0.95 * 1 + 0.05 * 2) / 2, (0.05 * 4 + 0.95 * 3) / 2]
    np.testing.assert_allclose(pinball_losses(y, low, high), expected)


def fold(number: int, test: np.ndarray, seed: int) -> Fold:
    return Fold(number, test, NumberPredictions(*drawn(len(test), seed)), {}, 10.0 + number, 0.0, 0.0)


def test_no_row_has_a_part_in_its_own_interval() -> None:
    """Also where folds are repeated: a row's other prediction is left out as well."""
    rows = np.arange(60)
    folds = [fold(0, rows[:30], 0), fold(1, rows[30:], 1), fold(2, rows[::2], 2), fold(3, rows[1::2], 3)]
    first = with_intervals(folds)[0]
    assert isinstance(first.predictions, NumberPredictions)
    of_others = error_distribution(folds[1:], without=rows[:30])
    assert of_others is not None
    assert sum(map(len, of_others.errors)) == 30 + 15 + 15
    expected = first.predictions.with_intervals(of_others)
    np.testing.assert_array_equal(first.predictions.low, expected.low)
    scores = {"interval_coverage", "interval_width", "pinball", "crps"}
    assert set(first.scores) == scores | {"baseline_pinball", "baseline_crps"}
    assert with_intervals(folds[:1])[0].scores == {}
