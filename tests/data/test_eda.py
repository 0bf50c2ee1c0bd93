"""Exploratory statistics, held against other ways to compute them."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kruskal

from wineexp.data import eda
from wineexp.data.dataset import Dataset

TABLE = pd.DataFrame(
    {"a": [1.0, 2.0, 3.0, 4.0, 100.0, 4.0], "b": [5.0, 4.0, 3.0, 2.0, 1.0, 2.0], "c": ["x", "x", "x", "y", "y", "y"]}
)


def test_outliers_lie_beyond_tukeys_fences() -> None:
    table = eda.outliers(TABLE)
    # The quartiles of a are 2.25 and 4.
    assert table.loc["a", ["low", "high", "below", "above"]].tolist() == [-0.375, 6.625, 0, 1]
    assert table.loc["b", "share"] == 0
    assert table.loc["a", "skewness"] == pytest.approx(TABLE["a"].skew())
    assert eda.rows_with_outliers(TABLE, table) == 1


def test_equal_rows_are_counted_and_so_is_the_leak_that_they_cause() -> None:
    occurrences = eda.row_occurrences(TABLE)
    assert occurrences.tolist() == [1, 1, 1, 2, 1, 2]
    # Either of the two equal rows has its copy in training unless the copy is a test row as well.
    assert eda.expected_leak(occurrences, 0.2) == pytest.approx(2 / 6 * 0.8)


def test_separation_is_the_epsilon_squared_of_kruskal_and_wallis() -> None:
    y = pd.Series([0, 0, 0, 1, 1, 1])
    statistic, _ = kruskal(TABLE["a"][:3], TABLE["a"][3:])
    separation = eda.class_separation(TABLE, y)
    assert separation["a"] == pytest.approx(statistic / (len(y) - 1))
    assert separation["c=y"] == pytest.approx(1)
    assert separation.index[0] == "c=y"


def test_the_strongest_correlation_may_be_negative() -> None:
    found = eda.most_correlated(TABLE)
    assert found is not None
    first, second, correlation = found
    assert (first, second) == ("a", "b")
    assert correlation == pytest.approx(-1)


@pytest.mark.parametrize("features", [["a"], ["a", "constant"], ["constant", "also"]])
def test_nothing_is_correlated_where_fewer_than_two_features_vary(features: list[str]) -> None:
    assert eda.most_correlated(TABLE.assign(constant=1.0, also=2.0)[features]) is None


@pytest.mark.parametrize(
    ("y", "edges", "sizes"),
    [
        ([*range(8)], [1, 3, 5], [2, 2, 2, 2]),
        ([*range(10_000_000, 10_000_008)], [10_000_001, 10_000_003, 10_000_005], [2, 2, 2, 2]),
        ([0] * 94 + [1, 2, 3, 4, 5, 6], [0, 2, 4], [94, 2, 2, 2]),
        ([0] * 95 + [7] * 5, [0], [95, 5]),
        ([1, 2] + [9] * 98, [2], [2, 98]),
        ([3] * 5, [], [5]),
    ],
)
def test_numbers_are_in_bands_of_equal_mass_beside_a_frequent_minimum(
    y: list[float], edges: list[float], sizes: list[int]
) -> None:
    codes, found = eda.bands(pd.Series(y, dtype=float))
    assert found == edges
    assert np.bincount(codes).tolist() == sizes


def test_missing_values_are_counted_by_column() -> None:
    gaps = TABLE.assign(a=[None, None, 3.0, 4.0, 5.0, 6.0])
    assert eda.missing_values(gaps).to_dict() == {"a": 2}
    assert eda.missing_values(TABLE).empty


def dataset(frame: pd.DataFrame) -> Dataset:
    return Dataset(frame, tuple(frame), dict.fromkeys(frame, ""), ())


def test_rows_of_few_different_values_agree_by_chance_and_copies_do_not() -> None:
    rng = np.random.default_rng(0)
    coarse = pd.DataFrame({"grade": rng.integers(0, 4, 2000), "sex": rng.choice(["f", "m"], 2000)})
    assert coarse.duplicated().sum() == eda.chance_repeats(coarse) == 1992
    assert dataset(coarse).is_repeated_by_chance
    fine = pd.DataFrame({"length": rng.normal(size=200), "sex": rng.choice(["f", "m"], 200)})
    copied = pd.concat([fine, fine.head(20)])
    assert dataset(copied).duplicates == 20
    assert not dataset(copied).is_repeated_by_chance
    assert not dataset(fine).is_repeated_by_chance
