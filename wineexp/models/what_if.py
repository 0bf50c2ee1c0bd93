"""How a predicted number changes where a single feature of the row does."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wineexp.models.training_values import Categories, TrainingValues

# Values of a number that are tried, over its training range.
GRID_SIZE = 40
# Rows that are predicted at once.
ROWS_PER_PREDICTION = 4096


class Alternative(NamedTuple):
    """Another value of a feature, and what is predicted with it."""

    value: float | str
    prediction: float


class SingleChange(NamedTuple):
    """How far a feature alone moves a prediction, within its training values: down to `lowest`, up to `highest`."""

    feature: str
    lowest: Alternative
    highest: Alternative

    @property
    def span(self) -> float:
        """The difference of the two predictions."""
        return self.highest.prediction - self.lowest.prediction


def single_changes(
    predict: Callable[[Mapping[str, npt.NDArray[Any]]], npt.NDArray[np.float64]],
    row: Mapping[str, Any],
    training_values: TrainingValues,
) -> list[SingleChange]:
    """For each feature that matters, the lowest and the highest prediction that changing it alone can reach.

    Parameters
    ----------
    predict : callable
        From rows, given as an array of n values for each feature, to numbers of shape (n,).
    row : mapping of str to float or str
    training_values : mapping of str to NumericRange or Categories
        Of a number a grid of `GRID_SIZE` values over its training range is tried, of a text each value.

    Returns
    -------
    list of SingleChange
        That with the widest span first; a feature that changes nothing is left out.
    """
    tried = {
        name: list(values.values) if isinstance(values, Categories) else values.grid(GRID_SIZE)
        for name, values in training_values.items()
    }
    owners = np.repeat(np.arange(len(tried)), [len(values) for values in tried.values()])
    columns = {}
    for position, (name, values) in enumerate(tried.items()):
        kind = object if isinstance(training_values[name], Categories) else np.float64
        column = np.full(len(owners), row[name], dtype=kind)
        column[owners == position] = values
        columns[name] = column
    predicted = np.concatenate(
        [
            predict({name: column[start : start + ROWS_PER_PREDICTION] for name, column in columns.items()})
            for start in range(0, len(owners), ROWS_PER_PREDICTION)
        ]
    )
    changes = []
    for position, (name, values) in enumerate(tried.items()):
        of_feature = predicted[owners == position]
        lowest, highest = int(of_feature.argmin()), int(of_feature.argmax())
        changes.append(
            SingleChange(
                name,
                Alternative(values[lowest], float(of_feature[lowest])),
                Alternative(values[highest], float(of_feature[highest])),
            )
        )
    return sorted((change for change in changes if change.span > 0), key=lambda change: -change.span)
