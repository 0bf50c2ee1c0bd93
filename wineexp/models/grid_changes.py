"""Changes on a grid over the training values, made smaller by bisection, for models other than trees."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from wineexp.models.change_search import MAX_CHANGED, MIN_GAIN_OF_PAIR, ChangeSearch, Flip, NewValues

# Values of a feature that are tried, if it changes alone and if it changes with another.
SINGLE_GRID_SIZE, PAIR_GRID_SIZE = 40, 12
# Rows per prediction at first and at most: most changes are in the first batch.
FIRST_BATCH_ROWS, MAX_BATCH_ROWS = 512, 4096
# Changes that are made smaller, and halvings of the way from the old to the new value: to a 16,384th of it.
MAX_BISECTED, N_BISECTIONS = 64, 14
# The best pairs of features whose first value is refined as well, between its neighbours in the grid, how often, and
# the values that are tried.
N_REFINED, N_REFINEMENTS, N_REFINED_VALUES = 4, 2, 9


@dataclass(frozen=True)
class Segment:
    """A part of the way of one number from its old value to an end of its range, after other changes.

    Attributes
    ----------
    fixed : dict of str to float or str
        The other changes.
    name : str
        Of the number.
    start, end : float
        The end is further from the old value.
    bounds : tuple of two float
        Distances of the changes to these values.
    """

    fixed: NewValues
    name: str
    start: float
    end: float
    bounds: tuple[float, float]

    def after(self, fixed: NewValues, distance: float) -> "Segment":
        """The segment with other changes, of that distance, made first."""
        return replace(self, fixed=fixed, bounds=(self.bounds[0] + distance, self.bounds[1] + distance))

    def change(self, value: float) -> NewValues:
        """The other changes, and this value of the number."""
        return self.fixed | {self.name: value}

    @property
    def direction(self) -> tuple[object, ...]:
        """What the segment has in common with the others of the same way."""
        return self.name, self.end > self.start, *self.fixed.items()


def flips_on_grid(search: ChangeSearch) -> list[Flip]:
    """Small flips on a grid over the training values, made smaller as long as they flip."""
    texts = [change for change in search.text_changes() if change]
    flips = [
        Flip(search.distance(change), change, {})
        for change, flips in zip(texts, search.flips(texts) if texts else [], strict=True)
        if flips
    ]
    singles = [segment for name in search.numeric for segment in _segments(search, name, SINGLE_GRID_SIZE)]
    flips += _bisected(search, _first_flips(search, singles, _smallest(flips)))
    with_text = [
        segment.after(change, search.distance(change))
        for change in texts
        if len(change) < MAX_CHANGED
        for segment in singles
    ]
    flips += _bisected(search, _first_flips(search, with_text, _smallest(flips) * (1 - MIN_GAIN_OF_PAIR)))
    of_numbers = {name: list(_segments(search, name, PAIR_GRID_SIZE)) for name in search.numeric}
    pairs = [
        second.after({name: first.end}, first.bounds[1])
        for name, other in itertools.permutations(search.numeric, 2)
        for first in of_numbers[name]
        for second in of_numbers[other]
    ]
    limit = _smallest(flips) * (1 - MIN_GAIN_OF_PAIR)
    of_pairs = _bisected(search, _first_flips(search, pairs, limit))
    for refinement in range(N_REFINEMENTS):
        of_pairs = sorted(of_pairs, key=lambda flip: flip.distance)[:N_REFINED]
        around = _segments_around(search, of_pairs, refinement)
        of_pairs += _bisected(search, _first_flips(search, around, math.inf))
    return flips + [flip for flip in of_pairs if flip.distance < limit]


def _smallest(flips: list[Flip]) -> float:
    return min((flip.distance for flip in flips), default=math.inf)


def _segments(search: ChangeSearch, name: str, grid_size: int) -> Iterator[Segment]:
    """The segments between values of a grid, from a number's old value to the ends of its range, in both directions."""
    range_ = search.numeric[name]
    old = range_.number(search.row[name])
    grid = range_.grid(grid_size)
    for side in ([value for value in reversed(grid) if value < old], [value for value in grid if value > old]):
        for start, end in itertools.pairwise([old, *side]):
            yield Segment({}, name, start, end, (range_.distance(old, start), range_.distance(old, end)))


def _first_flips(search: ChangeSearch, segments: list[Segment], limit: float) -> list[Segment]:
    """In each direction the first segment at whose end the decision flips, the nearest of them."""
    segments = sorted(segments, key=lambda segment: segment.bounds)
    firsts: dict[tuple[object, ...], Segment] = {}
    position, size = 0, FIRST_BATCH_ROWS
    while position < len(segments) and segments[position].bounds[0] < limit:
        batch = segments[position : position + size]
        for segment in itertools.compress(batch, search.flips([segment.change(segment.end) for segment in batch])):
            firsts.setdefault(segment.direction, segment)
            limit = min(limit, segment.bounds[1])
        position, size = position + size, min(2 * size, MAX_BATCH_ROWS)
    return [segment for segment in firsts.values() if segment.bounds[0] < limit][:MAX_BISECTED]


def _bisected(search: ChangeSearch, segments: list[Segment]) -> list[Flip]:
    """The smallest flip on each segment."""
    starts, ends = [segment.start for segment in segments], [segment.end for segment in segments]
    for _ in range(N_BISECTIONS if segments else 0):
        middles = [
            search.numeric[segment.name].possible((start + end) / 2)
            for segment, start, end in zip(segments, starts, ends, strict=True)
        ]
        flips = search.flips([segment.change(middle) for segment, middle in zip(segments, middles, strict=True)])
        starts = [start if flipped else middle for start, middle, flipped in zip(starts, middles, flips, strict=True)]
        ends = [middle if flipped else end for end, middle, flipped in zip(ends, middles, flips, strict=True)]
    changes = [segment.change(end) for segment, end in zip(segments, ends, strict=True)]
    return [Flip(search.distance(change), change, _limits(search, change)) for change in changes]


def _limits(search: ChangeSearch, change: NewValues) -> dict[str, float]:
    """The end of its range that each changed number moves to."""
    return {
        name: range_.high if change[name] > range_.number(search.row[name]) else range_.low
        for name, range_ in search.numeric.items()
        if name in change
    }


def _segments_around(search: ChangeSearch, flips: list[Flip], refinement: int) -> list[Segment]:
    """Segments of the second changed number of each flip, for values around that of the first one."""
    segments = []
    for flip in flips:
        (first, value), (name, new) = flip.values.items()
        range_ = search.numeric[first]
        old = search.numeric[name].number(search.row[name])
        width = (range_.high - range_.low) / PAIR_GRID_SIZE / (N_REFINED_VALUES // 2) ** refinement
        # Beyond the present value, since the other number may be nearer to its old one now.
        end = min(max(new + (new - old) / 2, search.numeric[name].low), search.numeric[name].high)
        for near_value in np.linspace(value - width, value + width, N_REFINED_VALUES).tolist():
            other = range_.possible(min(max(near_value, range_.low), range_.high))
            fixed = {first: other}
            bounds = search.distance(fixed), search.distance(fixed | {name: end})
            if end != old and other != range_.number(search.row[first]):
                segments.append(Segment(fixed, name, old, end, bounds))
    return segments
