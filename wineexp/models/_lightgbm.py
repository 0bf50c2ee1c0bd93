"""What explanations and compiling rely on of LightGBM's model dumps."""

from typing import Any, NamedTuple

import numpy as np

from wineexp.models.compiled.arrays import Array
from wineexp.models.compiled.category_splits import Splits, split_by_sides
from wineexp.models.compiled.flat_trees import Tree

# Of the nodes of a dump, whether a split is of categories or of numbers.
OF_CATEGORIES, OF_NUMBERS = "==", "<="
# LightGBM takes a number that is no further from 0 than this for 0, where it predicts.
ZERO = float(np.float32(1e-35))


class LightGBMTrees(NamedTuple):
    """The trees of a model.

    Attributes
    ----------
    trees : list of Tree
    groups : ndarray of int32 of shape (n_trees,)
        The output to which each tree adds.
    n_outputs : int
    sides : tuple of ndarrays
        Where categories are split, as `split_by_sides` gives them.
    """

    trees: list[Tree]
    groups: Array
    n_outputs: int
    sides: tuple[Array, ...] = ()


def lightgbm_trees(estimator: Any, *, with_categories: bool = False) -> LightGBMTrees | None:
    """The trees of a fitted LGBMClassifier or LGBMRegressor.

    None where it has another objective, averages its trees, or has splits on zero as missing, or on categories where it
    should have none.

    Parameters
    ----------
    estimator : LGBMClassifier or LGBMRegressor
    with_categories : bool
        Whether it was fitted on columns of numbers, followed by columns of categories; its trees' columns are then
        those of `split_by_sides`.
    """
    dump = estimator.booster_.dump_model()
    # Of one class against all others the name is multiclassova, and the sigmoid may be another one.
    objective = dump.get("objective", "").split()
    is_known = objective[:1] == ["multiclass"] or objective in (["binary", "sigmoid:1"], ["regression"])
    if not is_known or dump["average_output"]:
        return None
    n_outputs = dump["num_tree_per_iteration"]
    known_splits = (OF_NUMBERS, OF_CATEGORIES) if with_categories else (OF_NUMBERS,)
    n_categories = [len(known) for known in estimator.booster_.pandas_categorical] if with_categories else []
    n_numbers = dump["max_feature_idx"] + 1 - len(n_categories) if with_categories else 0
    trees, splits_of_categories = [], []
    for info in dump["tree_info"]:
        nodes = _nodes(info["tree_structure"])
        splits = [node for node in nodes if "split_feature" in node]
        if any(node["decision_type"] not in known_splits or node["missing_type"] == "Zero" for node in splits):
            return None
        splits_of_categories.append(_category_splits(nodes, n_categories, n_numbers))
        positions = {id(node): position for position, node in enumerate(nodes)}
        trees.append(
            Tree(
                left=np.array([positions.get(id(node.get("left_child")), -1) for node in nodes]),
                right=np.array([positions.get(id(node.get("right_child")), -1) for node in nodes]),
                feature=np.array([node.get("split_feature", 0) for node in nodes]),
                threshold=np.array([_threshold(node) for node in nodes]),
                missing_left=np.array([_missing_goes_left(node) for node in nodes]),
                values=np.array([[float(node.get("leaf_value", 0))] for node in nodes]),
            )
        )
    groups = (np.arange(len(trees)) % n_outputs).astype(np.int32)
    if not with_categories:
        return LightGBMTrees(trees, groups, n_outputs)
    trees, sides = split_by_sides(trees, splits_of_categories, n_categories, n_numbers=n_numbers)
    return LightGBMTrees(trees, groups, n_outputs, tuple(sides))


def _nodes(root: dict[str, Any]) -> list[dict[str, Any]]:
    nodes = [root]
    for node in nodes:
        if "split_feature" in node:
            nodes += [node["left_child"], node["right_child"]]
    return nodes


def _category_splits(nodes: list[dict[str, Any]], n_categories: list[int], n_numbers: int) -> Splits:
    """The splits of categories of a tree: those that are listed go left, and all else, missing values too, right."""
    splits = {}
    for number, node in enumerate(nodes):
        if node.get("decision_type") == OF_CATEGORIES:
            column = node["split_feature"] - n_numbers
            goes_right = np.ones(n_categories[column] + 1, dtype=np.uint8)
            goes_right[[int(code) for code in node["threshold"].split("||")]] = 0
            splits[number] = column, goes_right
    return splits


def _threshold(node: dict[str, Any]) -> float:
    """Of a split of numbers, with those that count as 0 on the side of 0; 0 for leaves and for splits of categories."""
    if node.get("decision_type") != OF_NUMBERS:
        return 0.0
    threshold = float(node["threshold"])
    if abs(threshold) > ZERO:
        return threshold
    return ZERO if threshold >= 0 else float(np.nextafter(-ZERO, -np.inf))


def _missing_goes_left(node: dict[str, Any]) -> bool:
    if node.get("decision_type") == OF_CATEGORIES:
        return False
    # Where training missed no value of the column, a missing one counts as 0.
    if node.get("missing_type") == "None":
        return bool(node["threshold"] >= 0)
    return bool(node.get("default_left", False))
