"""The walk over trees: in C where the library is there, else in numpy, with the same bits."""

import ctypes
import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from wineexp.models.compiled.kernel import library
from wineexp.models.compiled.short import Places, Reals, Short, short

# As in kernel.c.
BLOCK = 64

# Rows that numpy walks at once: the walk keeps a node for each row and tree.
CHUNK = 256

# Rows that are worth a thread for each core.
SPREAD = 4096


class _Trees(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("nodes", "missing_left", "values", "roots", "depths", "groups")),
        *((name, ctypes.c_void_p) for name in Short._fields),
        *((name, ctypes.c_int64) for name in ("count", "width", "columns", "outputs", "ranked")),
    ]


class Walk:
    """Trees, ready to be summed.

    Parameters
    ----------
    threshold : ndarray of float32 or float64 of shape (n_nodes,)
        In float32 a smaller value goes left, as in XGBoost; in float64 an equal one as well, as in scikit-learn.
    feature : ndarray of int32 of shape (n_nodes,)
        The column that a node asks for; of a leaf, the row of its values.
    left : ndarray of int32 of shape (n_nodes,)
        The left child, which the right one follows; -1 of a leaf.
    missing_left : ndarray of bool of shape (n_nodes,)
        Where a missing value goes.
    roots, groups : ndarray of int32 of shape (n_trees,)
        Of each tree, and the first output that it adds to.
    values : ndarray of the thresholds' type of shape (n_values, width)
    columns, outputs : int

    Attributes
    ----------
    shortened : bool
        Whether C asks large batches in blocks.
    """

    def __init__(
        self,
        threshold: Reals,
        feature: npt.NDArray[np.int32],
        left: npt.NDArray[np.int32],
        missing_left: npt.NDArray[np.bool_],
        roots: npt.NDArray[np.int32],
        groups: npt.NDArray[np.int32],
        values: Reals,
        columns: int,
        outputs: int,
    ) -> None:
        self.dtype = threshold.dtype
        self.columns = columns
        self.outputs = outputs
        self.shortened = False
        self.library, places = None, np.uint16 if self.dtype == np.float32 else np.uint32
        inner = left >= 0
        ahead = np.where(inner, left - np.arange(len(left)), 0)
        found = library()
        # Short nodes, of which many lie side by side; what is too large for them, numpy walks.
        if found is not None and max(columns, int(ahead.max())) <= np.iinfo(places).max:
            self.library = found
            self._sum = found.wineexp_sum32 if self.dtype == np.float32 else found.wineexp_sum64
            nodes = np.empty(len(left), dtype=[("threshold", self.dtype), ("column", places), ("ahead", places)])
            # As kernel.c has it: a leaf leads to itself, and tells its value, or where its values are.
            rows = np.where(inner, 0, feature)
            nodes["threshold"] = np.where(inner, threshold, values[rows, 0] if values.shape[1] == 1 else rows)
            nodes["column"] = np.where(inner, feature, columns)
            nodes["ahead"] = ahead
            depths, owners = _levels(left, roots)
            brief = short(threshold, feature, left, roots, nodes["threshold"], owners, columns)
            self._held = [nodes, missing_left, values, roots, depths, groups, *(brief or ())]
            self.shortened = brief is not None
            pointers = [*(each.ctypes.data for each in self._held), *([] if brief else [None] * len(Short._fields))]
            ranked = len(brief.first_limits) - 1 if brief else 0
            self._trees = _Trees(*pointers, len(roots), values.shape[1], columns, outputs, ranked)
            self.address = ctypes.addressof(self._trees)
        else:
            self._arrays = threshold, feature, left, missing_left, roots, groups, values

    def add(self, X: npt.NDArray[np.float64], out: Reals) -> None:
        """Add to `out` (n_rows, outputs) what each tree says of X (n_rows, columns), both C-contiguous."""
        if self.library is None:
            for start in range(0, len(X), CHUNK):
                self._walk(X[start : start + CHUNK].astype(self.dtype), out[start : start + CHUNK])
        elif len(X) < SPREAD:
            self._run(X, out)
        else:
            # Rows have nothing to do with each other, and C waits for no turn of Python's.
            cores = os.cpu_count() or 1
            size = max(SPREAD // 2, -(-len(X) // cores))
            parts = [slice(start, start + size) for start in range(0, len(X), size)]
            with ThreadPoolExecutor(cores) as threads:
                list(threads.map(lambda part: self._run(X[part], out[part]), parts))

    def _run(self, X: npt.NDArray[np.float64], out: Reals) -> None:
        """In C."""
        cells = np.empty((BLOCK, self.columns + 1), dtype=self.dtype)
        self._sum(self.address, X.ctypes.data, len(X), out.ctypes.data, cells.ctypes.data)

    def _walk(self, X: Reals, out: Reals) -> None:
        """In numpy."""
        threshold, feature, left, missing_left, roots, groups, values = self._arrays
        rows = np.arange(len(X))[:, None]
        node = np.tile(roots, (len(X), 1))
        inner = left[node] >= 0
        while inner.any():
            cell = X[rows, np.where(inner, feature[node], 0)]
            limit = threshold[node]
            goes_left = (cell < limit if self.dtype == np.float32 else cell <= limit) | (
                np.isnan(cell) & missing_left[node]
            )
            node = np.where(inner, left[node] + ~goes_left, node)
            inner = left[node] >= 0
        leaves = values[feature[node]]
        # One tree after the other, as accumulate adds: any other order has other last bits.
        for group in np.unique(groups):
            some = leaves[:, groups == group]
            wide = slice(group, group + some.shape[2])
            out[:, wide] = np.add.accumulate(np.concatenate([out[:, None, wide], some], axis=1), axis=1)[:, -1]


def _levels(left: Places, roots: Places) -> tuple[Places, Places]:
    """Of each tree, the steps from its root to the furthest leaf; of each node, its tree, -1 where none has it."""
    depths, owners = np.zeros(len(roots), dtype=np.int32), np.full(len(left), -1, dtype=np.int32)
    tree, node = np.arange(len(roots)), roots
    for depth in itertools.count():
        depths[tree], owners[node] = depth, tree
        inner = left[node] >= 0
        tree, node = tree[inner], left[node[inner]]
        if not len(tree):
            return depths, owners
        tree, node = np.concatenate([tree, tree]), np.concatenate([node, node + 1])
    raise AssertionError
