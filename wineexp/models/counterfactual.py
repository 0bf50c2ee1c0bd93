"""Counterfactuals: the smallest change of a row with which the model decides on another class."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

# From a frame of shape (n, n_features) to probabilities of shape (n, n_classes).
PredictProba = Callable[[pd.DataFrame], npt.NDArray[np.float64]]
# From those to positions of the decided classes, of shape (n,).
Decide = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.intp]]

# Values of a feature that are tried, if it changes alone and if it changes with a second one: for 13 features these are
# some 12,000 rows at most.
SINGLE_GRID_SIZE, PAIR_GRID_SIZE = 40, 12
# Rows per prediction at first and at most: most changes are found in the first batch.
FIRST_BATCH_ROWS, MAX_BATCH_ROWS = 512, 4096
# Steps from the old values to the new ones, in search of a smaller change, and how often they are refined: the second
# time a step is a 256th of the change.
N_STEPS, N_REFINEMENTS = 16, 2


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
    """

    low: float
    high: float
    median: float
    spread: float
    whole: bool = False

    def grid(self, size: int) -> list[float]:
        """Values over the whole range."""
        return [self.rounded(value) for value in np.linspace(self.low, self.high, size).tolist()]

    def steps(self, old: Any, new: Any) -> list[Any]:
        """Values on the way from the old to the new value; the last is the new one."""
        start = self._number(old)
        return [self.rounded(start + (new - start) * step / N_STEPS) for step in range(1, N_STEPS)] + [new]

    def distance(self, old: Any, new: Any) -> float:
        """From the old to the new value, in spreads."""
        return abs(float(new) - self._number(old)) / self.spread

    def rounded(self, value: float) -> float:
        """Rounded for readers, and limited to the range."""
        return min(max(self._round(value), self.low), self.high)

    def differs(self, old: Any, new: Any) -> bool:
        """Whether readers see that the new value is another one than the old value."""
        return self._round(float(new)) != self._round(self._number(old))

    def _round(self, value: float) -> float:
        """To a hundredth of the spread or finer."""
        return round(value, 0 if self.whole else max(0, 2 - math.floor(math.log10(self.spread))))

    def _number(self, value: Any) -> float:
        return self.median if value is None or math.isnan(value) else float(value)


@dataclass(frozen=True)
class Categories:
    """The training values of a text feature."""

    values: tuple[str, ...]

    def grid(self, size: int) -> list[str]:
        """Each category."""
        return list(self.values)

    def steps(self, old: Any, new: Any) -> list[Any]:
        """The new value alone: nothing lies between two categories."""
        return [new]

    def distance(self, old: Any, new: Any) -> float:
        """1 for another category."""
        return float(old != new)

    def differs(self, old: Any, new: Any) -> bool:
        """Whether the new category is another one than the old one."""
        return bool(old != new)


TrainingValues = Mapping[str, NumericRange | Categories]
# New values by feature.
NewValues = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """The smallest change that the search found.

    Attributes
    ----------
    values : dict of str to float or str
        The new values, by feature.
    distance : float
        The sum over the changed features, each in units of its spread.
    label : object
        The class of the changed row.
    probability : float
        Of this class.
    """

    values: dict[str, float | str]
    distance: float
    label: object
    probability: float


def smallest_change(
    predict_proba: PredictProba,
    decide: Decide,
    classes: Sequence[object],
    row: Mapping[str, Any],
    training_values: TrainingValues,
) -> Change | None:
    """The smallest change of one or two features with which the model decides on another class.

    New values come from a grid over the training values, and the smallest changes are tried first. The first one that
    flips the decision is then made smaller as long as it flips. The model has predicted the returned change itself.

    Parameters
    ----------
    predict_proba : callable
        From a frame of shape (n, n_features) to probabilities of shape (n, n_classes).
    decide : callable
        From those to positions in `classes`, of shape (n,).
    classes : list of n_classes labels
    row : mapping
        The value of each feature; None or NaN where it is missing.
    training_values : mapping of str to NumericRange or Categories
        In the order of the model's features.

    Returns
    -------
    Change or None
        None where no change on the grid flips the decision.
    """
    code = int(decide(predict_proba(_frame([{}], row, training_values)))[0])
    search = _Search(predict_proba, decide, row, training_values, code)
    flip = search.nearest_flip(
        [*_grid(row, training_values, 1, SINGLE_GRID_SIZE), *_grid(row, training_values, 2, PAIR_GRID_SIZE)]
    )
    if flip is None:
        return None
    for _ in range(N_REFINEMENTS):
        steps = {name: training_values[name].steps(row[name], value) for name, value in flip[0].items()}
        smaller = _combinations(row, training_values, steps)
        flip = search.nearest_flip(smaller) or flip
    values, probabilities = flip
    new_code = int(decide(probabilities[None])[0])
    return Change(values, search.distance(values), classes[new_code], float(probabilities[new_code]))


@dataclass(frozen=True)
class _Search:
    """The search for a change of a row with which the decision is not `code`."""

    predict_proba: PredictProba
    decide: Decide
    row: Mapping[str, Any]
    training_values: TrainingValues
    code: int

    def distance(self, change: NewValues) -> float:
        return sum(self.training_values[name].distance(self.row[name], value) for name, value in change.items())

    def nearest_flip(self, changes: list[NewValues]) -> tuple[NewValues, npt.NDArray[np.float64]] | None:
        """The nearest change that flips the decision, and the probabilities (n_classes,) with it."""
        changes = sorted(changes, key=self.distance)
        start, size = 0, FIRST_BATCH_ROWS
        while start < len(changes):
            batch = changes[start : start + size]
            probabilities = self.predict_proba(_frame(batch, self.row, self.training_values))
            flips = np.flatnonzero(self.decide(probabilities) != self.code)
            if flips.size:
                return batch[flips[0]], probabilities[flips[0]]
            start, size = start + size, min(2 * size, MAX_BATCH_ROWS)
        return None


def _grid(row: Mapping[str, Any], training_values: TrainingValues, n_features: int, size: int) -> Iterator[NewValues]:
    """The grid's new values for each combination of so many features."""
    for names in itertools.combinations(training_values, n_features):
        yield from _combinations(row, training_values, {name: training_values[name].grid(size) for name in names})


def _combinations(
    row: Mapping[str, Any], training_values: TrainingValues, values: Mapping[str, Sequence[Any]]
) -> list[NewValues]:
    """Each combination of the values of some features, without those that a row has already."""
    new = [
        [value for value in of_feature if training_values[name].differs(row[name], value)]
        for name, of_feature in values.items()
    ]
    return [dict(zip(values, combination, strict=True)) for combination in itertools.product(*new)]


def _frame(changes: Sequence[NewValues], row: Mapping[str, Any], training_values: TrainingValues) -> pd.DataFrame:
    """The row with each of the changes: shape (n_changes, n_features)."""
    columns: dict[str, list[Any]] = {name: [row[name]] * len(changes) for name in training_values}
    for number, change in enumerate(changes):
        for name, value in change.items():
            columns[name][number] = value
    return pd.DataFrame(
        {
            name: pd.Series(values, dtype="float64" if isinstance(training_values[name], NumericRange) else "str")
            for name, values in columns.items()
        }
    )
