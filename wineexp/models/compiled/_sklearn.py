"""What compiling relies on of scikit-learn beyond its public names; tests/models/compiled/test_sklearn.py checks it."""

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from wineexp.models.compiled.arrays import Array
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


def has_categorical_splits(estimator: HistGradientBoostingClassifier) -> bool:
    """Whether a fitted estimator treats a feature as categorical."""
    return estimator.is_categorical_ is not None


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
