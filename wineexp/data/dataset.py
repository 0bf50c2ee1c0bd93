"""A data set: the columns of its files, put together, and where they come from."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from wineexp.data import column_rules, eda, pin
from wineexp.data.column_rules import ColumnRule, Parsed
from wineexp.data.external_table import ExternalTable

# Types of columns that are no features, and what is said where the config does not say the type.
REASONS_LEFT_OUT = {
    "text": "almost every row has another text",
    column_rules.OTHER: "their values are neither numbers, truth values, dates nor texts",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """A table and where it comes from.

    Attributes
    ----------
    frame : DataFrame of shape (n_samples, n_columns)
        The features and every column that a target can be read from.
    features : tuple of str
        Columns that a model may use.
    units : dict of str to str
        Unit of each feature; empty where the source gives none.
    pins : tuple of Pin
        The files that hold the rows, in their order.
    noun : sequence of two str
        What a row is, in singular and plural, for pages and reports.
    meanings : dict of str to str
        What a feature means, of those of which it is said.
    levels : dict of str to sequence of str
        The only values that a feature may have, of those of which they are said.
    ids, groups, times, folds, weights : Series of shape (n_samples,), or None
        The name of each row, the rows that belong together, when a row was, the fold in which it is tested, and how
        many rows it counts for.
    snapshots : ndarray of shape (n_samples,), or None
        Number of the file of feedback that each row is from, from 1, and 0 for the rows of the data set itself; None
        where there is no feedback.
    external : ExternalTable, or None
        The table that all of the above is a sample of, where it is read in batches; None where it is all in memory.
    """

    frame: pd.DataFrame
    features: tuple[str, ...]
    units: dict[str, str]
    pins: tuple[pin.Pin, ...]
    noun: Sequence[str] = ("row", "rows")
    meanings: Mapping[str, str] = field(default_factory=dict)
    levels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    ids: pd.Series | None = None
    groups: pd.Series | None = None
    times: pd.Series | None = None
    folds: pd.Series | None = None
    weights: pd.Series | None = None
    snapshots: npt.NDArray[np.intp] | None = None
    external: ExternalTable | None = None

    @property
    def n_rows(self) -> int:
        """Number of rows, whether or not they are all in `frame`."""
        return len(self.frame) if self.external is None else self.external.n_rows

    @property
    def md5(self) -> str:
        """The md5 of each file, in order, joined by `+`."""
        return "+".join(pinned.md5 for pinned in self.pins)

    @cached_property
    def duplicates(self) -> int:
        """Number of rows that repeat an earlier one in every column."""
        return int(self.frame.duplicated().sum()) if self.external is None else self.external.n_duplicates

    @cached_property
    def chance_duplicates(self) -> int:
        """Number of rows that would repeat an earlier one by chance; see `eda.chance_repeats`."""
        return eda.chance_repeats(self.frame)

    @property
    def is_repeated_by_chance(self) -> bool:
        """Whether chance alone explains half of the rows that repeat an earlier one, or more."""
        repeated = self.duplicates if self.external is None else int(self.frame.duplicated().sum())
        return 0 < repeated <= 2 * self.chance_duplicates


def assemble(
    parsed: Mapping[str, Parsed],
    rules: Mapping[str, ColumnRule],
    labels: set[str],
    roles: Mapping[str, str],
    pins: tuple[pin.Pin, ...],
    noun: Sequence[str] | None,
) -> Dataset:
    """The data set of columns that are read."""
    names = [name for name in parsed if name not in roles.values()]
    frame = pd.DataFrame({name: parsed[name].values for name in names})
    left_out = [name for name in names if name not in labels and parsed[name].type in REASONS_LEFT_OUT]
    for kind, reason in REASONS_LEFT_OUT.items():
        if unsaid := [
            name for name in left_out if parsed[name].type == kind and not rules.get(name, ColumnRule()).type
        ]:
            log.info("left out, since %s: %s (data.columns.NAME.type=category takes one in)", reason, ", ".join(unsaid))
    features = tuple(name for name in names if name not in labels and name not in left_out)
    # A target has what was said of it: a predicted number has a unit.
    said = {name: rules.get(name, ColumnRule()) for name in names if name in features or name in rules}
    by_role: dict[str, Any] = {f"{key}s": parsed[name].values.rename(name) for key, name in roles.items()}
    return Dataset(
        frame,
        features,
        {name: rule.unit for name, rule in said.items()},
        pins,
        noun=noun or Dataset.noun,
        meanings={name: rule.meaning for name, rule in said.items() if rule.meaning},
        levels={name: [*map(str, rule.levels)] for name, rule in said.items() if rule.levels},
        **by_role,
    )
