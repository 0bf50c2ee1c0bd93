"""Support vector machines over plain arrays, with libsvm's order of operations: by the kernel where it is built."""

from collections.abc import Callable

import numpy as np

from wineexp.core.errors import UserError
from wineexp.models.compiled import kernel, link_functions
from wineexp.models.compiled.arrays import CheckedArrays, Matrix, check_finite

# Differences between rows and support vectors that are in memory at the same time: 8 bytes each.
MAX_DIFFERENCES = 2**20


class SupportVectors:
    """The sums over the support vectors of each pair of classes, or of a regression.

    Parameters
    ----------
    arrays : CheckedArrays
    n_columns, n_classes : int
        Of a regression `n_classes` is 0.

    Raises
    ------
    UserError
        An array is missing or malformed.
    """

    def __init__(self, arrays: CheckedArrays, n_columns: int, n_classes: int) -> None:
        self.n_pairs = n_classes * (n_classes - 1) // 2 if n_classes else 1
        self.vectors = arrays.get("vectors", "float64", None, n_columns)
        n_vectors = len(self.vectors)
        self.weights = arrays.get("weights", "float64", max(n_classes - 1, 1), n_vectors)
        self.offsets = arrays.get("offsets", "float64", self.n_pairs)
        self.gamma = arrays.get("gamma", "float64", 1)
        counts = arrays.get("counts", "int32", max(n_classes, 1))
        if (counts < 0).any() or counts.sum(dtype=np.int64) != n_vectors:
            raise UserError("the support vectors of the compiled model are not as many as their classes have")
        # Where the vectors of each class begin, and last where those of the last one end.
        self.bounds = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.library = kernel.library()
        self._chunk_rows = max(1, MAX_DIFFERENCES // max(1, n_vectors * n_columns))

    def __call__(self, X: Matrix) -> Matrix:
        """The sums of rows (n_rows, n_columns), of shape (n_rows, n_pairs): of (0, 1), (0, 2), ..., (1, 2), ..."""
        rows = np.ascontiguousarray(check_finite(X))
        out = np.empty((len(rows), self.n_pairs))
        for start in range(0, len(rows), self._chunk_rows):
            chunk = slice(start, start + self._chunk_rows)
            differences = rows[chunk, None] - self.vectors
            # Each is one scalar product of BLAS, as libsvm computes it for scikit-learn.
            self._sum(np.vecdot(differences, differences), out[chunk])
        return out

    def _sum(self, distances: Matrix, out: Matrix) -> None:
        """Fill `out` from the squared distances (n_rows, n_vectors), which are overwritten."""
        if self.library is None:
            self._sum_with_numpy(distances, out)
            return
        self.library.wineexp_sum_support_vectors(
            *(array.ctypes.data for array in (distances, self.weights, self.offsets, self.bounds)),
            float(self.gamma[0]),
            len(distances),
            len(self.vectors),
            len(self.bounds) - 1,
            out.ctypes.data,
        )

    def _sum_with_numpy(self, distances: Matrix, out: Matrix) -> None:
        distances *= -self.gamma
        link_functions.exponential(distances)
        pair, n_classes = 0, len(self.bounds) - 1
        for first in range(max(1, n_classes - 1)):
            for second in range(first + 1, n_classes) if n_classes > 1 else (1,):
                terms = [self._terms(distances, first, second - 1)]
                if n_classes > 1:
                    terms.append(self._terms(distances, second, first))
                # Added one after the other, as accumulate does, in another order than a sum.
                zero = np.zeros((len(out), 1))
                out[:, pair] = np.add.accumulate(np.hstack([zero, *terms]), axis=1)[:, -1] + self.offsets[pair]
                pair += 1

    def _terms(self, similarities: Matrix, of_class: int, row: int) -> Matrix:
        of_vectors = slice(self.bounds[of_class], self.bounds[of_class + 1])
        return np.asarray(self.weights[row, of_vectors] * similarities[:, of_vectors])


def read_scores(arrays: CheckedArrays, n_columns: int, n_classes: int) -> Callable[[Matrix], Matrix]:
    """Scores of classes (n_rows, n_classes), of two classes the second one's alone, as scikit-learn votes on them."""
    sums = SupportVectors(arrays, n_columns, n_classes)
    if n_classes == 2:
        return sums

    def scores(X: Matrix) -> Matrix:
        of_pairs = sums(X)
        votes, confidences = np.zeros((len(X), n_classes)), np.zeros((len(X), n_classes))
        pair = 0
        for first in range(n_classes):
            for second in range(first + 1, n_classes):
                confidences[:, first] += of_pairs[:, pair]
                confidences[:, second] -= of_pairs[:, pair]
                is_second = of_pairs[:, pair] < 0
                votes[~is_second, first] += 1
                votes[is_second, second] += 1
                pair += 1
        return np.asarray(votes + confidences / (3 * (np.abs(confidences) + 1)))

    return scores
