"""Folds that a model makes of its training rows while it is fitted, with the groups and the time of these rows.

scikit-learn hands the models within a pipeline no groups. They are therefore known here while a fit lasts, to the
splitters that a model holds: this is how rows of one group, and of one time, stay on one side of these folds as well.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import KFold, RepeatedStratifiedKFold

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class FittedRows:
    """What is known of the rows that a model is fitted on.

    Attributes
    ----------
    sets : ndarray of int of shape (n_samples,)
        The number of each row's set, whose rows stay together.
    times : ndarray of int of shape (n_samples,), or None
        When each row was, as numbers in this order: folds are then stretches of time.
    """

    sets: Indices
    times: Indices | None = None

    def chosen(self, rows: Indices) -> "FittedRows":
        """What is known of some of the rows."""
        return FittedRows(self.sets[rows], None if self.times is None else self.times[rows])


_fitted_rows: ContextVar[FittedRows | None] = ContextVar("fitted_rows", default=None)


@contextmanager
def fitting(rows: FittedRows | None) -> Iterator[None]:
    """Make known, within this thread, what is known of the rows that a model is now fitted on."""
    token = _fitted_rows.set(rows)
    try:
        yield
    finally:
        _fitted_rows.reset(token)


@contextmanager
def fitting_part(rows: Indices) -> Iterator[None]:
    """As `fitting`, for a model within another one that is fitted on some of the rows of that."""
    known = _fitted_rows.get()
    with fitting(known and known.chosen(rows)):
        yield


def known_rows(n_rows: int) -> FittedRows | None:
    """What is known of the rows that are to be split; None where they belong to no group and no time.

    Raises
    ------
    ValueError
        They are other rows than those that the outermost model is fitted on.
    """
    known = _fitted_rows.get()
    if known is not None and len(known.sets) != n_rows:
        raise ValueError(
            f"a model within another one splits {n_rows} of {len(known.sets)} training rows, of which the groups and "
            "times are not known; choose a model that makes no folds of its own within the other one"
        )
    return known


def fold_numbers(known: FittedRows, y: npt.ArrayLike, n_folds: int, seed: int | None) -> Indices:
    """The fold of each row: sets are dealt to folds by class, or by time where that is known.

    Parameters
    ----------
    known : FittedRows
    y : array-like of shape (n_samples,)
    n_folds : int
    seed : int
        Of the order of the sets, where no time is known.

    Returns
    -------
    ndarray of int of shape (n_samples,)

    Raises
    ------
    ValueError
        There are fewer sets, or times, than folds.
    """
    _, first, group = np.unique(known.sets, return_index=True, return_inverse=True)
    n_parts, what = len(first), "groups"
    if known.times is not None:
        # A set is of the time of its earliest row.
        began = np.full(len(first), known.times.max())
        np.minimum.at(began, group, known.times)
        moments, moment = np.unique(began, return_inverse=True)
        n_parts, what = len(moments), "times"
    if not 2 <= n_folds <= n_parts:
        raise ValueError(
            f"folds within the model: 2 <= folds <= {n_parts} {what} of training rows must hold, but got {n_folds}"
        )
    if known.times is None:
        return deal_groups(y, first, group, n_folds=n_folds, seed=seed)
    return np.asarray((moment * n_folds // n_parts)[group])


def deal_groups(y: npt.ArrayLike, first: Indices, group: Indices, *, n_folds: int, seed: int | None) -> Indices:
    """Number of the fold of each row: groups are shuffled, sorted by class and dealt to the folds in turn.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        A group counts to the class of its first row.
    first : ndarray of shape (n_groups,)
        Position of each group's first row.
    group : ndarray of shape (n_samples,)
        Group of each row, 0 to n_groups - 1.
    n_folds : int
    seed : int

    Returns
    -------
    ndarray of int of shape (n_samples,)
    """
    order = np.random.default_rng(seed).permutation(len(first))
    order = order[np.argsort(np.asarray(y)[first][order], kind="stable")]
    fold_of_group = np.empty(len(first), dtype=np.intp)
    fold_of_group[order] = np.arange(len(first)) % n_folds
    return np.asarray(fold_of_group[group])


def folds_of_numbers(fold: Indices, n_folds: int) -> Iterator[tuple[Indices, Indices]]:
    """Positions of the training rows and of the test rows of each fold, from the number of each row's fold."""
    for number in range(n_folds):
        yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)


class GroupedKFold(KFold):  # type: ignore[misc]
    """scikit-learn's KFold, unless rows belong to groups or times, which then stay together."""

    def split(self, X: Any, y: Any = None, groups: object = None) -> Iterator[tuple[Indices, Indices]]:
        """As scikit-learn's."""
        known = known_rows(len(X))
        if known is None:
            yield from super().split(X, y, groups)
        else:
            yield from folds_of_numbers(fold_numbers(known, y, self.n_splits, self.random_state), self.n_splits)


class GroupedStratifiedKFold(RepeatedStratifiedKFold):  # type: ignore[misc]
    """scikit-learn's RepeatedStratifiedKFold, unless rows belong to groups or times, which then stay together."""

    def split(self, X: Any, y: Any = None, groups: object = None) -> Iterator[tuple[Indices, Indices]]:
        """As scikit-learn's."""
        known = known_rows(len(X))
        if known is None:
            yield from super().split(X, y, groups)
            return
        n_folds = self.cvargs["n_splits"]
        for repeat in range(self.n_repeats):
            seed = None if self.random_state is None else self.random_state + repeat
            yield from folds_of_numbers(fold_numbers(known, y, n_folds, seed), n_folds)
