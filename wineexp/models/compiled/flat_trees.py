"""Trees of any library as the arrays of `TreeEnsemble`."""

from typing import Any, NamedTuple

import numpy as np

from wineexp.models.compiled.arrays import Array


class Tree(NamedTuple):
    """One tree.

    Attributes
    ----------
    left, right : ndarray of int of shape (n_nodes,)
        Children; -1 for a leaf.
    feature : ndarray of int of shape (n_nodes,)
    threshold : ndarray of shape (n_nodes,)
    missing_left : ndarray of bool of shape (n_nodes,)
        Whether a missing value goes left.
    values : ndarray of shape (n_nodes, values_per_leaf)
        Those of splits are not used.
    """

    left: Array
    right: Array
    feature: Array
    threshold: Array
    missing_left: Array
    values: Array


def flatten_trees(trees: list[Tree], groups: Array, dtype: Any) -> dict[str, Array]:
    """The arrays of all trees together.

    The nodes of each tree are put in order of their level, so that children come after their parents, and a right child
    follows its left sibling.

    Parameters
    ----------
    trees : list of Tree
    groups : ndarray of int32 of shape (n_trees,)
        The first output to which each tree adds.
    dtype : numpy type
        Of thresholds and values.
    """
    names = ("threshold", "feature", "left", "missing_left", "values")
    parts: dict[str, list[Array]] = {name: [] for name in names}
    roots, n_nodes, n_leaves = [], 0, 0
    for tree in trees:
        order = _by_level(tree)
        position = np.empty(len(tree.left), dtype=np.int64)
        position[order] = np.arange(len(order))
        is_split = tree.left[order] >= 0
        value_rows = np.cumsum(~is_split) - 1 + n_leaves
        parts["left"].append(np.where(is_split, position[tree.left[order]] + n_nodes, -1).astype(np.int32))
        parts["feature"].append(np.where(is_split, tree.feature[order], value_rows).astype(np.int32))
        parts["threshold"].append(np.where(is_split, tree.threshold[order], 0).astype(dtype))
        parts["missing_left"].append(is_split & tree.missing_left[order])
        parts["values"].append(tree.values[order][~is_split].astype(dtype))
        roots.append(n_nodes)
        n_nodes, n_leaves = n_nodes + len(order), n_leaves + int((~is_split).sum())
    arrays = {name: np.concatenate(part) for name, part in parts.items()}
    return arrays | {"roots": np.array(roots, dtype=np.int32), "groups": groups}


def _by_level(tree: Tree) -> Array:
    """The nodes of a tree from the root down, level by level."""
    levels = [np.array([0])]
    while len(splits := levels[-1][tree.left[levels[-1]] >= 0]):
        levels.append(np.stack([tree.left[splits], tree.right[splits]], axis=1).reshape(-1))
    return np.concatenate(levels)
