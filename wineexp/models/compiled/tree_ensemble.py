"""Sums over decision trees: by the kernel where it is built, else with numpy, with the same bits."""

import ctypes
import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from wineexp.models.compiled import kernel
from wineexp.models.compiled.ranked_trees import Floats, Integers, RankedTrees, rank_trees

# As in kernel.c.
BLOCK_ROWS = 64

# Rows that numpy traverses at once: it keeps a node for each row and tree.
NUMPY_CHUNK_ROWS = 256

# From so many rows on, the kernel runs in a thread for each core.
MIN_THREADED_ROWS = 4096


class _TreesStruct(ctypes.Structure):
    """`struct trees` of kernel.c."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("nodes", "missing_left", "values", "roots", "depths", "groups")),
        *((name, ctypes.c_void_p) for name in RankedTrees._fields),
        *(
            (name, ctypes.c_int64)
            for name in ("n_trees", "values_per_leaf", "n_columns", "n_outputs", "n_ranked_columns")
        ),
    ]


class TreeEnsemble:
    """Trees whose leaf values are added up.

    Parameters
    ----------
    threshold : ndarray of float32 or float64 of shape (n_nodes,)
        Smaller values go left; with float64, as in scikit-learn, equal ones, too; with float32, as in XGBoost, not.
    feature : ndarray of int32 of shape (n_nodes,)
        The column of a split; for a leaf, the row of `values`.
    left : ndarray of int32 of shape (n_nodes,)
        The left child, which the right one follows; -1 for a leaf.
    missing_left : ndarray of bool of shape (n_nodes,)
        Whether a missing value goes left.
    roots : ndarray of int32 of shape (n_trees,)
    groups : ndarray of int32 of shape (n_trees,)
        The first output to which each tree adds.
    values : ndarray of the thresholds' type of shape (n_leaves, values_per_leaf)
    n_columns, n_outputs : int

    Attributes
    ----------
    library : ctypes.CDLL or None
        The kernel; None where numpy computes.
    has_ranked_trees : bool
        Whether the kernel uses block traversal for batches.
    address : int
        Of `struct trees`, where the kernel computes.
    """

    def __init__(
        self,
        threshold: Floats,
        feature: Integers,
        left: Integers,
        missing_left: npt.NDArray[np.bool_],
        roots: Integers,
        groups: Integers,
        values: Floats,
        n_columns: int,
        n_outputs: int,
    ) -> None:
        self.dtype = threshold.dtype
        self.n_columns = n_columns
        self.n_outputs = n_outputs
        self.has_ranked_trees = False
        self.library = None
        # The type of columns and offsets in `struct node32` and `struct node64`.
        index_type = np.uint16 if self.dtype == np.float32 else np.uint32
        is_split = left >= 0
        left_offset = np.where(is_split, left - np.arange(len(left)), 0)
        library = kernel.library()
        if library is None or max(n_columns, int(left_offset.max())) > np.iinfo(index_type).max:
            self._arrays = threshold, feature, left, missing_left, roots, groups, values
            return
        self.library = library
        self._sum = library.wineexp_sum32 if self.dtype == np.float32 else library.wineexp_sum64
        nodes = np.empty(
            len(left), dtype=[("threshold", self.dtype), ("column", index_type), ("left_offset", index_type)]
        )
        value_rows = np.where(is_split, 0, feature)
        leaf_values = values[value_rows, 0] if values.shape[1] == 1 else value_rows
        nodes["threshold"] = np.where(is_split, threshold, leaf_values)
        nodes["column"] = np.where(is_split, feature, n_columns)
        nodes["left_offset"] = left_offset
        depths, owners = _depths_and_owners(left, roots)
        ranked = rank_trees(threshold, feature, left, roots, nodes["threshold"], owners, n_columns)
        self.has_ranked_trees = ranked is not None
        # The struct holds bare addresses: these references keep the arrays alive.
        self._referenced = [nodes, missing_left, values, roots, depths, groups, *(ranked or ())]
        pointers = [array.ctypes.data for array in self._referenced]
        pointers += [] if ranked else [None] * len(RankedTrees._fields)
        n_ranked_columns = len(ranked.first_thresholds) - 1 if ranked else 0
        self._struct = _TreesStruct(*pointers, len(roots), values.shape[1], n_columns, n_outputs, n_ranked_columns)
        self.address = ctypes.addressof(self._struct)

    def add_to(self, out: Floats, X: npt.NDArray[np.float64]) -> None:
        """Add the leaf values of X (n_rows, n_columns) to `out` (n_rows, n_outputs), both C-contiguous."""
        if self.library is None:
            for start in range(0, len(X), NUMPY_CHUNK_ROWS):
                chunk = slice(start, start + NUMPY_CHUNK_ROWS)
                self._add_with_numpy(out[chunk], X[chunk].astype(self.dtype))
        elif len(X) < MIN_THREADED_ROWS:
            self._add_with_kernel(out, X)
        else:
            # Rows are independent, and the kernel runs without the GIL.
            n_threads = os.cpu_count() or 1
            size = max(MIN_THREADED_ROWS // 2, -(-len(X) // n_threads))
            parts = [slice(start, start + size) for start in range(0, len(X), size)]
            with ThreadPoolExecutor(n_threads) as threads:
                list(threads.map(lambda part: self._add_with_kernel(out[part], X[part]), parts))

    def _add_with_kernel(self, out: Floats, X: npt.NDArray[np.float64]) -> None:
        cells = np.empty((BLOCK_ROWS, self.n_columns + 1), dtype=self.dtype)
        self._sum(self.address, X.ctypes.data, len(X), out.ctypes.data, cells.ctypes.data)

    def _add_with_numpy(self, out: Floats, X: Floats) -> None:
        threshold, feature, left, missing_left, roots, groups, values = self._arrays
        rows = np.arange(len(X))[:, None]
        node = np.tile(roots, (len(X), 1))
        is_split = left[node] >= 0
        while is_split.any():
            cell = X[rows, np.where(is_split, feature[node], 0)]
            limit = threshold[node]
            goes_left = (cell < limit if self.dtype == np.float32 else cell <= limit) | (
                np.isnan(cell) & missing_left[node]
            )
            node = np.where(is_split, left[node] + ~goes_left, node)
            is_split = left[node] >= 0
        leaf_values = values[feature[node]]
        # Added one tree after the other, as accumulate does: another order gives other last bits.
        for group in np.unique(groups):
            of_group = leaf_values[:, groups == group]
            outputs = slice(group, group + of_group.shape[2])
            terms = np.concatenate([out[:, None, outputs], of_group], axis=1)
            out[:, outputs] = np.add.accumulate(terms, axis=1)[:, -1]


def _depths_and_owners(left: Integers, roots: Integers) -> tuple[Integers, Integers]:
    """The depth of each tree, and the tree of each node, which is -1 for a node of no tree."""
    depths, owners = np.zeros(len(roots), dtype=np.int32), np.full(len(left), -1, dtype=np.int32)
    tree, node = np.arange(len(roots)), roots
    for depth in itertools.count():
        depths[tree], owners[node] = depth, tree
        is_split = left[node] >= 0
        tree, node = tree[is_split], left[node[is_split]]
        if not len(tree):
            return depths, owners
        tree, node = np.concatenate([tree, tree]), np.concatenate([node, node + 1])
    raise AssertionError("the loop ends only by its return")
