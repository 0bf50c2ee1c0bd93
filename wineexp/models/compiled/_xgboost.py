"""What compiling relies on of XGBoost's JSON model files; tests/models/compiled/test_xgboost.py checks it."""

import json
from typing import Any, NamedTuple

import numpy as np

from wineexp.models.compiled import link_functions
from wineexp.models.compiled.arrays import Array
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
    """

    trees: list[Tree]
    groups: Array
    base: Array


def booster_trees(booster: Any) -> BoosterTrees:
    """The trees of a fitted `xgboost.Booster`.

    Raises
    ------
    BoosterError
        The booster is no gbtree, has another objective than those in `OBJECTIVES`, or categorical splits.
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
        if tree["categories"]:
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
    return BoosterTrees(trees, groups, np.broadcast_to(base, n_outputs).copy())
