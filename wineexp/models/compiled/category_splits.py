"""Splits of categories as splits of numbers.

A library splits categories by a set of them that goes to one side. A compiled model has a column for each such set,
which says on which side a category is: 0 on the left and 1 on the right, below and above a threshold of a half.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from wineexp.models.compiled.arrays import Array
from wineexp.models.compiled.flat_trees import Tree

THRESHOLD = 0.5

# By the number of a split's node: which of the columns of categories it splits, and whether each of these goes right,
# with what is missing or unknown last: shape (n_categories + 1,).
Splits = Mapping[int, tuple[int, Array]]


def split_by_sides(
    trees: Sequence[Tree], splits: Sequence[Splits], n_categories: Sequence[int], *, n_numbers: int
) -> tuple[list[Tree], list[Array]]:
    """Trees over numbers and sides, from trees that split categories.

    Parameters
    ----------
    trees : sequence of Tree
        The columns of other splits are the first `n_numbers` ones.
    splits : sequence of mappings
        The splits of categories of each tree.
    n_categories : sequence of int
        Of each column of categories.
    n_numbers : int

    Returns
    -------
    trees : list of Tree
        Their columns are those of numbers, and then the sides of each column of categories.
    sides : list of ndarrays of shape (n_categories + 1, n_sides)
        For each column of categories the sides of each category, and last of one that is missing or unknown.
    """
    found: list[dict[bytes, int]] = [{} for _ in n_categories]
    placed = [
        {
            node: (column, found[column].setdefault(goes_right.astype(np.uint8).tobytes(), len(found[column])))
            for node, (column, goes_right) in of_tree.items()
        }
        for of_tree in splits
    ]
    # A column that no tree splits by has a side all the same.
    keys = [list(of_column) or [bytes(n + 1)] for of_column, n in zip(found, n_categories, strict=True)]
    sides = [np.array([[*key] for key in of_column], dtype=np.float64).T.copy() for of_column in keys]
    begins = n_numbers + np.concatenate([[0], np.cumsum([len(of_column) for of_column in keys])])
    changed = []
    for tree, of_tree in zip(trees, placed, strict=True):
        feature, threshold = tree.feature.astype(np.int64), tree.threshold.copy()
        for node, (column, place) in of_tree.items():
            feature[node], threshold[node] = begins[column] + place, THRESHOLD
        changed.append(tree._replace(feature=feature, threshold=threshold))
    return changed, sides
