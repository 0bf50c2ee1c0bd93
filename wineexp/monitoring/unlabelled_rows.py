"""What rows without a label say: the loss to be expected of them, and whether they are unlike those of training."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from wineexp.monitoring.reference import ColumnSketch, as_numbers

Floats = npt.NDArray[np.float64]

# A row is unlike them where its nearest one is further away than this share of training rows have theirs.
NEAR_SHARE = 0.95
# Rows of the sample to which distances are taken; more would find no more.
MAX_NEIGHBOURS = 256
# Numbers count as this far away at most, in units of a normal distribution's standard deviation; so do missing values
# where training had none, and levels that it had not.
MAX_DISTANCE = 6.0
# Rows whose distances are in memory at once.
ROWS_PER_BLOCK = 8192


@dataclass(frozen=True)
class Inputs:
    """Features of rows, read once for all tests.

    Attributes
    ----------
    columns : list of ColumnSketch
    numbers : dict of str to ndarray of shape (n_rows,)
        Of the columns of numbers.
    codes : dict of str to ndarray of int of shape (n_rows,)
        The bin of each value of every column.
    """

    columns: list[ColumnSketch]
    numbers: dict[str, Floats]
    codes: dict[str, npt.NDArray[np.intp]]

    @classmethod
    def of(cls, rows: Any, columns: list[ColumnSketch], prefix: str = "") -> Self:
        """From columns of rows, whose names begin with this."""
        numbers = {each.name: as_numbers(rows[prefix + each.name]) for each in columns if each.is_number}
        codes = {
            each.name: each.codes_of_numbers(numbers[each.name])
            if each.is_number
            else each.codes(rows[prefix + each.name])
            for each in columns
        }
        return cls(columns, numbers, codes)

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return len(next(iter(self.codes.values())))


class ExpectedLoss:
    """The loss that is to be expected of a row without its label, learned from the reference's sample.

    Parameters
    ----------
    sample : Inputs
        The reference's, of the columns that are logged.
    losses : ndarray of shape (n_rows,)
        Its out-of-fold losses.

    Attributes
    ----------
    values : ndarray
        What is expected of the half of the sample that was not learned from.
    """

    def __init__(self, sample: Inputs, losses: Floats) -> None:
        half = len(losses) // 2
        X = self._matrix(sample)
        model = HistGradientBoostingRegressor(
            max_iter=40,
            max_leaf_nodes=8,
            min_samples_leaf=10,
            early_stopping=False,
            categorical_features=[not column.is_number for column in sample.columns],
            random_state=0,
        )
        # For so few rows threads would wait for each other longer than they work.
        with threadpool_limits(1):
            self._model = model.fit(X[:half], losses[:half])
        self.values = self._predict(X[half:])

    def of_rows(self, inputs: Inputs) -> Floats:
        """Of each row, in [0, 1]: shape (n_rows,)."""
        return self._predict(self._matrix(inputs))

    def _predict(self, X: Floats) -> Floats:
        with threadpool_limits(1):
            return np.asarray(np.clip(self._model.predict(X), 0, 1), dtype=np.float64)

    @staticmethod
    def _matrix(inputs: Inputs) -> Floats:
        X = np.empty((inputs.n_rows, len(inputs.columns)), order="F")
        for place, column in enumerate(inputs.columns):
            if column.is_number:
                X[:, place] = inputs.numbers[column.name]
            else:
                codes = inputs.codes[column.name]
                X[:, place] = np.where(codes > len(column.levels), np.nan, codes)
        return X


class Familiarity:
    """Tells rows that are unlike the training rows: those whose nearest one is far away.

    Distances are Euclidean, of numbers less their median in units of their quartile range, and of indicators of texts.
    The limit is a quantile of the distances among one half of the reference's sample; the other half says how many rows
    are beyond it where nothing has changed.

    Parameters
    ----------
    sample : Inputs
        The reference's, of the columns that are logged.

    Attributes
    ----------
    values : ndarray
        1 for the rows of that other half that are unlike, 0 for its other rows.
    """

    def __init__(self, sample: Inputs) -> None:
        half = sample.n_rows // 2
        self._scales = [self._scale(sample, column, half) for column in sample.columns]
        points = self._points(sample)
        self._neighbours = points[: min(half // 2, MAX_NEIGHBOURS)]
        # Those of the half that are no neighbours themselves.
        self._limit = float(np.quantile(self._distances(points[len(self._neighbours) : half]), NEAR_SHARE))
        self.values = self._unlike(points[half:])

    def of_rows(self, inputs: Inputs) -> Floats:
        """Of each row (n_rows,): 1 where it is unlike the training rows, else 0."""
        return self._unlike(self._points(inputs))

    def _unlike(self, points: npt.NDArray[np.float32]) -> Floats:
        return (self._distances(points) > self._limit).astype(np.float64)

    def _distances(self, points: npt.NDArray[np.float32]) -> Floats:
        """The squared distance of each point from its nearest neighbour: (n_points,)."""
        squares = (self._neighbours**2).sum(axis=1) / 2
        nearest = [
            (points[start : start + ROWS_PER_BLOCK] @ self._neighbours.T - squares).max(axis=1)
            for start in range(0, len(points), ROWS_PER_BLOCK)
        ]
        return np.asarray((points**2).sum(axis=1) - 2 * np.concatenate(nearest), dtype=np.float64)

    @staticmethod
    def _scale(sample: Inputs, column: ColumnSketch, half: int) -> tuple[float, float, float]:
        """A column's median, its standard deviation by its quartiles, and what stands for a missing value."""
        known = sample.numbers.get(column.name, np.empty(0))[:half]
        known = known[~np.isnan(known)]
        missing = 0.0 if column.counts[column.missing_bin] else MAX_DISTANCE
        if not len(known):
            return 0.0, 1.0, missing
        low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
        # Of a column of mostly one value the quartiles agree.
        deviation = (high - low) / 1.349 or float(known.std()) or 1.0
        return float(middle), float(deviation), missing

    def _points(self, inputs: Inputs) -> npt.NDArray[np.float32]:
        points: list[npt.NDArray[Any]] = []
        for column, (middle, deviation, missing) in zip(inputs.columns, self._scales, strict=True):
            if column.is_number:
                scaled = (inputs.numbers[column.name] - middle) / deviation
                np.clip(scaled, -MAX_DISTANCE, MAX_DISTANCE, out=scaled)
                points.append(np.where(np.isnan(scaled), missing, scaled))
            else:
                codes = inputs.codes[column.name]
                # Two different levels are 1 apart.
                points += [(codes == place) / np.sqrt(2) for place in range(len(column.levels))]
                is_new = codes == column.n_bins - 2
                points.append(np.where(is_new, MAX_DISTANCE, np.where(codes == column.missing_bin, missing, 0)))
        return np.column_stack(points).astype(np.float32)
