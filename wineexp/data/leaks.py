"""How much a split lets a model know of its test rows beyond what it could know of new ones."""

import logging
from collections.abc import Mapping

import numpy as np
import pandas as pd

from wineexp.data.groups import Indices

# What is said of a split. The model card speaks of copies.
WARNINGS = {
    "groups": "test rows have rows of their {group} in training: scores may be too high; split=grouped separates none",
    "older": "test rows are older than a row trained on: scores may be too high; split=time tests on what follows",
    "holdout_groups": "held-out rows have rows of their {group} in training: scores on them may be too high",
    "holdout_older": "held-out rows are older than a row trained on: scores on them may be too high",
}

log = logging.getLogger(__name__)


def leaks(
    folds: list[tuple[Indices, Indices]], identical: Indices, groups: pd.Series | None, times: pd.Series | None
) -> dict[str, float]:
    """Shares of the folds' test rows of which training rows tell more than they could of new rows.

    Parameters
    ----------
    folds : list of (training, test) positions
    identical : ndarray of shape (n_samples,)
        As `group_identical_rows` gives them.
    groups, times : Series of shape (n_samples,), or None
        The rows that belong together, and when a row was.

    Returns
    -------
    dict of str to float
        `copies`: the share that equals a training row. Where there are groups, `groups`: whose group has training rows.
        Where there are times, `older`: that is older than a training row. Empty where there are no folds.
    """
    found = {"copies": [np.isin(identical[test], identical[training]) for training, test in folds]}
    if groups is not None:
        found["groups"] = [groups.iloc[test].isin(groups.iloc[training]).to_numpy() for training, test in folds]
    if times is not None:
        found["older"] = [(times.iloc[test] < times.iloc[training].max()).to_numpy() for training, test in folds]
    return {name: float(np.mean(np.concatenate(rows))) for name, rows in found.items()} if folds else {}


def warn(shares: Mapping[str, float], groups: pd.Series | None) -> None:
    """Say what makes scores too high.

    Parameters
    ----------
    shares : mapping of str to float
        As `leaks` gives them, those of the holdout by names that begin with `holdout_`.
    groups : Series of shape (n_samples,), or None
        The rows that belong together.
    """
    for name, message in WARNINGS.items():
        if shares.get(name):
            group = groups.name if groups is not None else None
            log.warning("split: %.0f %% of the %s", 100 * shares[name], message.format(group=group))
