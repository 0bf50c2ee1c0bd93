"""Rows that must stay on one side of a split: identical ones, and those of one group."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from wineexp.core.errors import UserError

Indices = npt.NDArray[np.intp]


def group_identical_rows(X: pd.DataFrame) -> Indices:
    """Group number of each row of X (n_samples, n_features), which exactly equal rows share: (n_samples,)."""
    return np.asarray(X.groupby(list(X.columns), sort=False, dropna=False).ngroup(), dtype=np.intp)


def join_groups(identical: Indices, groups: pd.Series) -> Indices:
    """Number of each row's set, which the rows of its group and identical rows are in: (n_samples,).

    Parameters
    ----------
    identical : ndarray of shape (n_samples,)
        As `group_identical_rows` gives them.
    groups : Series of shape (n_samples,)
        The rows that belong together; none is missing.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    codes, names = pd.factorize(groups)
    n_identical = int(identical.max()) + 1
    size = n_identical + len(names)
    # Each row links its group with the rows that equal it.
    links = coo_matrix((np.ones(len(codes), dtype=np.int8), (identical, n_identical + codes)), shape=(size, size))
    _, sets = connected_components(links, directed=False)
    return np.asarray(sets[identical], dtype=np.intp)


def without_sets_of(test: Indices, training: Indices, sets: Indices) -> Indices:
    """Those of the training rows whose set, one of those of shape (n_samples,), has no test row.

    Raises
    ------
    UserError
        No row is left.
    """
    left = training[~np.isin(sets[training], sets[test])]
    if not len(left):
        raise UserError(
            "split: no row is left to train on, since all earlier rows have copies, or others of their group, among "
            "the later ones; leave out data.group, or data.time"
        )
    return left
