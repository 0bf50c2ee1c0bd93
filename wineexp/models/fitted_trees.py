"""The decision trees of a fitted model, of any library, as one set of arrays whose leaf values add up to its scores."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.pipeline import Pipeline
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor

from wineexp.models._catboost import symmetric_trees
from wineexp.models._lightgbm import lightgbm_trees
from wineexp.models.compiled._sklearn import boosted_trees, forest_trees, has_categorical_splits, single_tree
from wineexp.models.compiled._xgboost import BoosterError, booster_trees
from wineexp.models.compiled.flat_trees import Tree, flatten_trees
from wineexp.models.pipeline import DecidingClassifier, FixedClassesClassifier
from wineexp.models.regression import TransformingRegressor

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]

# The most by which the probabilities of a model, often in single precision, may differ from those of its trees; of
# numbers as a share of the greatest.
MAX_DIFFERENCE = 1e-5


@dataclass(frozen=True)
class FittedTrees:
    """Trees over the transformed columns.

    Attributes
    ----------
    threshold : ndarray of shape (n_nodes,)
    column : ndarray of int of shape (n_nodes,)
        Of a split; for a leaf, its row of `values`.
    left : ndarray of int of shape (n_nodes,)
        The left child, which the right one follows; -1 for a leaf.
    missing_left : ndarray of bool of shape (n_nodes,)
        Whether a missing value goes left.
    roots : ndarray of int of shape (n_trees,)
    values : ndarray of shape (n_leaves, n_outputs)
        Added up over trees and to `base`, they are the scores.
    base : ndarray of shape (n_outputs,)
    single_precision : bool
        Whether columns are rounded to float32 before they are compared.
    equal_goes_left : bool
        Whether a value that is equal to the threshold goes left.
    link : str
        From scores to probabilities: `identity`, `sigmoid` (one score, of the second class) or `softmax`.
    present : ndarray of int of shape (n_present,)
        Positions of the model's classes among all `n_classes`; of numbers, which are scores themselves, 0 of 1.
    n_classes : int
    """

    threshold: Floats
    column: Integers
    left: Integers
    missing_left: npt.NDArray[np.bool_]
    roots: Integers
    values: Floats
    base: Floats
    single_precision: bool
    equal_goes_left: bool
    link: str
    present: npt.NDArray[np.intp]
    n_classes: int

    def as_compared(self, columns: npt.NDArray[Any]) -> Floats:
        """Columns of any shape as the trees compare them."""
        values = columns.astype(np.float32) if self.single_precision else columns
        return np.asarray(values, dtype=np.float64)

    def goes_left(self, values: Floats, threshold: Floats) -> npt.NDArray[np.bool_]:
        """Whether values of `as_compared` that are not missing go left."""
        return values <= threshold if self.equal_goes_left else values < threshold

    def scores(self, columns: Floats) -> Floats:
        """Scores of shape (n_rows, n_outputs) from transformed columns of shape (n_rows, n_columns)."""
        values, rows = self.as_compared(columns), np.arange(len(columns))
        node = np.repeat(self.roots[:, None], len(columns), axis=1)
        while (is_split := self.left[node] >= 0).any():
            cell = values[rows, np.where(is_split, self.column[node], 0)]
            left = np.where(np.isnan(cell), self.missing_left[node], self.goes_left(cell, self.threshold[node]))
            node = np.where(is_split, self.left[node] + ~left, node)
        return np.asarray(self.values[self.column[node]].sum(axis=0) + self.base)

    def probabilities(self, scores: Floats) -> Floats:
        """Of all classes, of shape (..., n_classes), from scores of shape (..., n_outputs)."""
        probabilities = np.zeros((*scores.shape[:-1], self.n_classes))
        probabilities[..., self.present] = apply_link(self.link, scores)
        return probabilities


def apply_link(link: str, scores: Floats) -> Floats:
    """Probabilities of shape (..., n_present) from scores of shape (..., n_outputs); see `FittedTrees.link`."""
    if link == "softmax":
        return np.asarray(softmax(scores, axis=-1))
    if link == "sigmoid":
        second = expit(scores[..., 0])
        return np.stack([1 - second, second], axis=-1)
    return scores


def fitted_trees(fitted: Pipeline, columns: Floats, outputs: Floats) -> FittedTrees | None:
    """The trees of a pipeline, if the model's probabilities or numbers are those of the trees.

    A model that learns only decisions, from the probabilities of a forest, has the forest's trees.

    Parameters
    ----------
    fitted : Pipeline
        Of `make_pipeline` in `wineexp.models.pipeline` or `wineexp.models.regression`.
    columns : ndarray of shape (n_rows, n_columns)
        Transformed columns of some rows.
    outputs : ndarray of shape (n_rows, n_classes) or (n_rows, 1)
        What the model predicts for these rows.

    Returns
    -------
    FittedTrees or None
        None for a model of another kind, and for one with settings that make more of its trees than is read here.
    """
    model: FixedClassesClassifier | TransformingRegressor = fitted[-1]
    estimator = model.estimator_
    while isinstance(estimator, DecidingClassifier):
        estimator = estimator.estimator_
    if isinstance(model, TransformingRegressor):
        present, n_classes, unit = np.array([0]), 1, float(np.abs(outputs).max()) or 1.0
    else:
        present, n_classes, unit = model.present_, len(model.classes_), 1.0
        if len(present) < 2 or not np.array_equal(estimator.classes_, np.arange(len(present))):
            return None
    read = next((read for names, read in READERS if type(estimator).__name__ in names), None)
    parts = read(estimator) if read else None
    if parts is None or not parts[0]:
        return None
    trees, groups, base, link, settings = parts
    arrays = flatten_trees(trees, groups, np.float64)
    read_trees = FittedTrees(
        threshold=arrays["threshold"],
        column=arrays["feature"],
        left=arrays["left"],
        missing_left=arrays["missing_left"],
        roots=arrays["roots"],
        values=_values_of_outputs(trees, groups, arrays["values"], len(base)),
        base=base,
        link="identity" if isinstance(model, TransformingRegressor) else link,
        present=present,
        n_classes=n_classes,
        **settings,
    )
    computed = read_trees.probabilities(read_trees.scores(columns))
    return read_trees if np.allclose(computed, outputs, rtol=0, atol=MAX_DIFFERENCE * unit) else None


def _values_of_outputs(trees: list[Tree], groups: Integers, values: Floats, n_outputs: int) -> Floats:
    """Leaf values in a column for each output, from those of the one output to which a boosted tree adds."""
    if values.shape[1] == n_outputs:
        return values
    placed = np.zeros((len(values), n_outputs))
    n_leaves = [int((tree.left < 0).sum()) for tree in trees]
    placed[np.arange(len(values)), np.repeat(groups, n_leaves)] = values[:, 0]
    return placed


# Trees, the output of each, base, link, and how columns are compared.
Parts = tuple[list[Tree], Integers, Floats, str, dict[str, bool]]


def _forest(estimator: Any) -> Parts:
    trees = [single_tree(estimator)] if hasattr(estimator, "tree_") else forest_trees(estimator)
    # A forest's probabilities are the mean over its trees.
    trees = [tree._replace(values=tree.values / len(trees)) for tree in trees]
    n_outputs = trees[0].values.shape[1]
    settings = {"single_precision": True, "equal_goes_left": True}
    return trees, np.zeros(len(trees), dtype=np.int32), np.zeros(n_outputs), "identity", settings


def _hist_gradient_boosting(estimator: Any) -> Parts | None:
    if has_categorical_splits(estimator):
        return None
    trees, groups, base = boosted_trees(estimator)
    return trees, groups, base, link_of(len(base)), {"single_precision": False, "equal_goes_left": True}


def _xgboost(estimator: Any) -> Parts | None:
    try:
        booster = booster_trees(estimator.get_booster())
    except BoosterError:
        return None
    base = booster.base.astype(np.float64)
    return booster.trees, booster.groups, base, link_of(len(base)), {"single_precision": True, "equal_goes_left": False}


def _lightgbm(estimator: Any) -> Parts | None:
    read = lightgbm_trees(estimator)
    if read is None:
        return None
    settings = {"single_precision": False, "equal_goes_left": True}
    return read.trees, read.groups, np.zeros(read.n_outputs), link_of(read.n_outputs), settings


def _catboost(estimator: Any) -> Parts | None:
    read = symmetric_trees(estimator)
    if read is None:
        return None
    trees, base = read
    settings = {"single_precision": True, "equal_goes_left": True}
    return trees, np.zeros(len(trees), dtype=np.int32), base, link_of(len(base)), settings


def link_of(n_outputs: int) -> str:
    """The link of a model with so many scores that are no probabilities."""
    return "softmax" if n_outputs > 1 else "sigmoid"


FORESTS = (
    *(RandomForestClassifier, ExtraTreesClassifier, DecisionTreeClassifier, ExtraTreeClassifier),
    *(RandomForestRegressor, ExtraTreesRegressor, DecisionTreeRegressor, ExtraTreeRegressor),
)

# By the names of types, since not every library is installed.
READERS: list[tuple[set[str], Callable[[Any], Parts | None]]] = [
    ({kind.__name__ for kind in FORESTS}, _forest),
    ({HistGradientBoostingClassifier.__name__, HistGradientBoostingRegressor.__name__}, _hist_gradient_boosting),
    ({"XGBClassifier", "PrunedXGBClassifier", "XGBRegressor"}, _xgboost),
    ({"LGBMClassifier", "LGBMRegressor"}, _lightgbm),
    ({"CatBoostClassifier", "CatBoostRegressor"}, _catboost),
]
