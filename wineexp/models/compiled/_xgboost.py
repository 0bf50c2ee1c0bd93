"""What compiling relies on of XGBoost's JSON model files; tests/models/compiled/test_xgboost.py checks it."""

import json
from typing import Any, NamedTuple

import numpy as np

from wineexp.models.compiled import link_functions
from wineexp.models.compiled.arrays import Array
from wineexp.models.compiled.category_splits import Splits, split_by_sides
from wineexp.models.compiled.flat_trees import Tree

# Of probabilities, and of numbers, which are the sum of the trees as it is.
OBJECTIVES = ("multi:softprob", "binary:logistic", "reg:squarederror", "reg:absoluteerror")


class BoosterError(Exception):
    """A booster has what cannot be compiled; the message names it."""


class BoosterTrees(NamedTuple):
    """The trees of a booster.

    Attributes
    ----------
    trees : list of Tree
        Up to the best iteration, where training stopped early.
    groups : ndarray of int32 of shape (n_trees,)
        The output to which each tree adds.
    base : ndarray of float32 of shape (n_outputs,)
        The scores before the trees.
    sides : tuple of ndarrays
        Where categories are split, as `split_by_sides` gives them.
    """

    trees: list[Tree]
    groups: Array
    base: Array
    sides: tuple[Array, ...] = ()


def booster_trees(booster: Any, *, with_categories: bool = False) -> BoosterTrees:
    """The trees of a fitted `xgboost.Booster`.

    Parameters
    ----------
    booster : xgboost.Booster
    with_categories : bool
        Whether it was fitted on columns of numbers, followed by columns of categories; its trees' columns are then
        those of `split_by_sides`.

    Raises
    ------
    BoosterError
        The booster is no gbtree, has another objective than those in `OBJECTIVES`, or splits of categories where it
        should have none.
    """
    learner = json.loads(booster.save_raw("json"))["learner"]
    objective, kind = learner["objective"]["name"], learner["gradient_booster"]["name"]
    if kind != "gbtree" or objective not in OBJECTIVES:
        raise BoosterError(f"an XGBoost model with booster {kind} and objective {objective} cannot be compiled")
    model = learner["gradient_booster"]["model"]
    best_iteration = getattr(booster, "best_iteration", None)
    n_rounds = len(model["iteration_indptr"]) - 1 if best_iteration is None else best_iteration + 1
    n_trees = model["iteration_indptr"][n_rounds]
    trees = []
    for tree in model["trees"][:n_trees]:
        if tree["categories"] and not with_categories:
            raise BoosterError("an XGBoost model with categorical splits cannot be compiled")
        # A leaf has its value where a split has its threshold.
        conditions = np.array(tree["split_conditions"], dtype=np.float32)
        trees.append(
            Tree(
                left=np.array(tree["left_children"]),
                right=np.array(tree["right_children"]),
                feature=np.array(tree["split_indices"]),
                threshold=conditions,
                missing_left=np.array(tree["default_left"]) != 0,
                values=conditions[:, None],
            )
        )
    base = np.array(json.loads(learner["learner_model_param"]["base_score"]), dtype=np.float32).reshape(-1)
    n_outputs = int(learner["learner_model_param"]["num_class"]) or 1
    if objective == "binary:logistic":
        # The base score of this objective is stored as a probability.
        base = np.array([link_functions.logit(probability) for probability in base], dtype=np.float32)
        n_outputs = 1
    groups = np.array(model["tree_info"][:n_trees], dtype=np.int32)
    base = np.broadcast_to(base, n_outputs).copy()
    if not with_categories:
        return BoosterTrees(trees, groups, base)
    n_categories = [len(known["values"]) for known in model["cats"]["enc"] if known["values"]]
    n_numbers = int(learner["learner_model_param"]["num_feature"]) - len(n_categories)
    splits = [_category_splits(tree, n_categories, n_numbers) for tree in model["trees"][:n_trees]]
    trees, sides = split_by_sides(trees, splits, n_categories, n_numbers=n_numbers)
    return BoosterTrees(trees, groups, base, tuple(sides))


def _category_splits(tree: dict[str, Any], n_categories: list[int], n_numbers: int) -> Splits:
    """The splits of categories of a tree as XGBoost stores it: those that are listed go right."""
    splits = {}
    parts = zip(tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True)
    for node, start, size in parts:
        column = tree["split_indices"][node] - n_numbers
        goes_right = np.zeros(n_categories[column] + 1, dtype=np.uint8)
        goes_right[tree["categories"][start : start + size]] = 1
        goes_right[-1] = not tree["default_left"][node]
        splits[node] = column, goes_right
    return splits
