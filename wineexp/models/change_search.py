"""The search for a change of a row with which the model decides on another class: what all ways to search share."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wineexp.models.training_values import Categories, NumericRange, TrainingValues

Floats = npt.NDArray[np.float64]
# From rows, given as an array of n values for each feature, to probabilities of shape (n, n_classes).
PredictProba = Callable[[Mapping[str, npt.NDArray[Any]]], Floats]
# From those to positions of the decided classes, of shape (n,).
Decide = Callable[[Floats], npt.NDArray[np.intp]]
# New values by feature.
NewValues = dict[str, Any]

# Features that change at most.
MAX_CHANGED = 2
# A change of two features is preferred to one of a single feature if it is smaller by this share.
MIN_GAIN_OF_PAIR = 0.01
# By how much larger a change may be so that its new value has fewer digits.
ROUNDING = 0.01


class Flip(NamedTuple):
    """A change that flips the decision.

    Attributes
    ----------
    distance : float
    values : dict of str to float or str
    limits : dict of str to float
        By numeric feature, how much further its value may go.
    certain : bool
        Whether it flips the decision for certain; else it is near a tie.
    """

    distance: float
    values: NewValues
    limits: dict[str, float]
    certain: bool = True


class ChangeSearch:
    """The search for a change of a row with which the decision is another one.

    Attributes
    ----------
    code : int
        Position of the class that the row gets.
    """

    def __init__(
        self, predict_proba: PredictProba, decide: Decide, row: Mapping[str, Any], training_values: TrainingValues
    ) -> None:
        self.predict_proba = predict_proba
        self.decide = decide
        self.row = row
        self.training_values = training_values
        self.numeric = {name: range_ for name, range_ in training_values.items() if isinstance(range_, NumericRange)}
        self.code = int(decide(predict_proba(self.rows([{}])))[0])

    def rows(self, changes: Sequence[NewValues]) -> dict[str, npt.NDArray[Any]]:
        """The row with each of the changes."""
        columns = {
            name: np.full(
                len(changes),
                math.nan if name in self.numeric and value is None else value,
                dtype=np.float64 if name in self.numeric else object,
            )
            for name, value in ((name, self.row[name]) for name in self.training_values)
        }
        for number, change in enumerate(changes):
            for name, value in change.items():
                columns[name][number] = value
        return columns

    def flips(self, changes: Sequence[NewValues]) -> npt.NDArray[np.bool_]:
        """Whether each change flips the decision."""
        return np.asarray(self.decide(self.predict_proba(self.rows(changes))) != self.code)

    def distance(self, change: NewValues) -> float:
        """From the row to the changed one: the sum over the changed features, each in units of its spread."""
        return sum(self.training_values[name].distance(self.row[name], value) for name, value in change.items())

    def text_changes(self) -> Iterator[NewValues]:
        """No change, and every change of so many texts alone."""
        others = {
            name: [value for value in training.candidates if value != self.row[name]]
            for name, training in self.training_values.items()
            if isinstance(training, Categories)
        }
        for n_texts in range(MAX_CHANGED + 1):
            for names in itertools.combinations(others, n_texts):
                for values in itertools.product(*(others[name] for name in names)):
                    yield dict(zip(names, values, strict=True))

    def rounded(self, flip: Flip) -> NewValues:
        """The new values with as few digits as their limits and `ROUNDING` allow."""
        values = dict(flip.values)
        for name, limit in flip.limits.items():
            new, old = values[name], self.numeric[name].number(self.row[name])
            values[name] = _with_few_digits(
                new, new + min(abs(limit - new), ROUNDING * abs(new - old)) * _sign(new - old)
            )
        return values


def _sign(value: float) -> int:
    return 1 if value > 0 else -1


def _with_few_digits(start: float, end: float) -> float:
    """The number of fewest digits from start to end, which may be the smaller one."""
    low, high = sorted((start, end))
    for digits in range(-math.floor(math.log10(abs(high) or 1)) - 1, 17):
        value = round(start, digits)
        for candidate in (value, round(value + _sign(end - start) * 10.0**-digits, digits)):
            if low <= candidate <= high:
                return candidate
    return start
