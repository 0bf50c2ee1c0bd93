"""Feature steps and the walk over trees: in C where its library was built ahead, else in numpy, with the same bits.

`python -m wineexp.compiled.kernel` builds the library, with whatever C compiler is there; serving never does.
"""

import ctypes
import functools
import hashlib
import itertools
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SOURCE = Path(__file__).with_name("kernel.c")
FOLDER = Path(__file__).with_name("build")

# No extended precision, no fused multiply-add: the bits are to be those of the libraries.
FLAGS = ["-std=c11", "-O2", "-fPIC", "-shared", "-ffp-contract=off"]

# As in kernel.c.
BLOCK = 64

# Columns that a single row in C may have, and numbers that numpy adds as C does.
WIDEST, SUMMED = 4096, 128

# Rows that are worth a thread for each core.
SPREAD = 4096

# Rows that numpy walks at once: the walk keeps a node for each row and tree.
CHUNK = 256

Array = npt.NDArray[Any]
Reals = npt.NDArray[np.floating[Any]]


def place() -> Path:
    """Where the library is, or would be: under a name that no other source, flags or machine share."""
    told = [SOURCE.read_bytes(), *(word.encode() for word in (*FLAGS, platform.machine(), *platform.libc_ver()))]
    return FOLDER / f"kernel-{hashlib.sha256(b' '.join(told)).hexdigest()[:16]}.so"


def build() -> Path | None:
    """Build the library where it is missing; None where there is no compiler, or no room for it."""
    target = place()
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if target.exists():
        return target
    if compiler is None:
        return None
    try:
        FOLDER.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
            made = Path(scratch) / target.name
            subprocess.run([compiler, *FLAGS, str(SOURCE), "-o", str(made), "-lm"], check=True, capture_output=True)
            # Whole or not at all, whoever else builds it meanwhile.
            made.replace(target)
    except (OSError, subprocess.CalledProcessError):
        return None
    return target


class _Trees(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("nodes", "missing_left", "values", "roots", "depths", "groups")),
        *((name, ctypes.c_int64) for name in ("count", "width", "columns", "outputs")),
    ]


_plain = False


@contextmanager
def plain() -> Iterator[None]:
    """Numpy alone, as where no library was built."""
    global _plain
    _plain = True
    try:
        yield
    finally:
        _plain = False


def library() -> ctypes.CDLL | None:
    """The library, where it was built."""
    return None if _plain else _library()


@functools.cache
def _library() -> ctypes.CDLL | None:
    try:
        found = ctypes.CDLL(str(place()))
    except OSError:
        return None
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    for name, arguments in {
        "wineexp_sum32": [pointer, pointer, number, pointer, pointer],
        "wineexp_sum64": [pointer, pointer, number, pointer, pointer],
        "wineexp_softmax32": [pointer, number, number],
        "wineexp_sigmoid32": [pointer, number],
        "wineexp_sigmoid64": [pointer, number],
    }.items():
        function = getattr(found, name)
        function.argtypes, function.restype = arguments, None
    found.wineexp_steps.argtypes = [pointer, number, pointer, number, pointer, pointer, number]
    found.wineexp_row.argtypes = [pointer, pointer, pointer]
    found.wineexp_steps.restype = found.wineexp_row.restype = ctypes.c_int
    return found


@functools.cache
def _libm() -> ctypes.CDLL:
    """The C library's mathematics: numpy's own exponentials differ from them in the last bit."""
    # Whoever runs Python has it loaded.
    found = ctypes.CDLL(None)
    for name, kind in {"expf": ctypes.c_float, "logf": ctypes.c_float, "exp": ctypes.c_double}.items():
        function = getattr(found, name)
        function.argtypes, function.restype = [kind], kind
    return found


class _Step(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("kind", "before", "after")),
        *((name, ctypes.c_void_p) for name in ("first", "second")),
    ]


class Steps:
    """Feature steps, one after the other, in C.

    Parameters
    ----------
    steps : list of (kind, columns before, columns after, first array, second array)
    """

    KINDS = ("ratios", "impute", "scale", "products", "clip")

    def __init__(self, steps: Sequence[tuple[str, int, int, Array, Array]]) -> None:
        found = library()
        if found is None:
            raise RuntimeError("the library has not been built")
        self.library = found
        self._held = [array for step in steps for array in step[3:]]
        made = [
            _Step(self.KINDS.index(kind), before, after, first.ctypes.data, second.ctypes.data)
            for kind, before, after, first, second in steps
        ]
        self._steps = (_Step * len(steps))(*made)
        self.address, self.count = ctypes.addressof(self._steps), len(steps)
        self._after, self.widest = steps[-1][2], max(step[2] for step in steps)

    def __call__(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """What becomes of the values (n_rows, n_columns), C-contiguous.

        Raises
        ------
        ValueError
            One is infinite, or becomes so.
        """
        rows = len(values)
        out = np.empty((rows, self._after))
        scratch = np.empty(2 * self.widest)
        told = self.library.wineexp_steps(
            self.address, self.count, values.ctypes.data, rows, out.ctypes.data, scratch.ctypes.data, self.widest
        )
        if not told:
            raise ValueError("a value is infinite or too large")
        return out


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
            self._held = [nodes, missing_left, values, roots, _depths(left, roots), groups]
            pointers = [each.ctypes.data for each in self._held]
            self._trees = _Trees(*pointers, len(roots), values.shape[1], columns, outputs)
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


class _Row(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("steps", "trees", "base", "present")),
        *((name, ctypes.c_int64) for name in ("count", "widest", "shares", "classes")),
    ]


class Row:
    """One row at a time through steps and XGBoost's trees in C: most of its time would go into calls of numpy.

    Parameters
    ----------
    steps : Steps
    walk : Walk
    base : ndarray of float32
    present : list of int
    classes : int
    """

    def __init__(
        self, steps: Steps, walk: Walk, base: npt.NDArray[np.float32], present: list[int], classes: int
    ) -> None:
        places = np.array(present, dtype=np.int32)
        self._held = steps, walk, base, places
        pointers = [steps.address, walk.address, base.ctypes.data, places.ctypes.data]
        self._row = _Row(*pointers, steps.count, steps.widest, len(present), classes)
        self._address = ctypes.addressof(self._row)
        self._call = steps.library.wineexp_row
        self._classes = classes

    @staticmethod
    def fits(steps: Steps, walk: Walk, present: list[int]) -> bool:
        """Whether the trees are in C as well, and all of it is small enough for the stack."""
        return walk.library is not None and steps.widest <= WIDEST and len(present) <= SUMMED

    def __call__(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Probabilities (1, n_classes) of values (1, n_columns), C-contiguous.

        Raises
        ------
        ValueError
            One is infinite, or becomes so.
        """
        out = np.empty((1, self._classes))
        if not self._call(self._address, values.ctypes.data, out.ctypes.data):
            raise ValueError("a value is infinite or too large")
        return out


def _depths(left: npt.NDArray[np.int32], roots: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Steps from each root to the furthest leaf below it."""
    depths = np.zeros(len(roots), dtype=np.int32)
    tree, node = np.arange(len(roots)), roots
    for depth in itertools.count(1):
        inner = left[node] >= 0
        tree, node = tree[inner], left[node[inner]]
        if not len(tree):
            return depths
        depths[tree] = depth
        tree, node = np.concatenate([tree, tree]), np.concatenate([node, node + 1])
    raise AssertionError


def softmax(out: npt.NDArray[np.float32]) -> None:
    """In place, over each row of `out` (n_rows, n_outputs), C-contiguous, as XGBoost does it."""
    found = library()
    if found is not None:
        found.wineexp_softmax32(out.ctypes.data, *out.shape)
        return
    out -= out.max(axis=1, keepdims=True)
    _each(out, _libm().expf)
    sums = np.add.accumulate(out.astype(np.float64), axis=1)[:, -1:]
    out /= sums.astype(np.float32)


def sigmoid(out: Reals) -> None:
    """In place, C-contiguous: in float32 as XGBoost does it, in float64 as SciPy does."""
    found = library()
    if found is not None:
        function = found.wineexp_sigmoid32 if out.dtype == np.float32 else found.wineexp_sigmoid64
        function(out.ctypes.data, out.size)
        return
    np.negative(out, out=out)
    if out.dtype == np.float32:
        np.minimum(out, np.float32(88.7), out=out)
        _each(out, _libm().expf)
        out += np.float32(1)
        out += np.float32(1e-16)
    else:
        _each(out, _libm().exp)
        out += 1
    np.divide(out.dtype.type(1), out, out=out)


def logit(share: np.float32) -> np.float32:
    """XGBoost's, in single precision."""
    ratio = np.float32(1) / share - np.float32(1)
    return np.float32(-_libm().logf(float(ratio)) if ratio > 0 else -math.inf)


def _each(out: Reals, function: Any) -> None:
    flat = out.reshape(-1)
    flat[:] = [function(value) for value in flat.tolist()]


if __name__ == "__main__":
    made = build()
    if made is None:
        sys.exit("error: no C compiler (CC, cc) built wineexp/compiled/kernel.c; numpy will walk the trees instead")
    print(made)
