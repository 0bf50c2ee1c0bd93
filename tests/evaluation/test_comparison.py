"""The paired test: what it says of scores on the same folds."""

import numpy as np
import pytest
from scipy import stats

from wineexp.evaluation.comparison import corrected_t_test

RATIO = 1 / 4


def test_the_interval_is_that_of_nadeau_and_bengio() -> None:
    gains = np.array([0.01, 0.03, -0.01, 0.02, 0.04])
    found = corrected_t_test(0.8 + gains, np.full(5, 0.8), direction="maximize", test_to_train=RATIO, alpha=0.05)
    error = np.sqrt((1 / 5 + RATIO) * gains.var(ddof=1))
    low, high = stats.t.interval(0.95, 4, loc=gains.mean(), scale=error)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.p_value == pytest.approx(stats.t.sf(gains.mean() / error, 4))
    assert found.verdict == "no difference shown"


def test_a_metric_to_minimize_is_better_when_it_is_less() -> None:
    scores = np.array([0.50, 0.51, 0.49, 0.50, 0.52])
    less = scores - np.array([0.10, 0.11, 0.10, 0.09, 0.10])
    assert corrected_t_test(less, scores, direction="minimize", test_to_train=RATIO, alpha=0.05).verdict == "better"
    assert corrected_t_test(less, scores, direction="maximize", test_to_train=RATIO, alpha=0.05).verdict == "worse"


def test_the_same_scores_show_no_difference_and_folds_without_a_score_are_left_out() -> None:
    scores = np.array([0.5, np.nan, 0.7, 0.6])
    found = corrected_t_test(scores, scores, direction="maximize", test_to_train=RATIO, alpha=0.05)
    assert (found.difference, found.p_value, found.verdict) == (0, 1, "no difference shown")


@pytest.mark.parametrize(("first", "second"), [([1.0, 2.0], [1.0]), ([1.0, np.nan], [1.0, 1.0])])
def test_scores_of_other_folds_are_not_compared(first: list[float], second: list[float]) -> None:
    with pytest.raises(ValueError, match="wanted"):
        corrected_t_test(np.array(first), np.array(second), direction="maximize", test_to_train=RATIO, alpha=0.05)
