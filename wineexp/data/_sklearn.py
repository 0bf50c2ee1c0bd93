"""The private part of scikit-learn that rows are split with: how a stratified splitter deals groups to folds."""

import copy
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt


def with_quick_search(splitter: Any) -> Any:
    """A copy of a StratifiedGroupKFold that makes the same folds several times as fast.

    scikit-learn's own search for the fold of a group tries one fold after another, each with a dozen calls of NumPy.
    """
    quick = copy.copy(splitter)
    quick._find_best_fold = partial(_find_best_fold, quick.n_splits)
    return quick


def _find_best_fold(
    n_folds: int,
    y_counts_per_fold: npt.NDArray[np.float64],
    y_cnt: npt.NDArray[np.intp],
    group_y_counts: npt.NDArray[np.float64],
) -> int:
    """The fold in which a group leaves the shares of the classes most even; of two about as good, that of fewer rows.

    The figures are computed in the order in which scikit-learn computes them, so that they are the same to the bit.

    Parameters
    ----------
    n_folds : int
    y_counts_per_fold : ndarray of shape (n_folds, n_classes)
        Rows of each class that each fold has.
    y_cnt : ndarray of shape (n_classes,)
        Rows of each class.
    group_y_counts : ndarray of shape (n_classes,)
        Those of the group.
    """
    with_group = y_counts_per_fold + np.eye(n_folds)[:, :, None] * group_y_counts
    unevenness = np.mean(np.std(with_group / y_cnt, axis=1), axis=1).tolist()
    n_rows = y_counts_per_fold.sum(axis=1).tolist()
    best = 0
    for fold in range(1, n_folds):
        # As `numpy.isclose` has it.
        about_as_good = abs(unevenness[fold] - unevenness[best]) <= 1e-8 + 1e-5 * unevenness[best]
        if unevenness[fold] < unevenness[best] or (about_as_good and n_rows[fold] < n_rows[best]):
            best = fold
    return best
