"""The test of two versions: how often it is wrong, how soon it is right, and that it may be looked at at any time."""

import numpy as np
import pytest

from wineexp.monitoring.live_test import LiveTest, live_test

LEVEL = 0.95


def pairs(ahead: int, behind: int, equal: int) -> list[int]:
    return [1] * ahead + [-1] * behind + [0] * equal


def outcome(ahead: int, behind: int, equal: int = 400, **options: tuple[float, ...]) -> LiveTest:
    return live_test(pairs(ahead, behind, equal), limit=1.0, level=LEVEL, **options)


def test_a_verdict_is_given_where_the_interval_excludes_zero() -> None:
    few, many, against = outcome(8, 4), outcome(70, 30), outcome(20, 80)
    assert (few.verdict, many.verdict, against.verdict) == ("go on", "better", "worse")
    assert few.low < 0 < few.high
    assert 0 < many.low < many.gain < many.high
    assert against.high < 0
    # "Worse" has the smaller part of the probability of an error, and needs more.
    assert outcome(65, 35).verdict == "better"
    assert outcome(35, 65).verdict == "go on"


def test_pairs_on_which_both_agree_change_no_verdict_and_narrow_the_interval() -> None:
    without, with_many = outcome(60, 40, equal=0), outcome(60, 40, equal=5000)
    assert without.verdict == with_many.verdict
    assert with_many.high - with_many.low < (without.high - without.low) / 10


def test_the_order_of_labels_does_not_matter() -> None:
    gains = np.random.default_rng(0).normal(0.1, 0.3, 300).clip(-1, 1)
    first, second = (live_test(order, limit=1.0, level=LEVEL) for order in (gains, gains[::-1]))
    assert (first.low, first.high) == pytest.approx((second.low, second.high))


def test_gains_of_another_unit_give_the_interval_in_that_unit() -> None:
    gains = np.random.default_rng(0).normal(0.1, 0.3, 300).clip(-1, 1)
    one, hundred = live_test(gains, limit=1.0, level=LEVEL), live_test(100 * gains, limit=100.0, level=LEVEL)
    assert hundred.low == pytest.approx(100 * one.low, abs=0.01)
    with pytest.raises(ValueError, match=r"must be within 1.0 of 0, but there is -1.2"):
        live_test([0.3, -1.2], limit=1.0, level=LEVEL)


def test_few_streams_without_a_difference_ever_get_a_verdict() -> None:
    generator = np.random.default_rng(0)
    gains = generator.choice([-1, 0, 1], (60, 1500), p=[0.1, 0.8, 0.1])
    looks = (50, 100, 200, 400, 800, 1500)
    wrong = [
        any(live_test(stream[:look], limit=1.0, level=LEVEL).verdict != "go on" for look in looks) for stream in gains
    ]
    assert sum(wrong) <= 3


def test_as_many_labels_as_are_said_to_be_needed_lead_to_the_verdict() -> None:
    test = outcome(20, 20, equal=160, sizes=(0.05, 0.1))
    assert test.needed[0.1] < test.needed[0.05] / 3
    more = test.needed[0.05]
    # Of so many labels a fifth differ, as before, now with a gain of 0.05.
    assert outcome(20 + round(0.125 * more), 20 + round(0.075 * more), 160 + round(0.8 * more)).low > -0.002
    assert outcome(20 + round(0.11 * more), 20 + round(0.09 * more), 160 + round(0.8 * more)).verdict == "go on"
    assert outcome(70, 30, sizes=(0.1,)).needed == {0.1: 0}


def test_without_labels_there_is_nothing_to_say() -> None:
    test = live_test([], limit=1.0, level=LEVEL, sizes=(0.05,))
    assert (test.verdict, test.n_labels, test.low, test.high, test.needed) == ("go on", 0, -1.0, 1.0, {})
