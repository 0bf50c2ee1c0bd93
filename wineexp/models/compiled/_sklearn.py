"""What compiling relies on of scikit-learn beyond its public names; tests/models/compiled/test_sklearn.py checks it."""

from typing import Any, NamedTuple

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier

from wineexp.models.compiled.arrays import Array
from wineexp.models.compiled.category_splits import split_by_sides
from wineexp.models.compiled.flat_trees import Tree


def forest_trees(estimator: RandomForestClassifier | ExtraTreesClassifier) -> list[Tree]:
    """The trees of a fitted forest, whose values are the shares of the classes in each node."""
    return [single_tree(member) for member in estimator.estimators_]


def single_tree(estimator: DecisionTreeClassifier) -> Tree:
    """A fitted tree, whose values are the shares of the classes in each node."""
    tree = estimator.tree_
    return Tree(
        left=tree.children_left,
        right=tree.children_right,
        feature=tree.feature,
        threshold=tree.threshold,
        missing_left=np.asarray(tree.missing_go_to_left) != 0,
        values=tree.value[:, 0],
    )


def gamma(estimator: SVC | SVR) -> float:
    """The factor of the squared distances in the kernel of a fitted support vector machine."""
    return float(estimator._gamma)


class NeighbourSearch(NamedTuple):
    """How a fitted model finds nearest training rows.

    Attributes
    ----------
    method : str
        `kd_tree`, `ball_tree` or `brute`.
    tree : KDTree, BallTree or None
    targets : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Codes of classes, or numbers.
    """

    method: str
    tree: Any
    targets: Array


def neighbour_search(estimator: KNeighborsClassifier | KNeighborsRegressor) -> NeighbourSearch:
    """How a fitted model finds the nearest training rows, and what it has learned of these."""
    return NeighbourSearch(estimator._fit_method, estimator._tree, estimator._y)


def calibrators(estimator: CalibratedClassifierCV) -> list[tuple[Any, list[Any]]]:
    """Each fitted classifier within, with what calibrates its predictions: one object for each of them, or for all."""
    return [(one.estimator, one.calibrators) for one in estimator.calibrated_classifiers_]


def has_categorical_splits(estimator: HistGradientBoostingClassifier) -> bool:
    """Whether a fitted estimator treats a feature as categorical."""
    return estimator.is_categorical_ is not None


def categorical_splits(estimator: HistGradientBoostingClassifier) -> tuple[list[Tree], Array, Array, list[Array]]:
    """As `boosted_trees`, of an estimator with categories; columns and sides are those of `split_by_sides`."""
    # The estimator puts the columns of categories first.
    encoder = estimator._preprocessor.named_transformers_["encoder"]
    n_categories = [len(known) - int(np.isnan(known[-1])) for known in encoder.categories_]
    splits = []
    for predictor in (predictor for iteration in estimator._predictors for predictor in iteration):
        nodes, of_tree = predictor.nodes, {}
        for number in np.flatnonzero(nodes["is_categorical"] & ~nodes["is_leaf"]).tolist():
            column = int(nodes["feature_idx"][number])
            words = predictor.raw_left_cat_bitsets[nodes["bitset_idx"][number]]
            goes_left = np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little")[: n_categories[column]]
            of_tree[number] = column, 1 - np.append(goes_left, nodes["missing_go_to_left"][number])
        splits.append(of_tree)
    trees, groups, base = boosted_trees(estimator)
    trees = [tree._replace(feature=tree.feature.astype(np.int64) - len(n_categories)) for tree in trees]
    n_numbers = len(estimator.is_categorical_) - len(n_categories)
    changed, sides = split_by_sides(trees, splits, n_categories, n_numbers=n_numbers)
    return changed, groups, base, sides


def boosted_trees(estimator: HistGradientBoostingClassifier) -> tuple[list[Tree], Array, Array]:
    """The trees of a fitted estimator, the output of each, and the scores before them, of shape (n_outputs,)."""
    trees = []
    groups = []
    for iteration in estimator._predictors:
        for group, predictor in enumerate(iteration):
            nodes = predictor.nodes
            is_leaf = nodes["is_leaf"] != 0
            trees.append(
                Tree(
                    left=np.where(is_leaf, -1, nodes["left"].astype(np.int64)),
                    right=np.where(is_leaf, -1, nodes["right"].astype(np.int64)),
                    feature=nodes["feature_idx"],
                    threshold=nodes["num_threshold"],
                    missing_left=nodes["missing_go_to_left"] != 0,
                    values=nodes["value"][:, None],
                )
            )
            groups.append(group)
    base = np.asarray(estimator._baseline_prediction, dtype=np.float64).reshape(-1)
    return trees, np.array(groups, dtype=np.int32), base
