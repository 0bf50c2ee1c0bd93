"""Models over plain arrays: from the columns that the feature steps give to probabilities."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from wineexp.core.errors import UserError
from wineexp.models.compiled import links
from wineexp.models.compiled.steps import Array, Arrays, Numbers, finite
from wineexp.models.compiled.walk import Walk

# Probabilities of the classes that the training rows held, (n_rows, n_present).
Model = Callable[[Numbers], Numbers]


def trees(arrays: Arrays, kind: str, columns: int, outputs: int, width: int = 1) -> Walk:
    """Trees that end whatever they are asked: children come after their parents.

    Raises
    ------
    UserError
        An array is missing or no such array, or a node leads elsewhere.
    """
    threshold = arrays.take("threshold", kind, None)
    nodes = len(threshold)
    feature, left = arrays.take("feature", "int32", nodes), arrays.take("left", "int32", nodes)
    missing_left = arrays.take("missing_left", "bool", nodes)
    values = arrays.take("values", kind, None, width)
    roots = arrays.places("roots", nodes, None)
    groups = arrays.places("groups", outputs - width + 1, len(roots))
    inner = left >= 0
    first = left[inner].astype(np.int64)
    children = np.concatenate([first, first + 1])
    # No node has two parents, or a tree of few nodes would be a walk without end.
    led = (
        (first > np.flatnonzero(inner)).all() and (children < nodes).all() and _once(np.concatenate([children, roots]))
    )
    asked = (feature >= 0) & (feature < np.where(inner, columns, len(values)))
    # A leaf whose value were no number would not hold the walk in C.
    if not np.isfinite(values).all():
        raise UserError("a tree of its compiled form has a value that is no number")
    if not (columns and led and asked.all()):
        raise UserError("a tree of its compiled form leads to a node, a column or a value that is not there")
    return Walk(threshold, feature, left, missing_left, roots, groups, values, columns, outputs)


def _once(places: Array) -> bool:
    """Whether no place is named twice."""
    return len(np.unique(places)) == len(places)


class XGBoost:
    """XGBoost's trees with its link.

    Attributes
    ----------
    base : ndarray of float32 of shape (n_outputs,)
        What each sum starts from.
    walk : Walk
    """

    def __init__(self, arrays: Arrays, columns: int, present: int) -> None:
        outputs = 1 if present == 2 else present
        self.base = arrays.take("base", "float32", outputs)
        self.walk = trees(arrays, "float32", columns, outputs)

    def __call__(self, X: Numbers) -> Numbers:
        """Probabilities."""
        out = np.empty((len(X), len(self.base)), dtype=np.float32)
        out[:] = self.base
        self.walk.add(np.ascontiguousarray(X), out)
        if len(self.base) > 1:
            links.softmax(out)
            return out.astype(np.float64)
        links.sigmoid(out)
        return np.hstack([np.float32(1) - out, out]).astype(np.float64)


def _boosted(arrays: Arrays, columns: int, present: int) -> Model:
    outputs = 1 if present == 2 else present
    base = arrays.take("base", "float64", outputs)
    walk = trees(arrays, "float64", columns, outputs)

    def model(X: Numbers) -> Numbers:
        out = np.empty((len(X), outputs))
        out[:] = base
        walk.add(np.ascontiguousarray(X), out)
        if outputs > 1:
            # scikit-learn keeps them column by column, which decides in what order a row is summed.
            return _softmax(np.asfortranarray(out))
        links.sigmoid(out)
        return np.hstack([1 - out, out])

    return model


def _forest(arrays: Arrays, columns: int, present: int) -> Model:
    walk = trees(arrays, "float64", columns, present, width=present)
    count = len(arrays.take("roots", "int32", None))

    def model(X: Numbers) -> Numbers:
        out = np.zeros((len(X), present))
        walk.add(finite(X.astype(np.float32)).astype(np.float64, order="C"), out)
        out /= count
        return out

    return model


def _constant(arrays: Arrays, _: int, present: int) -> Model:
    shares = arrays.take("shares", "float64", present)
    return lambda X: np.ones((len(X), 1)) * shares


def _linear(arrays: Arrays, columns: int, present: int) -> Model:
    outputs = 1 if present == 2 else present
    weights, offset = arrays.take("weights", "float64", columns, outputs), arrays.take("offset", "float64", outputs)

    def model(X: Numbers) -> Numbers:
        scores = finite(X) @ weights + offset
        return _two(scores) if outputs == 1 else _softmax(scores)

    return model


def _layers(arrays: Arrays, columns: int, present: int) -> Model:
    outputs = 1 if present == 2 else present
    layers = []
    sizes = [columns, *arrays.take("hidden", "int32", None).tolist(), outputs]
    for number, (before, after) in enumerate(pairwise(sizes)):
        weights = arrays.take(f"weights{number}", "float64", before, after)
        layers.append((weights, arrays.take(f"offset{number}", "float64", after)))

    def model(X: Numbers) -> Numbers:
        active = finite(X)
        for number, (weights, offset) in enumerate(layers):
            active = active @ weights
            active += offset
            if number < len(layers) - 1:
                np.maximum(active, 0, out=active)
        return _two(active) if outputs == 1 else _softmax(active)

    return model


def _softmax(scores: Numbers) -> Numbers:
    """In place, over the rows, as scikit-learn does it."""
    scores -= scores.max(axis=1)[:, np.newaxis]
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1)[:, np.newaxis]
    return scores


def _two(scores: Numbers) -> Numbers:
    """Both classes' probabilities from the score of the second, (n_rows, 1)."""
    second = np.ascontiguousarray(scores)
    links.sigmoid(second)
    return np.hstack([1 - second, second])


MODELS: dict[str, Callable[[Arrays, int, int], Model]] = {
    "xgboost": XGBoost,
    "boosted": _boosted,
    "forest": _forest,
    "constant": _constant,
    "linear": _linear,
    "layers": _layers,
}
