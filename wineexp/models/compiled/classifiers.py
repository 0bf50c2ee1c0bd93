"""Classifiers over plain arrays: from the columns that the transformers return to probabilities."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from wineexp.core.errors import UserError
from wineexp.models.compiled import link_functions, neighbours
from wineexp.models.compiled.arrays import Array, CheckedArrays, Matrix, check_finite
from wineexp.models.compiled.tree_ensemble import TreeEnsemble

# From a matrix of shape (n_rows, n_columns) to the probabilities of the classes in the training rows, of shape
# (n_rows, n_present).
Classifier = Callable[[Matrix], Matrix]


def read_trees(
    arrays: CheckedArrays, dtype: str, n_columns: int, n_outputs: int, values_per_leaf: int = 1
) -> TreeEnsemble:
    """The trees of a classifier. Children come after their parents, so that every traversal ends.

    Raises
    ------
    UserError
        An array is missing or malformed, or a node leads to a node, column or value that does not exist.
    """
    threshold = arrays.get("threshold", dtype, None)
    n_nodes = len(threshold)
    feature, left = arrays.get("feature", "int32", n_nodes), arrays.get("left", "int32", n_nodes)
    missing_left = arrays.get("missing_left", "bool", n_nodes)
    values = arrays.get("values", dtype, None, values_per_leaf)
    roots = arrays.get_indices("roots", n_nodes, None)
    groups = arrays.get_indices("groups", n_outputs - values_per_leaf + 1, len(roots))
    is_split = left >= 0
    left_children = left[is_split].astype(np.int64)
    children = np.concatenate([left_children, left_children + 1])
    valid_children = (
        (left_children > np.flatnonzero(is_split)).all()
        and (children < n_nodes).all()
        # With two parents for one node, the paths through few nodes could be exponentially many.
        and _all_distinct(np.concatenate([children, roots]))
    )
    valid_features = (feature >= 0) & (feature < np.where(is_split, n_columns, len(values)))
    # In the kernel, a leaf whose value is NaN would not lead to itself.
    if not np.isfinite(values).all():
        raise UserError("a tree of the compiled model has a value that is not finite")
    if not (n_columns and valid_children and valid_features.all()):
        raise UserError("a tree of the compiled model leads to a node, a column or a value that does not exist")
    return TreeEnsemble(threshold, feature, left, missing_left, roots, groups, values, n_columns, n_outputs)


def _all_distinct(indices: Array) -> bool:
    return len(np.unique(indices)) == len(indices)


def _n_outputs(n_present: int) -> int:
    """Scores of a model: two classes share one, that of the second."""
    return 1 if n_present == 2 else n_present


class XGBoost:
    """XGBoost's trees and link function.

    Attributes
    ----------
    base : ndarray of float32 of shape (n_outputs,)
        The scores before the trees.
    trees : TreeEnsemble
    """

    def __init__(self, arrays: CheckedArrays, n_columns: int, n_present: int) -> None:
        n_outputs = _n_outputs(n_present)
        self.base = arrays.get("base", "float32", n_outputs)
        self.trees = read_trees(arrays, "float32", n_columns, n_outputs)

    def __call__(self, X: Matrix) -> Matrix:
        """Probabilities of shape (n_rows, n_present)."""
        out = np.empty((len(X), len(self.base)), dtype=np.float32)
        out[:] = self.base
        self.trees.add_to(out, np.ascontiguousarray(X))
        if len(self.base) > 1:
            link_functions.softmax(out)
            return out.astype(np.float64)
        link_functions.sigmoid(out)
        return np.hstack([np.float32(1) - out, out]).astype(np.float64)


def _boosted(softmax: Callable[[Matrix], Matrix]) -> Callable[[CheckedArrays, int, int], Classifier]:
    """Boosted trees in double precision, with the library's own softmax for more than two classes."""

    def classifier(arrays: CheckedArrays, n_columns: int, n_present: int) -> Classifier:
        scores = read_boosted_scores(arrays, n_columns, n_present)
        return lambda X: _binary(scores(X)) if n_present == 2 else softmax(scores(X))

    return classifier


def read_boosted_scores(arrays: CheckedArrays, n_columns: int, n_present: int) -> Callable[[Matrix], Matrix]:
    """Boosted trees in double precision, from columns to scores of shape (n_rows, n_outputs)."""
    n_outputs = _n_outputs(n_present)
    base = arrays.get("base", "float64", n_outputs)
    trees = read_trees(arrays, "float64", n_columns, n_outputs)

    def scores(X: Matrix) -> Matrix:
        out = np.empty((len(X), n_outputs))
        out[:] = base
        trees.add_to(out, np.ascontiguousarray(X))
        return out

    return scores


def _softmax_of_scikit_learn(scores: Matrix) -> Matrix:
    # It has the scores in Fortran order, which decides the order in which a row is summed.
    return softmax(np.asfortranarray(scores))


def _softmax_of_lightgbm(scores: Matrix) -> Matrix:
    link_functions.softmax(scores)
    return scores


def read_symmetric_trees(arrays: CheckedArrays, n_columns: int, n_outputs: int = 1) -> Callable[[Matrix], Matrix]:
    """CatBoost's trees, from columns to scores (n_rows, n_outputs), as `read_trees`."""
    base = arrays.get("base", "float64", n_outputs)
    trees = read_trees(arrays, "float64", n_columns, n_outputs, values_per_leaf=n_outputs)

    def scores(X: Matrix) -> Matrix:
        out = np.zeros((len(X), n_outputs))
        # CatBoost compares values in single precision, and adds its bias last.
        trees.add_to(out, X.astype(np.float32).astype(np.float64, order="C"))
        out += base
        return out

    return scores


def _symmetric_trees(arrays: CheckedArrays, n_columns: int, n_present: int) -> Classifier:
    scores = read_symmetric_trees(arrays, n_columns, _n_outputs(n_present))
    return lambda X: _binary(scores(X)) if n_present == 2 else link_functions.softmax_of_catboost(scores(X))


def _forest(arrays: CheckedArrays, n_columns: int, n_present: int) -> Classifier:
    trees = read_trees(arrays, "float64", n_columns, n_present, values_per_leaf=n_present)
    n_trees = len(arrays.get("roots", "int32", None))

    def predict_proba(X: Matrix) -> Matrix:
        out = np.zeros((len(X), n_present))
        # scikit-learn's trees take values in single precision.
        trees.add_to(out, check_finite(X.astype(np.float32)).astype(np.float64, order="C"))
        out /= n_trees
        return out

    return predict_proba


def _prior(arrays: CheckedArrays, _: int, n_present: int) -> Classifier:
    prior = arrays.get("prior", "float64", n_present)
    return lambda X: np.ones((len(X), 1)) * prior


def read_linear_scores(arrays: CheckedArrays, n_columns: int, n_present: int) -> Callable[[Matrix], Matrix]:
    """A linear model, from columns to scores of shape (n_rows, n_outputs)."""
    n_outputs = _n_outputs(n_present)
    weights = arrays.get("weights", "float64", n_columns, n_outputs)
    offset = arrays.get("offset", "float64", n_outputs)
    return lambda X: check_finite(X) @ weights + offset


def _logistic_regression(arrays: CheckedArrays, n_columns: int, n_present: int) -> Classifier:
    scores = read_linear_scores(arrays, n_columns, n_present)
    return lambda X: _binary(scores(X)) if n_present == 2 else softmax(scores(X))


def read_layers(arrays: CheckedArrays, n_columns: int, n_outputs: int) -> Callable[[Matrix], Matrix]:
    """The layers of a neural network, from finite columns to its outputs (n_rows, n_outputs) before any link function.

    Raises
    ------
    UserError
        An array is missing or malformed.
    """
    layers = []
    sizes = [n_columns, *arrays.get("hidden_sizes", "int32", None).tolist(), n_outputs]
    for number, (n_in, n_out) in enumerate(pairwise(sizes)):
        weights = arrays.get(f"weights{number}", "float64", n_in, n_out)
        layers.append((weights, arrays.get(f"offset{number}", "float64", n_out)))

    def outputs(activations: Matrix) -> Matrix:
        for number, (weights, offset) in enumerate(layers):
            activations = activations @ weights
            activations += offset
            if number < len(layers) - 1:
                np.maximum(activations, 0, out=activations)
        return activations

    return outputs


def _mlp(arrays: CheckedArrays, n_columns: int, n_present: int) -> Classifier:
    n_outputs = _n_outputs(n_present)
    layers = read_layers(arrays, n_columns, n_outputs)

    def predict_proba(X: Matrix) -> Matrix:
        scores = layers(check_finite(X))
        return _binary(scores) if n_outputs == 1 else softmax(scores)

    return predict_proba


def softmax(scores: Matrix) -> Matrix:
    """The softmax of each row, in place, as scikit-learn and SciPy compute it."""
    scores -= scores.max(axis=1)[:, np.newaxis]
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1)[:, np.newaxis]
    return scores


def _binary(scores: Matrix) -> Matrix:
    """Probabilities of both classes from the score of the second, (n_rows, 1)."""
    second = np.ascontiguousarray(scores)
    link_functions.sigmoid(second)
    return np.hstack([1 - second, second])


# By kind: from the classifier's arrays, its number of columns, and the number of classes in its training rows.
CLASSIFIERS: dict[str, Callable[[CheckedArrays, int, int], Classifier]] = {
    "xgboost": XGBoost,
    "hist_gradient_boosting": _boosted(_softmax_of_scikit_learn),
    "lightgbm": _boosted(_softmax_of_lightgbm),
    "symmetric_trees": _symmetric_trees,
    "forest": _forest,
    "prior": _prior,
    "logistic_regression": _logistic_regression,
    "mlp": _mlp,
    "neighbours": neighbours.read_classifier,
}
