"""The nearest training rows over plain arrays, found in scikit-learn's k-d tree in its order: ties depend on that."""

import ctypes
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from wineexp.core.errors import UserError
from wineexp.models.compiled import kernel
from wineexp.models.compiled.arrays import Array, CheckedArrays, Matrix, check_finite

Indices = npt.NDArray[np.int64]

# The exponents of distances that are compared: 1 of the sum of differences, 2 of the square root of that of squares.
EXPONENTS = (1.0, 2.0)

# Up to so many numbers scikit-learn sorts by insertion.
MAX_INSERTED = 15


class _TreeStruct(ctypes.Structure):
    """`struct neighbour_tree` of kernel.c."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("rows", "numbers", "begins", "ends", "is_leaf", "low", "high")),
        ("exponent", ctypes.c_double),
        *((name, ctypes.c_int64) for name in ("n_columns", "n_neighbours")),
    ]


class NeighbourTree:
    """A k-d tree of training rows. The children of node i are the nodes 2 i + 1 and 2 i + 2.

    Parameters
    ----------
    arrays : CheckedArrays
    n_columns : int

    Raises
    ------
    UserError
        An array is missing or malformed, or a node leads to a node or a row that does not exist.
    """

    def __init__(self, arrays: CheckedArrays, n_columns: int) -> None:
        # In the order of the tree's leaves, with the number that each has among the training rows.
        self.rows = arrays.get("rows", "float64", None, n_columns)
        self.numbers = arrays.get_indices("numbers", len(self.rows), len(self.rows)).astype(np.int64)
        self.begins = arrays.get_indices("begins", len(self.rows) + 1, None).astype(np.int64)
        n_nodes = len(self.begins)
        self.ends = arrays.get_indices("ends", len(self.rows) + 1, n_nodes).astype(np.int64)
        self.is_leaf = arrays.get("is_leaf", "bool", n_nodes)
        # The box of each node.
        self.low, self.high = (arrays.get(name, "float64", n_nodes, n_columns) for name in ("low", "high"))
        self.n_neighbours = int(arrays.get("n_neighbours", "int32", 1)[0])
        self.exponent = float(arrays.get("exponent", "float64", 1)[0])
        if self.exponent not in EXPONENTS:
            raise UserError(f"the exponent of the compiled model's distances must be 1 or 2, but is {self.exponent:g}")
        if not (n_nodes and 1 <= self.n_neighbours <= len(self.rows)):
            raise UserError("the compiled model looks for more neighbours than it has training rows, or for none")
        if (2 * np.flatnonzero(~self.is_leaf) + 2 >= n_nodes).any():
            raise UserError("the tree of training rows of the compiled model leads to a node that does not exist")
        self.library = kernel.library()
        self._struct = _TreeStruct(
            *(
                array.ctypes.data
                for array in (self.rows, self.numbers, self.begins, self.ends, self.is_leaf, self.low, self.high)
            ),
            self.exponent,
            n_columns,
            self.n_neighbours,
        )

    def __call__(self, X: Matrix) -> tuple[Matrix, Indices]:
        """The nearest training rows: distances, to the power of the exponent, and numbers, both (n_rows, n_neighbours).

        They are heaps: no distance in place i is less than those in the places 2 i + 1 and 2 i + 2.
        """
        rows = np.ascontiguousarray(check_finite(X))
        distances = np.full((len(rows), self.n_neighbours), np.inf)
        numbers = np.zeros(distances.shape, dtype=np.int64)
        if self.library is None:
            for row, of_row, numbers_of_row in zip(rows, distances, numbers, strict=True):
                heap = _Heap(self.n_neighbours)
                self._visit(0, row, heap, self._least_distance(0, row))
                of_row[:], numbers_of_row[:] = heap.distances, heap.numbers
        else:
            self.library.wineexp_find_neighbours(
                ctypes.addressof(self._struct), rows.ctypes.data, len(rows), distances.ctypes.data, numbers.ctypes.data
            )
        return distances, numbers

    def _visit(self, node: int, row: Array, heap: "_Heap", least: float) -> None:
        if least > heap.distances[0]:
            return
        if self.is_leaf[node]:
            of_leaf = slice(self.begins[node], self.ends[node])
            differences = row - self.rows[of_leaf]
            terms = np.abs(differences) if self.exponent == 1 else differences * differences
            # Added one after the other, as accumulate does, in another order than a sum.
            distances = np.add.accumulate(terms, axis=1)[:, -1]
            for distance, number in zip(distances.tolist(), self.numbers[of_leaf].tolist(), strict=True):
                heap.push(distance, number)
            return
        children = [(self._least_distance(child, row), child) for child in (2 * node + 1, 2 * node + 2)]
        for distance, child in children if children[0][0] <= children[1][0] else reversed(children):
            self._visit(child, row, heap, distance)

    def _least_distance(self, node: int, row: Array) -> float:
        """The distance, to the power of the exponent, of a row from the box of a node."""
        below, above = self.low[node] - row, row - self.high[node]
        outside = 0.5 * ((below + np.abs(below)) + (above + np.abs(above)))
        total = 0.0
        for one in outside.tolist():
            # The C library's power, as in scikit-learn, may differ from a product in the last bit.
            total += math.pow(one, self.exponent)
        return total


class _Heap:
    """The least distances, with the greatest of them in front."""

    def __init__(self, size: int) -> None:
        self.distances, self.numbers = [math.inf] * size, [0] * size

    def push(self, distance: float, number: int) -> None:
        """Replace the greatest distance by a lesser one."""
        distances, numbers = self.distances, self.numbers
        if distance >= distances[0]:
            return
        place = 0
        while (child := 2 * place + 1) < len(distances):
            if child + 1 < len(distances) and distances[child] < distances[child + 1]:
                child += 1
            if distances[child] <= distance:
                break
            distances[place], numbers[place] = distances[child], numbers[child]
            place = child
        distances[place], numbers[place] = distance, number


def read_classifier(arrays: CheckedArrays, n_columns: int, n_classes: int) -> Callable[[Matrix], Matrix]:
    """Shares of the neighbours' classes (n_rows, n_classes) from columns (n_rows, n_columns)."""
    tree = NeighbourTree(arrays, n_columns)
    codes = arrays.get_indices("codes", n_classes, len(tree.rows))
    by_distance = bool(arrays.get("by_distance", "bool", 1)[0])

    def predict_proba(X: Matrix) -> Matrix:
        # The order of equal distances does not matter, since their weights are equal.
        powers, numbers = _sorted(*tree(X))
        weights = _weights(powers, tree.exponent) if by_distance else np.ones(powers.shape)
        votes, every_row = np.zeros((len(X), n_classes)), np.arange(len(X))
        for place, of_place in enumerate(codes[numbers].T):
            votes[every_row, of_place] += weights[:, place]
        votes /= votes.sum(axis=1)[:, np.newaxis]
        return votes

    return predict_proba


def read_regressor(arrays: CheckedArrays, n_columns: int) -> Callable[[Matrix], Matrix]:
    """Means of the neighbours' numbers (n_rows, 1) from columns (n_rows, n_columns)."""
    tree = NeighbourTree(arrays, n_columns)
    targets = arrays.get("targets", "float64", len(tree.rows))
    by_distance = bool(arrays.get("by_distance", "bool", 1)[0])

    def predict(X: Matrix) -> Matrix:
        heaps = tree(X)
        powers, numbers = _sorted(*heaps)
        of_neighbours = targets[numbers]
        # Where equal distances have unequal targets, the order in which scikit-learn sorts them decides the last bits.
        has_ties = ((np.diff(powers) == 0) & (np.diff(of_neighbours) != 0)).any(axis=1)
        for row in np.flatnonzero(has_ties).tolist():
            _, in_order = sort_as_scikit_learn(heaps[0][row].tolist(), heaps[1][row].tolist())
            of_neighbours[row] = targets[in_order]
        if not by_distance:
            return np.asarray(np.mean(of_neighbours[:, :, None], axis=1))
        weights = _weights(powers, tree.exponent)
        means = np.sum(of_neighbours * weights, axis=1) / np.sum(weights, axis=1)
        return np.asarray(means[:, None])

    return predict


def _sorted(distances: Matrix, numbers: Indices) -> tuple[Matrix, Indices]:
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(numbers, order, axis=1)


def _weights(powers: Matrix, exponent: float) -> Matrix:
    """The inverse distance of each neighbour, from distances to a power; where some are 0, these alone count."""
    with np.errstate(divide="ignore"):
        weights = 1.0 / (np.sqrt(powers) if exponent == 2 else powers)
    is_infinite = np.isinf(weights)
    has_infinite = is_infinite.any(axis=1)
    weights[has_infinite] = is_infinite[has_infinite]
    return np.asarray(weights)


def sort_as_scikit_learn(distances: list[float], numbers: list[int]) -> tuple[list[float], list[int]]:
    """Distances in ascending order, with their numbers, those of equal distances in the order of its introsort.

    A quicksort with the median of three as pivot, which sorts short parts by insertion, and those that it divides too
    often by a heap (Musser 1997, "Introspective Sorting and Selection Algorithms").
    """
    pairs = list(zip(distances, numbers, strict=True))
    _introsort(pairs, 0, len(pairs), 2 * int(math.log2(len(pairs))))
    return [distance for distance, _ in pairs], [number for _, number in pairs]


Pairs = list[tuple[float, int]]


def _introsort(pairs: Pairs, begin: int, end: int, depth: int) -> None:
    while end - begin > MAX_INSERTED:
        if depth <= 0:
            _heapsort(pairs, begin, end)
            return
        depth -= 1
        last = end - 1
        _put_in_order(pairs, begin, last)
        if _put_in_order(pairs, last, begin + (end - begin) // 2):
            _put_in_order(pairs, begin, last)
        pivot, left, right = pairs[last][0], begin + 1, last - 1
        while True:
            while left <= right and pairs[left][0] < pivot:
                left += 1
            while left <= right and pairs[right][0] > pivot:
                right -= 1
            if left >= right:
                break
            pairs[left], pairs[right] = pairs[right], pairs[left]
            left, right = left + 1, right - 1
        pairs[left], pairs[last] = pairs[last], pairs[left]
        _introsort(pairs, begin, left, depth)
        begin = left + 1
    # Insertion leaves equal distances in their order.
    pairs[begin:end] = sorted(pairs[begin:end], key=lambda pair: pair[0])


def _put_in_order(pairs: Pairs, one: int, other: int) -> bool:
    """Exchange two if the first one is the greater; whether it was."""
    is_greater = pairs[one][0] > pairs[other][0]
    if is_greater:
        pairs[one], pairs[other] = pairs[other], pairs[one]
    return is_greater


def _heapsort(pairs: Pairs, begin: int, end: int) -> None:
    size = end - begin

    def sift_down(root: int, limit: int) -> None:
        while True:
            greatest = root
            for child in (2 * root + 1, 2 * root + 2):
                if child < limit and pairs[begin + greatest][0] < pairs[begin + child][0]:
                    greatest = child
            if greatest == root:
                return
            one, other = begin + root, begin + greatest
            pairs[one], pairs[other] = pairs[other], pairs[one]
            root = greatest

    for root in range((size - 2) // 2, -1, -1):
        sift_down(root, size)
    for limit in range(size - 1, 0, -1):
        pairs[begin], pairs[begin + limit] = pairs[begin + limit], pairs[begin]
        sift_down(0, limit)
