"""The leaves of a model's trees as boxes over the features, to score all changes of two features at once."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wineexp.models.fitted_trees import FittedTrees

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]
# From rows, given as one array of values for each feature, to the transformed columns, of shape (n_rows, n_columns).
Transform = Callable[[Mapping[str, npt.NDArray[np.generic]]], Floats]

# The most numbers in the tables of a model's leaves: 200 MB.
MAX_TABLE_CELLS = 2**24

# Rows that are transformed at once in search of the cuts, and how often the interval around a cut is halved until its
# ends are neighbouring floating-point numbers.
SECTION_ROWS, N_HALVINGS = 2**14, 70


@dataclass(frozen=True)
class LeafBoxes:
    """Each leaf as a box: for each feature, the neighbouring cells between cuts that lead to it.

    A cut is a place on a feature's axis where some split changes its side. The cell of a value is the number of cuts
    at or below it.

    Attributes
    ----------
    trees : FittedTrees
    transform : callable
    axes : list of str
        The features that the columns depend on. A text has an axis for each of its columns, since their cuts have no
        common order.
    columns, thresholds : list of ndarray of shape (n_cuts,)
        Of the split at each cut, by axis.
    cuts : dict of str to ndarray of shape (n_cuts,)
        The smallest value above each cut, by numeric feature, ascending; infinite where it is outside of the range.
    low, high : ndarray of int of shape (n_leaves, n_axes)
        The first cell of a leaf, and the one after its last.
    missing : ndarray of bool of shape (n_leaves, n_axes)
        Whether a missing value leads to the leaf.
    """

    trees: FittedTrees
    transform: Transform
    axes: list[str]
    columns: list[npt.NDArray[np.intp]]
    thresholds: list[Floats]
    cuts: dict[str, Floats]
    low: Integers
    high: Integers
    missing: npt.NDArray[np.bool_]

    def passes(self, columns: Floats) -> npt.NDArray[np.bool_]:
        """Whether the transformed columns (n_columns,) of a row lead to each leaf: (n_leaves, n_axes)."""
        values = self.trees.as_compared(columns)
        passes = np.empty(self.low.shape, dtype=bool)
        for axis, (of_axis, thresholds) in enumerate(zip(self.columns, self.thresholds, strict=True)):
            if np.isnan(values[of_axis]).any():
                passes[:, axis] = self.missing[:, axis]
                continue
            cell = int(np.count_nonzero(~self.trees.goes_left(values[of_axis], thresholds)))
            passes[:, axis] = (self.low[:, axis] <= cell) & (cell < self.high[:, axis])
        return passes

    def scores(
        self, leaves: npt.NDArray[np.intp], axes: Sequence[int], cells: Sequence[npt.NDArray[np.intp]]
    ) -> Floats:
        """The scores of rows that differ in one axis or two, for all combinations of some cells.

        Parameters
        ----------
        leaves : ndarray of shape (n,)
            Those to which everything else in the row leads.
        axes : list of one or two int
        cells : list of ascending ndarrays of shape (n_cells,)
            Of each axis.

        Returns
        -------
        ndarray of shape (n_cells, n_outputs) or (n_cells, n_cells, n_outputs)
        """
        # Each leaf adds its values to the box of its cells: added at one corner and taken away after the opposite
        # ones, they spread over the box in the cumulative sums.
        shape = tuple(len(of_axis) + 1 for of_axis in cells)
        places = np.zeros((1, len(leaves)), dtype=np.intp)
        signs = np.ones((1, 1))
        for axis, of_axis, length in zip(axes, cells, shape, strict=True):
            start = np.searchsorted(of_axis, self.low[leaves, axis])
            end = np.searchsorted(of_axis, self.high[leaves, axis])
            places = np.concatenate([places * length + start, places * length + end])
            signs = np.concatenate([signs, -signs])
        size = int(np.prod(shape))
        values = self.trees.values[leaves]
        scores = np.stack(
            [
                np.bincount(places.ravel(), (signs * output).ravel(), minlength=size).reshape(shape)
                for output in values.T
            ],
            axis=-1,
        )
        for dimension in range(len(shape)):
            scores = np.cumsum(scores, axis=dimension).take(range(shape[dimension] - 1), axis=dimension)
        return np.asarray(scores + self.trees.base)


def make_leaf_boxes(
    trees: FittedTrees,
    sources: Sequence[str],
    transform: Transform,
    ranges: Mapping[str, tuple[float, float]],
    rows: Mapping[str, npt.NDArray[np.generic]],
) -> LeafBoxes | None:
    """The boxes of all leaves.

    Parameters
    ----------
    trees : FittedTrees
    sources : list of n_columns str
        The feature that each column depends on, or another name where there are several.
    transform : callable
    ranges : mapping of str to (low, high)
        Of the numeric features in training: cuts are sought within.
    rows : mapping of str to ndarray of shape (n_rows,)
        A value of each feature in some training rows.

    Returns
    -------
    LeafBoxes or None
        None where a column depends on several features, or falls as its feature rises, or the trees are too large, or
        where a number has another column that says whether it is missing.
    """
    is_split = trees.left >= 0
    used = sorted(set(trees.column[is_split].tolist()))
    used_of_axes: list[list[int]] = []
    for name in rows:
        of_name = [column for column in used if sources[column] == name]
        used_of_axes += [of_name] if name in ranges and of_name else [[column] for column in of_name]
    axes = [sources[of_axis[0]] for of_axis in used_of_axes]
    if {sources[column] for column in used} - set(axes) or len(trees.left) * len(axes) > MAX_TABLE_CELLS:
        return None
    columns, thresholds, cuts = [], [], {}
    for used_of_axis in used_of_axes:
        of_axis = is_split & np.isin(trees.column, used_of_axis)
        pairs = np.unique(np.stack([trees.column[of_axis], trees.threshold[of_axis]]), axis=1)
        columns.append(pairs[0].astype(np.intp))
        thresholds.append(pairs[1])
    for axis, found in _find_cuts(trees, axes, columns, thresholds, transform, ranges, rows).items():
        order = np.lexsort([thresholds[axis], found])
        columns[axis], thresholds[axis] = columns[axis][order], thresholds[axis][order]
        cuts[axes[axis]] = found[order]
    cut_of_node = np.zeros(len(trees.left), dtype=np.int32)
    axis_of_node = np.zeros(len(trees.left), dtype=np.int32)
    for axis, (of_axis, limits) in enumerate(zip(columns, thresholds, strict=True)):
        for column in np.unique(of_axis):
            nodes = np.flatnonzero(is_split & (trees.column == column))
            positions = np.flatnonzero(of_axis == column)
            cut_of_node[nodes] = positions[np.searchsorted(limits[positions], trees.threshold[nodes])]
            axis_of_node[nodes] = axis
    boxes = LeafBoxes(
        trees, transform, axes, columns, thresholds, cuts, *_grow(trees, axis_of_node, cut_of_node, columns)
    )
    return boxes if _agrees(boxes, rows) else None


def _find_cuts(
    trees: FittedTrees,
    axes: list[str],
    columns: list[npt.NDArray[np.intp]],
    thresholds: list[Floats],
    transform: Transform,
    ranges: Mapping[str, tuple[float, float]],
    rows: Mapping[str, npt.NDArray[np.generic]],
) -> dict[int, Floats]:
    """For each numeric axis and split, the smallest value that goes right: by bisection, all of them at once."""
    numeric = [axis for axis, name in enumerate(axes) if name in ranges]
    n_cuts = max((len(thresholds[axis]) for axis in numeric), default=0)
    if not n_cuts:
        return {}

    def goes_right(values: dict[int, Floats]) -> dict[int, npt.NDArray[np.bool_]]:
        """For values of shape (n_sections, n_cuts of the axis)."""
        n_sections = len(values[numeric[0]])
        table = {name: np.repeat(of_feature[:1], n_sections * n_cuts) for name, of_feature in rows.items()}
        for axis, of_axis in values.items():
            table[axes[axis]] = np.pad(of_axis, ((0, 0), (0, n_cuts - of_axis.shape[1])), mode="edge").ravel()
        transformed = trees.as_compared(transform(table)).reshape(n_sections, n_cuts, -1)
        return {
            axis: ~trees.goes_left(transformed[:, np.arange(of_axis.shape[1]), columns[axis]], thresholds[axis])
            for axis, of_axis in values.items()
        }

    low = {axis: np.full((1, len(thresholds[axis])), ranges[axes[axis]][0]) for axis in numeric}
    high = {axis: np.full((1, len(thresholds[axis])), ranges[axes[axis]][1]) for axis in numeric}
    below, above = goes_right(low), goes_right(high)
    n_sections = max(2, SECTION_ROWS // n_cuts)
    shares = np.arange(1, n_sections)[:, None] / n_sections
    for _ in range(math.ceil(N_HALVINGS / math.log2(n_sections))):
        between = {
            axis: np.clip(low[axis] + (high[axis] - low[axis]) * shares, low[axis], high[axis]) for axis in numeric
        }
        right = goes_right(between)
        for axis in numeric:
            low[axis] = np.where(right[axis], low[axis], between[axis]).max(axis=0, keepdims=True)
            high[axis] = np.where(right[axis], between[axis], high[axis]).min(axis=0, keepdims=True)
    return {axis: np.where(below[axis], -np.inf, np.where(above[axis], high[axis], np.inf))[0] for axis in numeric}


def _grow(
    trees: FittedTrees, axis_of_node: Integers, cut_of_node: Integers, columns: list[npt.NDArray[np.intp]]
) -> tuple[Integers, Integers, npt.NDArray[np.bool_]]:
    """`low`, `high` and `missing` of the leaves, from the roots down."""
    shape = len(trees.left), len(columns)
    low, missing = np.zeros(shape, dtype=np.int32), np.ones(shape, dtype=bool)
    high = np.tile(np.array([len(of_axis) + 1 for of_axis in columns], dtype=np.int32), (shape[0], 1))
    parents = trees.roots[trees.left[trees.roots] >= 0]
    while len(parents):
        axis, cut = axis_of_node[parents], cut_of_node[parents] + 1
        left = trees.left[parents]
        right = left + 1
        for table in (low, high, missing):
            table[left] = table[right] = table[parents]
        high[left, axis] = np.minimum(high[left, axis], cut)
        low[right, axis] = np.maximum(low[right, axis], cut)
        missing[left, axis] &= trees.missing_left[parents]
        missing[right, axis] &= ~trees.missing_left[parents]
        children = np.concatenate([left, right])
        parents = children[trees.left[children] >= 0]
    leaves = np.empty(len(trees.values), dtype=np.intp)
    is_leaf = np.flatnonzero(trees.left < 0)
    leaves[trees.column[is_leaf]] = is_leaf
    return low[leaves], high[leaves], missing[leaves]


def _agrees(boxes: LeafBoxes, rows: Mapping[str, npt.NDArray[np.generic]]) -> bool:
    """Whether each row has one cell on each axis, and each number the same one by its value as by its columns."""
    transformed = boxes.trees.as_compared(boxes.transform(rows))
    for axis, name in enumerate(boxes.axes):
        columns = transformed[:, boxes.columns[axis]]
        is_missing = np.isnan(columns)
        goes_right = ~boxes.trees.goes_left(columns, boxes.thresholds[axis])
        # A value of a cell goes right at all cuts up to it, and left at all further ones.
        is_cell = (goes_right[:, :-1] >= goes_right[:, 1:]).all(axis=1)
        if not np.where(is_missing.any(axis=1), is_missing.all(axis=1), is_cell).all():
            return False
        if name in boxes.cuts:
            values = rows[name].astype(np.float64)
            if (goes_right != (values[:, None] >= boxes.cuts[name]))[~np.isnan(values)].any():
                return False
    return True
