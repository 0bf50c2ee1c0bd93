"""Splits into training and test rows that keep identical rows together."""

import hashlib
import warnings
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.model_selection import BaseCrossValidator, StratifiedGroupKFold

from wineexp.core.errors import UserError

Indices = npt.NDArray[np.intp]


def group_identical_rows(X: pd.DataFrame) -> Indices:
    """Group number of each row of X (n_samples, n_features), which exactly equal rows share: (n_samples,)."""
    return np.asarray(X.groupby(list(X.columns), sort=False, dropna=False).ngroup(), dtype=np.intp)


def hold_out(y: pd.Series, groups: Indices, *, size: float, seed: int, fold: int) -> tuple[Indices, Indices]:
    """Set rows aside that no tuning may see, stratified by class and without separating the rows of a group.

    Parameters
    ----------
    y : Series of shape (n_samples,)
    groups : ndarray of shape (n_samples,)
        As `group_identical_rows` gives them.
    size : float
        Share of the rows, in [0, 0.5]: one of round(1 / size) folds is set aside, or no row where it is 0.
    seed : int
    fold : int
        Number of that fold, from 0. Tuning on the rest of each fold in turn is a nested cross-validation.

    Returns
    -------
    training, holdout : ndarrays of int
        Positions in y, ascending.

    Raises
    ------
    UserError
        Size or fold is out of range, or the size is too small for the number of rows.
    """
    if not 0 <= size <= 0.5:
        raise UserError(f"holdout.size={size}: 0 <= size <= 0.5 must hold")
    # Without a holdout, 0 is the only fold that can be chosen.
    n_folds = round(1 / size) if size else 1
    if not 0 <= fold < n_folds:
        raise UserError(f"holdout.fold={fold}: 0 <= fold < {n_folds} must hold, where holdout.size={size}")
    if size == 0:
        return np.arange(len(y)), np.array([], dtype=np.intp)
    splitter = StratifiedGroupKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    try:
        return folds(splitter, y.to_frame(), y, groups)[fold]
    except UserError as error:
        raise UserError(f"holdout.size={size}: too small a share of {len(y)} rows ({error})") from error


def folds(
    splitter: BaseCrossValidator, X: pd.DataFrame, y: pd.Series, groups: Indices
) -> list[tuple[Indices, Indices]]:
    """Positions of the training rows and of the test rows of each fold.

    Raises
    ------
    UserError
        The splitter cannot split these rows.
    """
    with warnings.catch_warnings():
        # A rare class, as grade 9 with its five rows, may be missing from a fold, which the metrics allow.
        warnings.filterwarnings("ignore", "The least populated class")
        # The plain splits ignore groups on purpose: they are compared with the grouped ones.
        warnings.filterwarnings("ignore", "The groups parameter is ignored")
        try:
            return list(splitter.split(X, y, groups))
        except ValueError as error:
            raise UserError(f"split: {error}") from error


def fingerprint(holdout: Indices, folds: list[tuple[Indices, Indices]]) -> str:
    """SHA-256 of the assignment of rows to the holdout and to the folds.

    Parameters
    ----------
    holdout : ndarray of int
        Positions in the data set.
    folds : list of (training, test) positions in the data set
    """
    digest = hashlib.sha256()
    for rows in (holdout, *(rows for fold in folds for rows in fold)):
        digest.update(len(rows).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(rows, dtype="<i8").tobytes())
    return digest.hexdigest()


class CopiesTogetherKFold(BaseEstimator):  # type: ignore[misc]
    """Stratified folds that keep identical rows together, for an estimator that splits the rows within its own `fit`.

    It finds the groups of identical rows itself, because such an estimator passes none. A class may have fewer rows
    than there are folds.

    Parameters
    ----------
    folds : int
        At least 2. It is not called `n_splits`, because scikit-learn's `CalibratedClassifierCV` would then require as
        many rows of each class.
    random_state : int
    """

    def __init__(self, folds: int, random_state: int) -> None:
        self.folds = folds
        self.random_state = random_state

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """Number of folds."""
        return self.folds

    def split(self, X: npt.ArrayLike, y: npt.ArrayLike, groups: object = None) -> Iterator[tuple[Indices, Indices]]:
        """Positions of the training rows and of the test rows of each fold.

        Raises
        ------
        ValueError
            `folds` is less than 2, or more than there are different rows.
        """
        _, first, group = np.unique(np.asarray(X), axis=0, return_index=True, return_inverse=True)
        if not 2 <= self.folds <= len(first):
            raise ValueError(f"2 <= folds <= {len(first)} different rows must hold, but got folds={self.folds}")
        # The distinct rows are shuffled, sorted by class and dealt to the folds in turn; every copy follows its
        # original, even if its label differs.
        order = np.random.default_rng(self.random_state).permutation(len(first))
        order = order[np.argsort(np.asarray(y)[first][order], kind="stable")]
        fold_of_distinct = np.empty(len(first), dtype=np.intp)
        fold_of_distinct[order] = np.arange(len(first)) % self.folds
        fold = fold_of_distinct[group.ravel()]
        for number in range(self.folds):
            yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)


class RepeatedStratifiedGroupKFold(BaseEstimator):  # type: ignore[misc]
    """scikit-learn's StratifiedGroupKFold, repeated with a different shuffle each time.

    Parameters
    ----------
    n_splits : int
        Folds per repeat.
    n_repeats : int
        At least 1.
    random_state : int
        Seed of the first repeat; each further repeat adds 1.
    """

    def __init__(self, n_splits: int, n_repeats: int, random_state: int) -> None:
        self.n_splits = n_splits
        self.n_repeats = n_repeats
        self.random_state = random_state

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """Number of folds of all repeats together."""
        return self.n_splits * self.n_repeats

    def split(self, X: npt.ArrayLike, y: npt.ArrayLike, groups: npt.ArrayLike) -> Iterator[tuple[Indices, Indices]]:
        """Positions of the training rows and of the test rows of each fold.

        Raises
        ------
        ValueError
            `n_repeats` is less than 1, or the rows are too few for the folds.
        """
        if self.n_repeats < 1:
            raise ValueError(f"n_repeats >= 1 must hold, but got n_repeats={self.n_repeats}")
        for repeat in range(self.n_repeats):
            seed = self.random_state + repeat
            yield from StratifiedGroupKFold(self.n_splits, shuffle=True, random_state=seed).split(X, y, groups)
