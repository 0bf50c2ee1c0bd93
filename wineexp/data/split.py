"""Folds, and splitters of our own: with the rows of a set together, in the order of time, or as a column says."""

import copy
import hashlib
import inspect
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.model_selection import BaseCrossValidator, StratifiedGroupKFold, TimeSeriesSplit

from wineexp.core.errors import UserError
from wineexp.data._sklearn import with_quick_search
from wineexp.data.groups import Indices, join_groups, without_sets_of
from wineexp.evaluation.grouped_folds import deal_groups, fold_numbers, folds_of_numbers, known_rows

# The word, in the column of `data.fold`, of rows that are in the training rows of every fold.
TRAINING_WORD = "train"

# StratifiedGroupKFold looks for the best fold of each group in turn. More groups than these are balanced without a
# search.
MAX_GROUPS_ONE_BY_ONE = 10_000


def folds_in_time(splitter: TimeSeriesSplit, times: pd.Series, sets: Indices) -> list[tuple[Indices, Indices]]:
    """Positions of the training rows and of the test rows of each fold, which follow them in time.

    The splitter splits the different times, so that rows of one time stay together: its sizes and its gap count these.
    Training rows whose set has test rows are left out.

    Parameters
    ----------
    splitter : TimeSeriesSplit
    times : Series of shape (n_samples,)
    sets : ndarray of shape (n_samples,)
        Number of each row's set, as `join_groups` gives them.

    Raises
    ------
    UserError
        There are too few times.
    """
    moments, moment = np.unique(times, return_inverse=True)
    try:
        found = [
            (np.flatnonzero(np.isin(moment, training)), np.flatnonzero(np.isin(moment, test)))
            for training, test in splitter.split(moments)
        ]
    except ValueError as error:
        raise UserError(f"split: {error} (samples are the {len(moments)} different times of {times.name})") from error
    return [(without_sets_of(test, training, sets), test) for training, test in found]


def folds(
    splitter: BaseCrossValidator,
    X: pd.DataFrame,
    y: pd.Series,
    sets: Indices,
    *,
    times: pd.Series | None = None,
    given: pd.Series | None = None,
) -> list[tuple[Indices, Indices]]:
    """Positions of the training rows and of the test rows of each fold.

    More than `MAX_GROUPS_ONE_BY_ONE` sets are dealt to the folds of a StratifiedGroupKFold as `deal_groups` does, to
    the same end.

    Parameters
    ----------
    splitter : cross-validator
    X : DataFrame of shape (n_samples, n_features)
    y : Series of shape (n_samples,)
        Classes, or bins of numbers.
    sets : ndarray of shape (n_samples,)
        Number of each row's set, whose rows stay together.
    times, given : Series of shape (n_samples,), optional
        When each row was, for a TimeSeriesSplit; the fold of each row, for `GivenFolds`.

    Raises
    ------
    UserError
        The splitter cannot split these rows.
    """
    if isinstance(splitter, TimeSeriesSplit) and times is not None:
        return folds_in_time(splitter, times, sets)
    groups: Any = given if isinstance(splitter, GivenFolds) else sets
    with warnings.catch_warnings():
        # A rare class, as grade 9 with its five rows, may be missing from a fold, which the metrics allow.
        warnings.filterwarnings("ignore", "The least populated class")
        # The plain splits ignore groups on purpose: they are compared with the grouped ones.
        warnings.filterwarnings("ignore", "The groups parameter is ignored")
        try:
            return list(_split(splitter, X, y, groups))
        except ValueError as error:
            raise UserError(f"split: {error}") from error


def _split(
    splitter: BaseCrossValidator, X: npt.ArrayLike, y: npt.ArrayLike, groups: npt.ArrayLike
) -> Iterator[tuple[Indices, Indices]]:
    """The splitter's own folds; see `folds` about many groups."""
    if isinstance(splitter, StratifiedGroupKFold) and splitter.shuffle:
        _, first, group = np.unique(groups, return_index=True, return_inverse=True)
        if len(first) > MAX_GROUPS_ONE_BY_ONE:
            fold = deal_groups(y, first, group, n_folds=splitter.n_splits, seed=splitter.random_state)
            return folds_of_numbers(fold, splitter.n_splits)
    if type(splitter) is StratifiedGroupKFold:
        splitter = with_quick_search(splitter)
    return splitter.split(X, y, groups)  # type: ignore[no-any-return]


def check_splitter(splitter: BaseCrossValidator, *, has_groups: bool, has_times: bool, has_folds: bool) -> None:
    """Refuse a splitter that needs what the data set does not say: the times, the groups or the folds of its rows.

    Its groups would be identical rows and its order that of the file, so that rows of one customer, or of the future,
    would be in training.

    Parameters
    ----------
    splitter : cross-validator
    has_groups, has_times, has_folds : bool
        Whether the data set says which rows belong together, when each row was, and the fold of each row.

    Raises
    ------
    UserError
        It needs more than the data set says, or is no splitter.
    """
    name = type(splitter).__name__
    if not hasattr(splitter, "split"):
        raise UserError(f"split: {name} splits no rows; choose one of scikit-learn's splitters, such as KFold")
    remedy = "choose a split=... that needs neither, such as split=grouped"
    if isinstance(splitter, TimeSeriesSplit):
        if not has_times:
            raise UserError(
                f"split: {name} needs to know when each row was: name the column that says it, data.time=COLUMN; "
                f"or {remedy}"
            )
        return
    if isinstance(splitter, GivenFolds):
        if not has_folds:
            raise UserError(
                f"split: {name} needs to know the fold of each row: name the column that says it, data.fold=COLUMN; "
                f"or {remedy}"
            )
        return
    if has_groups or isinstance(splitter, StratifiedGroupKFold | RepeatedSplitter):
        # The latter two keep identical rows together, and are named after that here.
        return
    groups = inspect.signature(splitter.split).parameters.get("groups")
    asks = hasattr(splitter, "get_metadata_routing") and splitter.get_metadata_routing().consumes("split", ["groups"])
    if asks or (groups is not None and groups.default is inspect.Parameter.empty):
        raise UserError(
            f"split: {name} needs to know which rows belong together: name the column that says it, data.group=COLUMN; "
            f"or {remedy}, which keeps identical rows together"
        )


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


class GivenFolds(BaseEstimator):  # type: ignore[misc]
    """The folds that a column of the table says, `data.fold`: each of its values is tested once.

    Rows of `TRAINING_WORD` are in the training rows of every fold.
    """

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """Number of folds.

        Parameters
        ----------
        groups : Series of shape (n_samples,)
            The value of each row.
        """
        return len(self._words(groups))

    def split(self, X: npt.ArrayLike, y: npt.ArrayLike, groups: pd.Series) -> Iterator[tuple[Indices, Indices]]:
        """Positions of the training rows and of the test rows of each fold, in the ascending order of the values.

        Raises
        ------
        ValueError
            No row is to be tested, or none to be trained on.
        """
        words = self._words(groups)
        if not words or (len(words) == 1 and (groups == words[0]).all()):
            raise ValueError(
                f"{groups.name} has the values {sorted(map(str, groups.unique()))}; two folds, or one and rows of "
                f"{TRAINING_WORD}, are wanted"
            )
        for word in words:
            yield np.flatnonzero(groups != word), np.flatnonzero(groups == word)

    @staticmethod
    def _words(groups: object) -> list[object]:
        return sorted(word for word in pd.Series(groups).unique() if word != TRAINING_WORD)


class CopiesTogetherKFold(BaseEstimator):  # type: ignore[misc]
    """Stratified folds that keep identical rows together, for an estimator that splits the rows within its own `fit`.

    It finds the groups of identical rows itself, because such an estimator passes none. Rows of one group of the data
    set stay together as well, and those of one time, in which case the folds are stretches of time; see
    `wineexp.evaluation.grouped_folds`. A class may have fewer rows than there are folds.

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
        known = known_rows(len(group))
        if known is not None:
            joined = replace(known, sets=join_groups(group.ravel(), pd.Series(known.sets)))
            yield from folds_of_numbers(fold_numbers(joined, y, self.folds, self.random_state), self.folds)
            return
        if not 2 <= self.folds <= len(first):
            raise ValueError(f"2 <= folds <= {len(first)} different rows must hold, but got folds={self.folds}")
        fold = deal_groups(y, first, group.ravel(), n_folds=self.folds, seed=self.random_state)
        yield from folds_of_numbers(fold, self.folds)


class RepeatedSplitter(BaseEstimator):  # type: ignore[misc]
    """Another splitter, repeated with a different shuffle each time.

    Parameters
    ----------
    splitter : cross-validator
        Its `random_state` is replaced.
    n_repeats : int
        At least 1.
    random_state : int
        Seed of the first repeat; each further repeat adds 1.
    """

    def __init__(self, splitter: BaseCrossValidator, n_repeats: int, random_state: int) -> None:
        self.splitter = splitter
        self.n_repeats = n_repeats
        self.random_state = random_state

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """Number of folds of all repeats together."""
        return int(self.splitter.get_n_splits(X, y, groups)) * self.n_repeats

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
            splitter = copy.copy(self.splitter)
            splitter.random_state = self.random_state + repeat
            yield from _split(splitter, X, y, groups)


class RepeatedStratifiedGroupKFold(RepeatedSplitter):
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

    @property
    def splitter(self) -> StratifiedGroupKFold:
        """What is repeated."""
        return StratifiedGroupKFold(self.n_splits, shuffle=True)
