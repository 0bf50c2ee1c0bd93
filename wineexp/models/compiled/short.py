"""Trees in short, as kernel.c asks them for a block of rows: a threshold is its place among those of its column."""

import itertools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Reals = npt.NDArray[np.floating]
Places = npt.NDArray[np.int32]

# As in kernel.c; a place is a byte.
LEAVES, RANKED = 128, 256

# The share of the trees that must have a short form: the others are asked one by one.
MOST = 0.75

SPLIT = np.dtype([(name, np.uint8) for name in ("column", "rank", "left", "right")])


class Short(NamedTuple):
    """The arrays of kernel.c, in its order."""

    splits: npt.NDArray[np.void]
    sizes: Places
    first_splits: Places
    first_leaves: Places
    leaves: Reals
    limits: Reals
    first_limits: Places


def short(
    threshold: Reals, feature: Places, left: Places, roots: Places, told: Reals, owners: Places, columns: int
) -> Short | None:
    """The short form of trees, of which `told` (n_nodes,) has what each leaf tells; None where too few have one."""
    inner = (left >= 0) & (owners >= 0)
    leaf = (left < 0) & (owners >= 0)
    counts = np.bincount(owners[inner], minlength=len(roots))
    fits = counts < LEAVES
    # A threshold that is no number has no place among the others.
    placed = np.flatnonzero(inner & fits[owners] & (feature < RANKED) & ~np.isnan(threshold))
    placed = placed[np.argsort(feature[placed], kind="stable")]
    limits, rank = [], np.full(len(left), RANKED)
    bounds = np.searchsorted(feature[placed], np.arange(min(columns, RANKED) + 1))
    for start, end in itertools.pairwise(bounds):
        some = placed[start:end]
        values, places = np.unique(threshold[some], return_inverse=True)
        if len(values) < RANKED:
            rank[some] = places
        limits.append(values if len(values) < RANKED else values[:0])
    fits[owners[inner & (rank == RANKED)]] = False
    if fits.mean() < MOST:
        return None
    inner &= fits[owners]
    leaf &= fits[owners]
    # Tree by tree, each in the order in which its nodes lie: children come after their parents.
    splits, ends = (np.flatnonzero(some)[np.argsort(owners[some], kind="stable")] for some in (inner, leaf))
    first_splits, first_leaves = (np.searchsorted(owners[some], np.arange(len(roots))) for some in (splits, ends))
    number = np.zeros(len(left), dtype=np.int64)
    number[splits] = np.arange(len(splits)) - first_splits[owners[splits]] + LEAVES
    number[ends] = np.arange(len(ends)) - first_leaves[owners[ends]]
    found = np.empty(len(splits), dtype=SPLIT)
    found["column"], found["rank"] = feature[splits], rank[splits]
    found["left"], found["right"] = number[left[splits]], number[left[splits] + 1]
    return Short(
        found,
        np.where(fits, counts, -1).astype(np.int32),
        first_splits.astype(np.int32),
        first_leaves.astype(np.int32),
        told[ends],
        np.concatenate(limits),
        np.array([0, *itertools.accumulate(map(len, limits))], dtype=np.int32),
    )
