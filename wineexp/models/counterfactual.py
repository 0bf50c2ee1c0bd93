"""What would make a model answer otherwise: the smallest change of a row that gives another class."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Ask = Callable[[pd.DataFrame], npt.NDArray[np.float64]]
Decide = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.intp]]

# Values of a feature that are tried alone, and beside a second one: 13 features make some 12,000 rows at most.
ALONE, PAIRED = 40, 12
# Rows that are asked at once, first and at most: most changes are found among the first.
FIRST, MOST = 512, 4096
# Parts into which a change that flips the class is cut, in search of a smaller one.
PARTS = 16


@dataclass(frozen=True)
class Numbers:
    """What training saw of a measured feature.

    Attributes
    ----------
    low, high : float
        The range.
    median : float
        What a missing value is taken for.
    spread : float
        The size of a usual difference: the distance between the quartiles, or the range where that is nothing.
    whole : bool
        Whether only whole numbers occur.
    """

    low: float
    high: float
    median: float
    spread: float
    whole: bool = False

    def grid(self, points: int) -> list[float]:
        """Values all over the range."""
        return [self.rounded(value) for value in np.linspace(self.low, self.high, points).tolist()]

    def between(self, now: Any, then: Any) -> list[Any]:
        """Values on the way to a new one, and that one."""
        start = self._start(now)
        return [self.rounded(start + (then - start) * part / PARTS) for part in range(1, PARTS)] + [then]

    def distance(self, now: Any, then: Any) -> float:
        """From the present value to a new one, in spreads."""
        return abs(float(then) - self._start(now)) / self.spread

    def rounded(self, value: float) -> float:
        """To a hundredth of the spread or finer, which is what anyone can read, and inside the range."""
        decimals = 0 if self.whole else max(0, 2 - math.floor(math.log10(self.spread)))
        return min(max(round(value, decimals), self.low), self.high)

    def _start(self, now: Any) -> float:
        return self.median if now is None or math.isnan(now) else float(now)


@dataclass(frozen=True)
class Words:
    """What training saw of a feature of a few words."""

    values: tuple[str, ...]

    def grid(self, points: int) -> list[str]:
        """Each word."""
        return list(self.values)

    def between(self, now: Any, then: Any) -> list[Any]:
        """The new word: there is nothing between two."""
        return [then]

    def distance(self, now: Any, then: Any) -> float:
        """1 for another word."""
        return float(now != then)


Seen = Mapping[str, Numbers | Words]


@dataclass(frozen=True)
class Change:
    """The smallest change that was found to flip the class.

    Attributes
    ----------
    values : dict of str to float or str
        The new values, by feature.
    distance : float
        The sum of the differences, each in units of its feature's spread.
    label : object
        The class that the changed row gets.
    probability : float
        Of that class.
    """

    values: dict[str, float | str]
    distance: float
    label: object
    probability: float


def smallest_change(
    ask: Ask, decide: Decide, classes: Sequence[object], row: Mapping[str, Any], seen: Seen
) -> Change | None:
    """The smallest change of one feature or two that makes the model answer with another class.

    New values come from a grid over what training saw, the smallest change first; the first that flips the class is
    then made smaller for as long as it flips. Every change was asked before it is told.

    Parameters
    ----------
    ask : callable
        From a frame of shape (n, n_features) to probabilities of shape (n, n_classes).
    decide : callable
        From those to positions in `classes`, of shape (n,).
    classes : list of n_classes labels
    row : mapping
        Value of each feature; None or NaN where it is missing.
    seen : mapping of str to Numbers or Words
        In the order of the model's features.

    Returns
    -------
    Change or None
        None where nothing on the grid flips the class.
    """
    search = _Search(ask, decide, row, seen, int(decide(ask(_rows([{}], row, seen)))[0]))
    found = search.first([*_changes(seen, 1, ALONE), *_changes(seen, 2, PAIRED)])
    if found is None:
        return None
    # Twice: a part of a part is a 256th of the change.
    for _ in range(2):
        steps = [seen[name].between(row[name], value) for name, value in found[0].items()]
        smaller = [dict(zip(found[0], values, strict=True)) for values in itertools.product(*steps)]
        found = search.first(smaller) or found
    values, probabilities = found
    to = int(decide(probabilities[None])[0])
    return Change(values, search.distance(values), classes[to], float(probabilities[to]))


@dataclass(frozen=True)
class _Search:
    """For a change of one row that gives another class than `code`."""

    ask: Ask
    decide: Decide
    row: Mapping[str, Any]
    seen: Seen
    code: int

    def distance(self, change: Mapping[str, Any]) -> float:
        return sum(self.seen[name].distance(self.row[name], value) for name, value in change.items())

    def first(self, changes: list[dict[str, Any]]) -> tuple[dict[str, Any], npt.NDArray[np.float64]] | None:
        """The nearest change that flips, and the probabilities that it gives."""
        changes = sorted(changes, key=self.distance)
        start, size = 0, FIRST
        while start < len(changes):
            chunk = changes[start : start + size]
            probabilities = self.ask(_rows(chunk, self.row, self.seen))
            flips = np.flatnonzero(self.decide(probabilities) != self.code)
            if flips.size:
                return chunk[flips[0]], probabilities[flips[0]]
            start, size = start + size, min(2 * size, MOST)
        return None


def _changes(seen: Seen, features: int, points: int) -> Iterator[dict[str, Any]]:
    """New values for every choice of that many features."""
    for names in itertools.combinations(seen, features):
        for values in itertools.product(*(seen[name].grid(points) for name in names)):
            yield dict(zip(names, values, strict=True))


def _rows(changes: Sequence[Mapping[str, Any]], row: Mapping[str, Any], seen: Seen) -> pd.DataFrame:
    """The row under each of the changes."""
    columns: dict[str, list[Any]] = {name: [row[name]] * len(changes) for name in seen}
    for place, change in enumerate(changes):
        for name, value in change.items():
            columns[name][place] = value
    return pd.DataFrame(
        {
            name: pd.Series(values, dtype="float64" if isinstance(seen[name], Numbers) else "str")
            for name, values in columns.items()
        }
    )
