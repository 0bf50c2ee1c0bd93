"""Regressors over plain arrays: from the columns that the transformers return to predicted numbers."""

from collections.abc import Callable

import numpy as np

from wineexp.models.compiled import neighbours
from wineexp.models.compiled.arrays import Array, CheckedArrays, Matrix, check_finite
from wineexp.models.compiled.classifiers import read_layers, read_symmetric_trees, read_trees
from wineexp.models.compiled.support_vectors import SupportVectors

# From a matrix of shape (n_rows, n_columns) to numbers of shape (n_rows, 1), in the precision in which the library
# computes: what undoes a transform continues in it.
Regressor = Callable[[Matrix], Array]

# scikit-learn's QuantileTransformer takes shares nearer to 0 or 1 than this for 0 or 1.
QUANTILE_BOUND = 1e-7


def _boosted(dtype: str) -> Callable[[CheckedArrays, int], Regressor]:
    """Boosted trees whose values have this type, on which the library's comparison with thresholds depends, too."""

    def regressor(arrays: CheckedArrays, n_columns: int) -> Regressor:
        base, trees = arrays.get("base", dtype, 1), read_trees(arrays, dtype, n_columns, 1)

        def predict(X: Matrix) -> Array:
            out = np.empty((len(X), 1), dtype=dtype)
            out[:] = base
            trees.add_to(out, np.ascontiguousarray(X))
            return out

        return predict

    return regressor


def _forest(arrays: CheckedArrays, n_columns: int) -> Regressor:
    trees = read_trees(arrays, "float64", n_columns, 1)
    n_trees = len(arrays.get("roots", "int32", None))

    def predict(X: Matrix) -> Array:
        out = np.zeros((len(X), 1))
        # scikit-learn's trees take values in single precision.
        trees.add_to(out, check_finite(X.astype(np.float32)).astype(np.float64, order="C"))
        out /= n_trees
        return out

    return predict


def _constant(arrays: CheckedArrays, _: int) -> Regressor:
    constant = arrays.get("constant", "float64", 1)
    return lambda X: np.full((len(X), 1), constant)


def _linear(arrays: CheckedArrays, n_columns: int) -> Regressor:
    weights, offset = arrays.get("weights", "float64", n_columns), arrays.get("offset", "float64", 1)
    return lambda X: (check_finite(X) @ weights + offset)[:, None]


def _mlp(arrays: CheckedArrays, n_columns: int) -> Regressor:
    layers = read_layers(arrays, n_columns, 1)
    return lambda X: layers(check_finite(X))


def _support_vectors(arrays: CheckedArrays, n_columns: int) -> Regressor:
    return SupportVectors(arrays, n_columns, 0)


def _kernel_ridge(arrays: CheckedArrays, n_columns: int) -> Regressor:
    """A sum over the training rows by a rational quadratic kernel.

    Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", equations 2.25 and 4.19.
    """
    # Only these models need its distances.
    from scipy.spatial.distance import cdist

    rows = arrays.get("rows", "float64", None, n_columns)
    weights = arrays.get("weights", "float64", len(rows))
    (length,), (exponent,) = arrays.get("length", "float64", 1).tolist(), arrays.get("exponent", "float64", 1).tolist()

    def predict(X: Matrix) -> Array:
        # In place: for 10,000 rows and 5,000 training rows the matrix has 400 MB.
        matrix: Array = cdist(check_finite(X), rows, metric="sqeuclidean")
        matrix /= 2 * exponent * length**2
        matrix += 1
        np.power(matrix, -exponent, out=matrix)
        return (matrix @ weights)[:, None]

    return predict


# By kind: from the regressor's arrays and its number of columns.
REGRESSORS: dict[str, Callable[[CheckedArrays, int], Regressor]] = {
    "xgboost": _boosted("float32"),
    "boosted_trees": _boosted("float64"),
    "symmetric_trees": read_symmetric_trees,
    "forest": _forest,
    "constant": _constant,
    "linear": _linear,
    "mlp": _mlp,
    "neighbours": neighbours.read_regressor,
    "support_vectors": _support_vectors,
    "kernel_ridge": _kernel_ridge,
}


def _undo_log1p(_: CheckedArrays) -> Callable[[Array], Array]:
    return lambda values: np.expm1(check_finite(values))


def _undo_quantile(arrays: CheckedArrays) -> Callable[[Array], Array]:
    # Only models that learn quantiles need SciPy.
    from scipy.special import ndtr

    quantiles = arrays.get("quantiles", "float64", None)
    references = arrays.get("references", "float64", len(quantiles))

    def undo(values: Array) -> Array:
        shares = ndtr(check_finite(values).astype(np.float64))
        numbers = np.interp(shares, references, quantiles)
        numbers[shares + QUANTILE_BOUND > 1] = quantiles[-1]
        numbers[shares - QUANTILE_BOUND < 0] = quantiles[0]
        # As in scikit-learn, which writes them into the array that it got.
        undone: Array = numbers.astype(values.dtype)
        return undone

    return undo


# What turns that which a model has learned back into the target's numbers, by the transform of `data.target.Target`.
UNDONE: dict[str, Callable[[CheckedArrays], Callable[[Array], Array]]] = {
    "": lambda _: lambda values: values,
    "log1p": _undo_log1p,
    "quantile": _undo_quantile,
}
