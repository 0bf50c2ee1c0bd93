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
    # A threshold that is no number has no place among the others.
    placed = inner & (feature < RANKED) & ~np.isnan(threshold)
    limits = [np.unique(threshold[placed & (feature == column)]) for column in range(min(columns, RANKED))]
    ranked = np.array([len(each) < RANKED for each in limits])
    placed[placed] = ranked[feature[placed]]
    counts = np.bincount(owners[inner], minlength=len(roots))
    fits = counts < LEAVES
    fits[owners[inner & ~placed]] = False
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
    found["column"] = feature[splits]
    for column in np.unique(feature[splits]):
        some = feature[splits] == column
        found["rank"][some] = np.searchsorted(limits[column], threshold[splits[some]])
    found["left"], found["right"] = number[left[splits]], number[left[splits] + 1]
    kept = [each if good else each[:0] for each, good in zip(limits, ranked, strict=True)]
    return Short(
        found,
        np.where(fits, counts, -1).astype(np.int32),
        first_splits.astype(np.int32),
        first_leaves.astype(np.int32),
        told[ends],
        np.concatenate(kept),
        np.array([0, *itertools.accumulate(map(len, kept))], dtype=np.int32),
    )
