"""The rows that no tuning may see: a fold of a shuffled split, the latest ones, or those that a column names."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from wineexp.core.errors import UserError
from wineexp.data import split
from wineexp.data.dataset import Dataset
from wineexp.data.groups import Indices, without_sets_of

# The word, in the column of `data.fold`, of rows that are held out.
HOLDOUT_WORD = "holdout"


def set_aside(
    dataset: Dataset, strata: pd.Series, sets: Indices, settings: Mapping[str, Any]
) -> tuple[Indices, Indices]:
    """Positions of the rows for training and of the holdout, as the data set says what they are.

    What it says decides, and not the splitter, so that programs that split nothing hold out the same rows.

    Parameters
    ----------
    dataset : Dataset
    strata : Series of shape (n_samples,)
        Classes, or bins of numbers, of which the holdout is to have a fair share.
    sets : ndarray of shape (n_samples,)
        Number of each row's set, whose rows stay together.
    settings : mapping
        `size`, `seed` and, by default 0, `fold`.

    Raises
    ------
    UserError
        A setting is out of range, or does not fit the data.
    """
    # Old runs have a config without this key, and held out the first fold.
    size, fold = settings["size"], settings.get("fold", 0)
    if not 0 <= size <= 0.5:
        raise UserError(f"holdout.size={size}: 0 <= size <= 0.5 must hold")
    said = "data.fold" if _is_given(dataset) else "data.time" if dataset.times is not None else None
    if said and fold != 0:
        raise UserError(f"holdout.fold={fold}: 0 must hold where {said} says which rows are held out")
    if dataset.folds is not None and _is_given(dataset):
        is_held_out = (dataset.folds == HOLDOUT_WORD).to_numpy()
        return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
    if dataset.times is not None:
        earlier, held_out = latest(dataset.times, size=size)
        return without_sets_of(held_out, earlier, sets), held_out
    return at_random(strata, sets, size=size, seed=settings["seed"], fold=fold)


def _is_given(dataset: Dataset) -> bool:
    return dataset.folds is not None and bool((dataset.folds == HOLDOUT_WORD).any())


def at_random(y: pd.Series, sets: Indices, *, size: float, seed: int, fold: int) -> tuple[Indices, Indices]:
    """Set one of several folds aside, stratified and without separating the rows of a set.

    Parameters
    ----------
    y : Series of shape (n_samples,)
        Classes, or bins of numbers.
    sets : ndarray of shape (n_samples,)
        Number of each row's set.
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
        The fold is out of range, or the size is too small for the number of rows.
    """
    # Without a holdout, 0 is the only fold that can be chosen.
    n_folds = round(1 / size) if size else 1
    if not 0 <= fold < n_folds:
        raise UserError(f"holdout.fold={fold}: 0 <= fold < {n_folds} must hold, where holdout.size={size}")
    if size == 0:
        return np.arange(len(y)), np.array([], dtype=np.intp)
    splitter = StratifiedGroupKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    try:
        return split.folds(splitter, y.to_frame(), y, sets)[fold]
    except UserError as error:
        raise UserError(f"holdout.size={size}: too small a share of {len(y)} rows ({error})") from error


def validation_rows(
    strata: pd.Series, sets: Indices, times: pd.Series | None, *, fraction: float, seed: int
) -> tuple[Indices, Indices]:
    """Set some of the rows of a fit aside, by which it is decided when boosting stops.

    Parameters
    ----------
    strata : Series of shape (n_samples,)
        Classes, or bins of numbers.
    sets : ndarray of shape (n_samples,)
        Number of each row's set, whose rows stay together.
    times : Series of shape (n_samples,), or None
        When each row was: then the latest rows are set aside.
    fraction : float
        Share of the rows, in (0, 0.5].
    seed : int

    Returns
    -------
    training, validation : ndarrays of int
        Positions in strata, ascending.

    Raises
    ------
    UserError
        There are too few rows, or too many of them are of the latest time.
    """
    try:
        if times is not None:
            earlier, validation = latest(times, size=fraction)
            return without_sets_of(validation, earlier, sets), validation
        return at_random(strata, sets, size=fraction, seed=seed, fold=0)
    except UserError as error:
        reasons = [fault.partition(": ")[2] or fault for fault in error.faults]
        raise UserError(*(f"early_stopping.fraction={fraction}: {reason}" for reason in reasons)) from error


def latest(times: pd.Series, *, size: float) -> tuple[Indices, Indices]:
    """Set the latest rows aside; rows of one time stay together.

    Parameters
    ----------
    times : Series of shape (n_samples,)
        When each row was.
    size : float
        Share of the rows, in [0, 0.5].

    Returns
    -------
    training, holdout : ndarrays of int
        Positions in times, ascending.

    Raises
    ------
    UserError
        Too many rows are of the latest time.
    """
    if size == 0:
        return np.arange(len(times)), np.array([], dtype=np.intp)
    first = times.sort_values().iloc[int(np.floor(len(times) * (1 - size)))]
    is_held_out = (times >= first).to_numpy()
    if is_held_out.mean() > 0.5:
        raise UserError(
            f"holdout.size={size}: {is_held_out.sum():,} of {len(times):,} rows are of {times.name}={first} or later, "
            "and rows of one time are not separated; choose another size, or a column with more times"
        )
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
