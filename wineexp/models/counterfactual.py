"""Counterfactuals: the smallest change of a row with which the model decides on another class."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wineexp.models.leaf_boxes import LeafBoxes

Floats = npt.NDArray[np.float64]
# From rows, given as an array of n values for each feature, to probabilities of shape (n, n_classes).
PredictProba = Callable[[Mapping[str, npt.NDArray[Any]]], Floats]
# From those to positions of the decided classes, of shape (n,).
Decide = Callable[[Floats], npt.NDArray[np.intp]]

# Features that change at most.
MAX_CHANGED = 2
# A change of two features is preferred to one of a single feature if it is smaller by this share.
MIN_GAIN_OF_PAIR = 0.01
# By how much larger a change may be so that its new value has fewer digits.
ROUNDING = 0.01

# Sums of trees in another order differ by less: so near to a tie, only the model itself decides.
TIE = 1e-6

# The most cells of an axis that are combined with those of another; of more, as many are tried, evenly chosen.
MAX_CELLS = 1000
# Nearest changes of each pair of features that are kept, and that are verified at once.
N_KEPT = 16

# For models other than trees: values of a feature that are tried, if it changes alone and if it changes with another.
SINGLE_GRID_SIZE, PAIR_GRID_SIZE = 40, 12
# Rows per prediction at first and at most: most changes are found in the first batch.
FIRST_BATCH_ROWS, MAX_BATCH_ROWS = 512, 4096
# Changes that are made smaller, and halvings of the way from the old to the new value: to a 16,384th of it.
N_SHRUNK, N_BISECTIONS = 64, 14
# The best pairs of features whose first value is refined as well, between its neighbours in the grid, and how often.
N_REFINED, N_REFINEMENTS, N_STEPS = 4, 2, 9


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
    """The training values of a text feature."""

    values: tuple[str, ...]

    def distance(self, old: Any, new: Any) -> float:
        """1 for another category."""
        return float(old != new)


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
    boxes: LeafBoxes | None = None,
) -> Change | None:
    """The smallest change of one or two features with which the model decides on another class.

    For trees, whose decisions change at the thresholds of their splits alone, it is the smallest one over all
    thresholds; of two features with more than `MAX_CELLS` thresholds within reach, some pairs are left out. For other
    models it is sought on a grid over the training values; a change that flips the decision is then made smaller as
    long as it flips. The model has predicted the returned change itself.

    Parameters
    ----------
    predict_proba : callable
        From rows, given as an array for each feature, to probabilities of shape (n, n_classes).
    decide : callable
        From those to positions in `classes`, of shape (n,).
    classes : list of n_classes labels
    row : mapping
        The value of each feature; None or NaN where it is missing.
    training_values : mapping of str to NumericRange or Categories
        In the order of the model's features.
    boxes : LeafBoxes, optional
        Of the model's trees.

    Returns
    -------
    Change or None
        None where no change within the training range, or none on the grid, flips the decision.
    """
    search = _Search(predict_proba, decide, row, training_values)
    flips = _flips_of_trees(search, boxes) if boxes is not None else _flips_on_grid(search)
    flips.sort(key=lambda flip: flip.distance)
    for start in range(0, len(flips), N_KEPT):
        nearest = flips[start : start + N_KEPT]
        # The sums of trees, and a rounded value, may be on the other side by a last bit.
        changes = [change for flip in nearest for change in (search.rounded(flip), flip.values)]
        probabilities = predict_proba(search.rows(changes))
        codes = decide(probabilities)
        for change, code, shares in zip(changes, codes.tolist(), probabilities, strict=True):
            if code != search.code:
                return Change(change, search.distance(change), classes[code], float(shares[code]))
    return None


class _Flip(NamedTuple):
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


class _Search:
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
        return sum(self.training_values[name].distance(self.row[name], value) for name, value in change.items())

    def text_changes(self) -> Iterator[NewValues]:
        """No change, and every change of so many texts alone."""
        others = {
            name: [value for value in training.values if value != self.row[name]]
            for name, training in self.training_values.items()
            if isinstance(training, Categories)
        }
        for n_texts in range(MAX_CHANGED + 1):
            for names in itertools.combinations(others, n_texts):
                for values in itertools.product(*(others[name] for name in names)):
                    yield dict(zip(names, values, strict=True))

    def rounded(self, flip: _Flip) -> NewValues:
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


class _Cells(NamedTuple):
    """The cells of a numeric axis that a row can change to.

    Attributes
    ----------
    numbers : ndarray of int of shape (n_cells,)
    distances : ndarray of shape (n_cells,)
        To the nearest value of each.
    nearest, farthest : ndarray of shape (n_cells,)
        Values, as seen from the row.
    """

    numbers: npt.NDArray[np.intp]
    distances: Floats
    nearest: Floats
    farthest: Floats

    def within(self, distance: float, max_cells: int | None = None) -> "_Cells":
        """Those that are nearer, or so many of them."""
        kept = np.flatnonzero(self.distances < distance)
        if max_cells is not None and len(kept) > max_cells:
            kept = kept[np.linspace(0, len(kept) - 1, max_cells).astype(int)]
        return _Cells(self.numbers[kept], self.distances[kept], self.nearest[kept], self.farthest[kept])


def _cells(range_: NumericRange, cuts: Floats, value: Any) -> _Cells:
    low = np.maximum(np.r_[-np.inf, cuts], range_.low)
    high = np.minimum(np.nextafter(np.r_[cuts, np.inf], -np.inf), range_.high)
    if range_.whole:
        low, high = np.ceil(low), np.floor(high)
    old = range_.number(value)
    own = np.searchsorted(cuts, old, side="right")
    numbers = np.arange(len(low))
    is_above: npt.NDArray[np.bool_] = numbers > own
    nearest: Floats = np.asarray(np.where(is_above, low, high), dtype=np.float64)
    farthest: Floats = np.asarray(np.where(is_above, high, low), dtype=np.float64)
    possible = (low <= high) & (numbers != own)
    distances = np.abs(nearest - old) / range_.spread
    return _Cells(numbers[possible], distances[possible], nearest[possible], farthest[possible])


def _flips_of_trees(search: _Search, boxes: LeafBoxes) -> list[_Flip]:
    """The nearest flips over all thresholds of the trees, for each text, number, and pair of them."""
    axes = [axis for axis, name in enumerate(boxes.axes) if name in search.numeric]
    cells = {
        axis: _cells(search.numeric[name], boxes.cuts[name], search.row[name])
        for axis, name in enumerate(boxes.axes)
        if axis in axes
    }
    best = math.inf
    flips: list[_Flip] = []
    for n_numbers in range(MAX_CHANGED + 1):
        for texts in search.text_changes():
            if len(texts) + n_numbers > MAX_CHANGED or not len(texts) + n_numbers:
                continue
            passes = boxes.passes(boxes.transform(search.rows([texts]))[0])
            n_failed = passes.shape[1] - passes.sum(axis=1)
            near = np.flatnonzero(n_failed <= n_numbers)
            passes, n_failed = passes[near], n_failed[near]
            for changed in itertools.combinations(axes, n_numbers):
                limit = best * (1 - MIN_GAIN_OF_PAIR) if len(texts) + n_numbers > 1 else best
                leaves = near[n_failed == len(changed) - passes[:, changed].sum(axis=1)]
                found = _nearest_flips(search, boxes, leaves, texts, changed, cells, limit)
                best = min([best, *(flip.distance for flip in found if flip.certain)])
                flips += found
    return flips


def _nearest_flips(
    search: _Search,
    boxes: LeafBoxes,
    leaves: npt.NDArray[np.intp],
    texts: NewValues,
    changed: Sequence[int],
    cells: Mapping[int, _Cells],
    limit: float,
) -> list[_Flip]:
    """The nearest flips with some new texts and new values on some axes, of distances below a limit."""
    limit -= len(texts)
    smallest = [cells[axis].distances.min(initial=math.inf) for axis in changed]
    if limit <= 0 or sum(smallest) >= limit:
        return []
    max_cells = MAX_CELLS if len(changed) > 1 else None
    near = [
        cells[axis].within(limit - sum(smallest) + own, max_cells) for axis, own in zip(changed, smallest, strict=True)
    ]
    scores = boxes.scores(leaves, changed, [of_axis.numbers for of_axis in near])
    distances = np.zeros(scores.shape[:-1])
    for dimension, of_axis in enumerate(near):
        distances += np.expand_dims(of_axis.distances, [other for other in range(len(near)) if other != dimension])
    places = np.flatnonzero(distances.ravel() < limit)
    probabilities = boxes.trees.probabilities(scores.reshape(-1, scores.shape[-1])[places])
    code = np.arange(probabilities.shape[1]) == search.code
    may_flip = search.decide(probabilities - TIE * code) != search.code
    certain = search.decide(probabilities + TIE * code) != search.code
    places, certain = places[may_flip], certain[may_flip]
    of_places = distances.ravel()[places]
    flips = []
    order = np.argsort(of_places, kind="stable")
    # The nearest certain one is kept, however many are near a tie.
    for number in [*order[:N_KEPT], *order[N_KEPT:][certain[order[N_KEPT:]]][:1]]:
        position = np.unravel_index(places[number], distances.shape)
        named = [(boxes.axes[axis], of_axis, at) for axis, of_axis, at in zip(changed, near, position, strict=True)]
        flips.append(
            _Flip(
                float(distances[position]) + len(texts),
                texts | {name: float(of_axis.nearest[at]) for name, of_axis, at in named},
                {name: float(of_axis.farthest[at]) for name, of_axis, at in named},
                bool(certain[number]),
            )
        )
    return flips


@dataclass(frozen=True)
class _Line:
    """A way on which one number changes, with other changes made already.

    Attributes
    ----------
    fixed : dict of str to float or str
    name : str
        Of the number.
    near, far : float
        The values between which the decision flips.
    bounds : tuple of two float
        Distances of the changes to these values.
    """

    fixed: NewValues
    name: str
    near: float
    far: float
    bounds: tuple[float, float]

    def after(self, fixed: NewValues, distance: float) -> "_Line":
        """The line with other changes, of that distance, made first."""
        return _Line(fixed, self.name, self.near, self.far, (self.bounds[0] + distance, self.bounds[1] + distance))

    @property
    def way(self) -> tuple[Any, ...]:
        """What it has in common with the other parts of the same way."""
        return self.name, self.far > self.near, *self.fixed.items()


def _flips_on_grid(search: _Search) -> list[_Flip]:
    """Small flips on a grid over the training values, made smaller as long as they flip."""
    texts = [change for change in search.text_changes() if change]
    flips = [
        _Flip(search.distance(change), change, {})
        for change, flips in zip(texts, search.flips(texts) if texts else [], strict=True)
        if flips
    ]
    singles = [line for name in search.numeric for line in _way(search, name, SINGLE_GRID_SIZE)]
    flips += _shrunk(search, _first_flips(search, singles, _smallest(flips)))
    with_text = [
        line.after(change, search.distance(change)) for change in texts if len(change) < MAX_CHANGED for line in singles
    ]
    flips += _shrunk(search, _first_flips(search, with_text, _smallest(flips) * (1 - MIN_GAIN_OF_PAIR)))
    steps = {name: list(_way(search, name, PAIR_GRID_SIZE)) for name in search.numeric}
    pairs = [
        line.after({name: step.far}, step.bounds[1])
        for name, other in itertools.permutations(search.numeric, 2)
        for step in steps[name]
        for line in steps[other]
    ]
    limit = _smallest(flips) * (1 - MIN_GAIN_OF_PAIR)
    found = _shrunk(search, _first_flips(search, pairs, limit))
    for refinement in range(N_REFINEMENTS):
        found = sorted(found, key=lambda flip: flip.distance)[:N_REFINED]
        found += _shrunk(search, _first_flips(search, _neighbours(search, found, refinement), math.inf))
    return flips + [flip for flip in found if flip.distance < limit]


def _smallest(flips: list[_Flip]) -> float:
    return min((flip.distance for flip in flips), default=math.inf)


def _way(search: _Search, name: str, grid_size: int) -> Iterator[_Line]:
    """The steps from a number's old value to the ends of its range, on either side."""
    range_ = search.numeric[name]
    old = range_.number(search.row[name])
    grid = range_.grid(grid_size)
    for side in ([value for value in reversed(grid) if value < old], [value for value in grid if value > old]):
        for near, far in itertools.pairwise([old, *side]):
            yield _Line({}, name, near, far, (range_.distance(old, near), range_.distance(old, far)))


def _first_flips(search: _Search, lines: list[_Line], limit: float) -> list[_Line]:
    """On each way the first line at whose far end the decision flips, the nearest of them."""
    lines = sorted(lines, key=lambda line: line.bounds)
    found: dict[tuple[Any, ...], _Line] = {}
    start, size = 0, FIRST_BATCH_ROWS
    while start < len(lines) and lines[start].bounds[0] < limit:
        batch = lines[start : start + size]
        for line in itertools.compress(batch, search.flips([line.fixed | {line.name: line.far} for line in batch])):
            found.setdefault(line.way, line)
            limit = min(limit, line.bounds[1])
        start, size = start + size, min(2 * size, MAX_BATCH_ROWS)
    return [line for line in found.values() if line.bounds[0] < limit][:N_SHRUNK]


def _shrunk(search: _Search, lines: list[_Line]) -> list[_Flip]:
    """The smallest flip on each line, by bisection."""
    near, far = [line.near for line in lines], [line.far for line in lines]
    for _ in range(N_BISECTIONS if lines else 0):
        middle = [
            search.numeric[line.name].possible((low + high) / 2)
            for line, low, high in zip(lines, near, far, strict=True)
        ]
        flips = search.flips([line.fixed | {line.name: value} for line, value in zip(lines, middle, strict=True)])
        near = [old if flipped else new for old, new, flipped in zip(near, middle, flips, strict=True)]
        far = [new if flipped else old for old, new, flipped in zip(far, middle, flips, strict=True)]
    changes = [line.fixed | {line.name: value} for line, value in zip(lines, far, strict=True)]
    return [_Flip(search.distance(change), change, _limits(search, change)) for change in changes]


def _limits(search: _Search, change: NewValues) -> dict[str, float]:
    """The end of its range that each changed number moves to."""
    return {
        name: range_.high if change[name] > range_.number(search.row[name]) else range_.low
        for name, range_ in search.numeric.items()
        if name in change
    }


def _neighbours(search: _Search, flips: list[_Flip], refinement: int) -> list[_Line]:
    """Lines for values around the first changed number of each flip."""
    lines = []
    for flip in flips:
        (fixed, value), (name, far) = flip.values.items()
        range_ = search.numeric[fixed]
        old = search.numeric[name].number(search.row[name])
        width = (range_.high - range_.low) / PAIR_GRID_SIZE / (N_STEPS // 2) ** refinement
        # Beyond the present value, since the other number may be nearer to its old one now.
        far = min(max(far + (far - old) / 2, search.numeric[name].low), search.numeric[name].high)
        for step in np.linspace(value - width, value + width, N_STEPS).tolist():
            step = range_.possible(min(max(step, range_.low), range_.high))
            start = {fixed: step}
            bounds = search.distance(start), search.distance(start | {name: far})
            if far != old and step != range_.number(search.row[fixed]):
                lines.append(_Line(start, name, old, far, bounds))
    return lines
