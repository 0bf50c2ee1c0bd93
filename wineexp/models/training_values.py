"""The training values of each feature, among which changes of a row are sought."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class NumericRange:
    """The training values of a numeric feature.

    Attributes
    ----------
    low, high : float
    median : float
        Stands for a missing value.
    spread : float
        The unit of distances: the interquartile range, or the whole range where that is 0.
    whole : bool
        Whether all values are whole numbers.
    quantiles : tuple of float
        Any number of them, evenly spaced in rank.
    """

    low: float
    high: float
    median: float
    spread: float
    whole: bool = False
    quantiles: tuple[float, ...] = ()

    def grid(self, size: int) -> list[float]:
        """Ascending values over the whole range, half of them evenly spaced and half at quantiles."""
        values = np.linspace(self.low, self.high, size - size // 2 if self.quantiles else size).tolist()
        if self.quantiles:
            ranks = np.linspace(0, len(self.quantiles) - 1, size // 2)
            values += np.interp(ranks, np.arange(len(self.quantiles)), self.quantiles).tolist()
        return sorted({min(max(self.possible(value), self.low), self.high) for value in values})

    def possible(self, value: float) -> float:
        """The value, or the whole number next to it."""
        return float(round(value)) if self.whole else value

    def distance(self, old: Any, new: Any) -> float:
        """From the old to the new value, in spreads."""
        return abs(float(new) - self.number(old)) / self.spread

    def number(self, value: Any) -> float:
        """The value, or the median where it is missing."""
        return self.median if value is None or math.isnan(value) else float(value)


@dataclass(frozen=True)
class Categories:
    """The training values of a text feature.

    Attributes
    ----------
    values : tuple of str
    candidates : tuple of str
        Those that a change may lead to.
    """

    values: tuple[str, ...]
    candidates: tuple[str, ...]

    def distance(self, old: Any, new: Any) -> float:
        """1 for another category."""
        return float(old != new)


TrainingValues = Mapping[str, NumericRange | Categories]


def extreme_rows(values: TrainingValues) -> list[list[float | str]]:
    """Rows in which each number has its lowest and its highest value, and each text each of its values."""
    ends = [
        list(of_feature.values) if isinstance(of_feature, Categories) else [of_feature.low, of_feature.high]
        for of_feature in values.values()
    ]
    return [[of_feature[row % len(of_feature)] for of_feature in ends] for row in range(max(map(len, ends)))]
