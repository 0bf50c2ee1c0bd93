"""Trees whose thresholds are replaced by their ranks among those of the same column, for kernel.c's block traversal.

A split then fits into four bytes, and the kernel evaluates it for a block of rows with a few vector instructions. Only
trees with few leaves, over columns with few distinct thresholds, can be written so.
"""

import itertools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Integers = npt.NDArray[np.int32]

# As in kernel.c: each fits into a byte.
MAX_LEAVES, MAX_RANKS, MAX_RANKED_COLUMNS = 128, 256, 256

# Block traversal is used where at least this share of the trees has ranks; the others are descended row by row.
MIN_RANKED_SHARE = 0.75

# `struct split` of kernel.c.
SPLIT = np.dtype([(name, np.uint8) for name in ("column", "rank", "left", "right")])


class RankedTrees(NamedTuple):
    """The arrays of `struct trees` in kernel.c that block traversal needs, in its order."""

    splits: npt.NDArray[np.void]
    n_splits: Integers
    first_splits: Integers
    first_leaves: Integers
    leaves: Floats
    thresholds: Floats
    first_thresholds: Integers


def rank_trees(
    threshold: Floats,
    feature: Integers,
    left: Integers,
    roots: Integers,
    leaf_values: Floats,
    owners: Integers,
    n_columns: int,
) -> RankedTrees | None:
    """Trees with ranks; None where too few of them can have any.

    Parameters
    ----------
    threshold, feature, left : ndarray of shape (n_nodes,)
        As in `TreeEnsemble`.
    roots : ndarray of shape (n_trees,)
    leaf_values : ndarray of shape (n_nodes,)
        For each leaf its value, or the index of its values.
    owners : ndarray of shape (n_nodes,)
        The tree of each node; -1 for a node of no tree.
    n_columns : int
    """
    is_split = (left >= 0) & (owners >= 0)
    is_leaf = (left < 0) & (owners >= 0)
    n_splits = np.bincount(owners[is_split], minlength=len(roots))
    is_ranked = n_splits < MAX_LEAVES
    # NaN has no rank.
    candidates = np.flatnonzero(is_split & is_ranked[owners] & (feature < MAX_RANKED_COLUMNS) & ~np.isnan(threshold))
    candidates = candidates[np.argsort(feature[candidates], kind="stable")]
    thresholds, rank = [], np.full(len(left), MAX_RANKS)
    bounds = np.searchsorted(feature[candidates], np.arange(min(n_columns, MAX_RANKED_COLUMNS) + 1))
    for start, end in itertools.pairwise(bounds):
        of_column = candidates[start:end]
        distinct, ranks = np.unique(threshold[of_column], return_inverse=True)
        if len(distinct) < MAX_RANKS:
            rank[of_column] = ranks
        thresholds.append(distinct if len(distinct) < MAX_RANKS else distinct[:0])
    is_ranked[owners[is_split & (rank == MAX_RANKS)]] = False
    if is_ranked.mean() < MIN_RANKED_SHARE:
        return None
    is_split &= is_ranked[owners]
    is_leaf &= is_ranked[owners]
    # Tree by tree, the nodes of each in their order, in which children come after their parents.
    splits, leaves = (
        np.flatnonzero(chosen)[np.argsort(owners[chosen], kind="stable")] for chosen in (is_split, is_leaf)
    )
    first_splits, first_leaves = (np.searchsorted(owners[nodes], np.arange(len(roots))) for nodes in (splits, leaves))
    # What a parent stores for a child: see `struct split` in kernel.c.
    number = np.zeros(len(left), dtype=np.int64)
    number[splits] = np.arange(len(splits)) - first_splits[owners[splits]] + MAX_LEAVES
    number[leaves] = np.arange(len(leaves)) - first_leaves[owners[leaves]]
    structs = np.empty(len(splits), dtype=SPLIT)
    structs["column"], structs["rank"] = feature[splits], rank[splits]
    structs["left"], structs["right"] = number[left[splits]], number[left[splits] + 1]
    return RankedTrees(
        structs,
        np.where(is_ranked, n_splits, -1).astype(np.int32),
        first_splits.astype(np.int32),
        first_leaves.astype(np.int32),
        leaf_values[leaves],
        np.concatenate(thresholds),
        np.array([0, *itertools.accumulate(map(len, thresholds))], dtype=np.int32),
    )
