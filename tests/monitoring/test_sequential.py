import numpy as np
import pytest

from wineexp.monitoring.fixed_samples import fixed_sample_limit, fixed_share_limits
from wineexp.monitoring.sequential import (
    MeanTest,
    difference_range,
    difference_values,
    e_benjamini_hochberg,
    mean_interval,
    start_weights,
)

ALARM = np.log(20)


def test_a_test_looked_at_after_every_row_seldom_refutes_what_is_true() -> None:
    random = np.random.default_rng(0)
    refuted = 0
    for _ in range(200):
        test = MeanTest(0.3)
        test.update(random.random(300) < 0.3)
        refuted += test.max_log_e_value >= ALARM
    assert refuted <= 10


@pytest.mark.parametrize("stable", [0, 2000])
def test_a_rise_is_found_whenever_it_comes(stable: int) -> None:
    random = np.random.default_rng(1)
    delays = []
    for _ in range(9):
        test = MeanTest(0.2)
        assert np.all(test.update(random.random(stable) < 0.2) < ALARM)
        found = np.flatnonzero(test.update(random.random(300) < 0.4) >= ALARM)
        delays.append(found[0] if len(found) else 300)
    assert np.median(delays) < (90 if stable else 60) * 1.5


def test_portions_make_no_difference() -> None:
    values = np.random.default_rng(2).random(100)
    whole, parts = MeanTest(0.4), MeanTest(0.4)
    log_e = whole.update(values)
    assert np.allclose(
        np.concatenate([parts.update(values[:1]), parts.update(values[1:60]), parts.update(values[60:])]), log_e
    )
    assert len(parts.update([])) == 0
    assert parts.n_rows == 100
    assert parts.log_e_value == pytest.approx(log_e[-1])
    assert parts.max_log_e_value == pytest.approx(log_e.max())


def test_a_capital_is_expected_to_stay_where_the_mean_is_the_bound() -> None:
    # Of all 2^8 sequences of heads and tails with their probabilities.
    sequences = np.array(np.meshgrid(*[[0, 1]] * 8)).reshape(8, -1).T
    probabilities = np.prod(np.where(sequences, 0.3, 0.7), axis=1)
    capitals = [np.exp(MeanTest(0.3).update(sequence)) for sequence in sequences]
    assert probabilities @ capitals == pytest.approx(np.ones(8))


def test_weights_of_a_change_sum_to_1() -> None:
    assert start_weights(np.arange(1, 1001)).sum() == pytest.approx(1 - 1 / (1 + np.log1p(1000)))


def test_values_and_bounds_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2 are not, such as -0\.5"):
        MeanTest(0.5).update([0, -0.5, np.nan])
    with pytest.raises(ValueError, match="bound=0"):
        MeanTest(0)


def test_an_interval_holds_the_mean_at_all_rows_at_once() -> None:
    random = np.random.default_rng(3)
    missed = 0
    for _ in range(20):
        values = random.beta(1, 3, 120)
        intervals = [mean_interval(values[:n], 0.9) for n in (5, 30, 120)]
        missed += any(not low <= 0.25 <= high for low, high in intervals)
    assert missed <= 2
    low, high = intervals[-1]
    assert high - low < 0.3
    assert mean_interval([], low=-1) == (-1, 1)


def test_the_difference_of_two_streams_is_found() -> None:
    random = np.random.default_rng(4)
    second = random.random(2000) < 0.2
    values = random.random(2000) < np.where(second, 0.8, 0.6)
    low, high = mean_interval(difference_values(values, second, 0.2), 0.95, *difference_range(0.2))
    assert 0 < low < 0.2 < high < 0.5
    with pytest.raises(ValueError, match="not, such as"):
        difference_values([2.0], [True], 0.5)


def test_limits_of_a_sample_hold() -> None:
    random = np.random.default_rng(7)
    samples = random.beta(1, 9, (1000, 200))
    limits = np.array([fixed_sample_limit(sample, 0.1) for sample in samples])
    assert np.mean(limits < 0.1) < 0.1
    assert limits.mean() < 0.17
    assert fixed_sample_limit([0.2], 0.1) == 1
    low, high = fixed_share_limits([0, 5, 10], 10, 0.05)
    assert low == pytest.approx([0, 0.18709, 0.69150], abs=1e-5)
    assert high == pytest.approx([0.30850, 0.81291, 1], abs=1e-5)


def test_e_benjamini_hochberg() -> None:
    # Of 4 hypotheses at 0.1 the k-th greatest needs 40 / k: the second has it, and so the first passes with it.
    assert e_benjamini_hochberg(np.log([25, 1, 22, 10]), 0.1).tolist() == [True, False, True, False]
    assert e_benjamini_hochberg(np.log([15, 1]), 0.1).tolist() == [False, False]
