"""Changes to another side of thresholds of trees, at which alone their decisions change."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wineexp.models.change_search import MAX_CHANGED, MIN_GAIN_OF_PAIR, ChangeSearch, Flip, NewValues
from wineexp.models.leaf_boxes import LeafBoxes
from wineexp.models.training_values import NumericRange

Floats = npt.NDArray[np.float64]

# Sums of trees in another order differ by less: so near to a tie, only the model itself decides.
TIE = 1e-6

# The most cells of an axis that are combined with those of another; of more, as many are tried, evenly chosen.
MAX_CELLS = 1000
# The most flips of the same features that are given to the model to verify.
MAX_FLIPS_OF_FEATURES = 16


class Cells(NamedTuple):
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

    def within(self, distance: float, max_cells: int | None = None) -> "Cells":
        """Those that are nearer, or so many of them."""
        nearer = np.flatnonzero(self.distances < distance)
        if max_cells is not None and len(nearer) > max_cells:
            nearer = nearer[np.linspace(0, len(nearer) - 1, max_cells).astype(int)]
        return Cells(self.numbers[nearer], self.distances[nearer], self.nearest[nearer], self.farthest[nearer])


def _cells(range_: NumericRange, cuts: Floats, value: Any) -> Cells:
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
    return Cells(numbers[possible], distances[possible], nearest[possible], farthest[possible])


def flips_of_trees(search: ChangeSearch, boxes: LeafBoxes) -> list[Flip]:
    """The nearest flips over all thresholds of the trees, for each text, number, and pair of them."""
    axes = [axis for axis, name in enumerate(boxes.axes) if name in search.numeric]
    cells = {
        axis: _cells(search.numeric[name], boxes.cuts[name], search.row[name])
        for axis, name in enumerate(boxes.axes)
        if axis in axes
    }
    best = math.inf
    flips: list[Flip] = []
    for n_numbers in range(MAX_CHANGED + 1):
        for texts in search.text_changes():
            if len(texts) + n_numbers > MAX_CHANGED or not len(texts) + n_numbers:
                continue
            passes = boxes.passes(boxes.transform(search.rows([texts]))[0])
            n_failed = passes.shape[1] - passes.sum(axis=1)
            within_reach = np.flatnonzero(n_failed <= n_numbers)
            passes, n_failed = passes[within_reach], n_failed[within_reach]
            for changed in itertools.combinations(axes, n_numbers):
                limit = best * (1 - MIN_GAIN_OF_PAIR) if len(texts) + n_numbers > 1 else best
                leaves = within_reach[n_failed == len(changed) - passes[:, changed].sum(axis=1)]
                nearest = _nearest_flips(search, boxes, leaves, texts, changed, cells, limit)
                best = min([best, *(flip.distance for flip in nearest if flip.certain)])
                flips += nearest
    return flips


def _nearest_flips(
    search: ChangeSearch,
    boxes: LeafBoxes,
    leaves: npt.NDArray[np.intp],
    texts: NewValues,
    changed: Sequence[int],
    cells: Mapping[int, Cells],
    limit: float,
) -> list[Flip]:
    """The nearest flips with some new texts and new values on some axes, of distances below a limit."""
    limit -= len(texts)
    smallest = [cells[axis].distances.min(initial=math.inf) for axis in changed]
    if limit <= 0 or sum(smallest) >= limit:
        return []
    max_cells = MAX_CELLS if len(changed) > 1 else None
    possible = [
        cells[axis].within(limit - sum(smallest) + own, max_cells) for axis, own in zip(changed, smallest, strict=True)
    ]
    scores = boxes.scores(leaves, changed, [of_axis.numbers for of_axis in possible])
    distances = np.zeros(scores.shape[:-1])
    for dimension, of_axis in enumerate(possible):
        distances += np.expand_dims(of_axis.distances, [other for other in range(len(possible)) if other != dimension])
    places = np.flatnonzero(distances.ravel() < limit)
    probabilities = boxes.trees.probabilities(scores.reshape(-1, scores.shape[-1])[places])
    code = np.arange(probabilities.shape[1]) == search.code
    may_flip = search.decide(probabilities - TIE * code) != search.code
    certain = search.decide(probabilities + TIE * code) != search.code
    places, certain = places[may_flip], certain[may_flip]
    of_places = distances.ravel()[places]
    flips = []
    order = np.argsort(of_places, kind="stable")
    # The nearest certain one is among them, however many are near a tie.
    for number in [
        *order[:MAX_FLIPS_OF_FEATURES],
        *order[MAX_FLIPS_OF_FEATURES:][certain[order[MAX_FLIPS_OF_FEATURES:]]][:1],
    ]:
        position = np.unravel_index(places[number], distances.shape)
        named = [(boxes.axes[axis], of_axis, at) for axis, of_axis, at in zip(changed, possible, position, strict=True)]
        flips.append(
            Flip(
                float(distances[position]) + len(texts),
                texts | {name: float(of_axis.nearest[at]) for name, of_axis, at in named},
                {name: float(of_axis.farthest[at]) for name, of_axis, at in named},
                bool(certain[number]),
            )
        )
    return flips
