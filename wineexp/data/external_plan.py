"""The task of a table that is read in batches: which rows are for what, and the labels of each batch."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from wineexp.core.dates import days
from wineexp.core.errors import UserError
from wineexp.data.external_table import ExternalTable, File
from wineexp.data.hashed_split import HashedSplit
from wineexp.data.row_hashes import Hashes, chunks
from wineexp.data.target import Target

# Different values of a target of classes without bins.
MAX_VALUES = 10_000


@dataclass(frozen=True)
class ExternalClasses:
    """The classes of a target, and the values of its column that each of them is.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        As `Target.read` gives them for all rows.
    values : Index of shape (n_values,)
        The different values of the column.
    codes : ndarray of int of shape (n_values,)
        The position in `classes` of each value's class.
    """

    classes: npt.NDArray[np.generic]
    values: pd.Index
    codes: npt.NDArray[np.intp]

    def encoded(self, column: pd.Series) -> npt.NDArray[np.intp]:
        """The positions in `classes` of a batch's labels (n_samples,)."""
        return np.asarray(self.codes[self.values.get_indexer(pd.Index(column))])


class LabelledRows(NamedTuple):
    """Some of the rows that were asked for.

    Attributes
    ----------
    X : DataFrame of shape (n_rows, n_features)
    y : ndarray of shape (n_rows,)
        Positions of classes, or numbers.
    weights : ndarray of shape (n_rows,), or None
    rows : ndarray of int of shape (n_rows,)
        Their numbers in the whole table.
    is_sampled : ndarray of bool of shape (n_rows,)
        Which of them are in the sample.
    """

    X: pd.DataFrame
    y: npt.NDArray[Any]
    weights: npt.NDArray[np.float64] | None
    rows: npt.NDArray[np.int64]
    is_sampled: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ExternalPlan:
    """What the rows of a table that is read in batches are for.

    Attributes
    ----------
    table : ExternalTable
    target : Target
    split : HashedSplit
    hashes : ndarray of uint64 of shape (n_rows,)
        Of each row's contents without the target, or of its group; it may lie in a file.
    classes : ExternalClasses, or None
        None where numbers are predicted.
    weight : str or None
        Column of the rows' weights.
    """

    table: ExternalTable
    target: Target
    split: HashedSplit
    hashes: Hashes
    classes: ExternalClasses | None
    weight: str | None

    @property
    def sampled_hashes(self) -> Hashes:
        """Of the rows of the sample: (n_sample,)."""
        return np.asarray(self.hashes[self.table.sampled])

    @cached_property
    def n_holdout(self) -> int:
        """Number of rows that are held out."""
        return sum(int(self.split.is_held_out(chunk).sum()) for chunk in chunks(self.hashes))

    @property
    def n_training(self) -> int:
        """Number of the others."""
        return len(self.hashes) - self.n_holdout

    @cached_property
    def fingerprint(self) -> str:
        """As of `HashedSplit.fingerprint`, of all rows."""
        return self.split.fingerprint(self.hashes)

    def training_rows(self, features: list[str], fold: int | None) -> Iterator[LabelledRows]:
        """The rows that are trained on in a fold or, where it is None, in the end, with these features."""
        return self._rows(features, lambda hashes: self.split.is_trained_on(hashes, fold))

    def shares(self, fold: int | None, n_shares: int) -> list["Share"]:
        """The training rows of a fold in at most so many parts of the table, none of them without such rows."""
        files = [File(file.name, file.path.absolute()) for file in self.table.files]
        no_hashes, no_rows = np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)
        table = replace(self.table, files=files, hashes=no_hashes, sampled=no_rows, workers=None)
        plan = replace(self, table=table, hashes=no_hashes)
        edges = np.linspace(0, len(self.hashes), n_shares + 1).astype(int).tolist()
        shares = []
        for rows in itertools.starmap(range, itertools.pairwise(edges)):
            parts = chunks(self.hashes[rows.start : rows.stop])
            chosen = np.concatenate([self.split.is_trained_on(part, fold) for part in parts])
            if chosen.any():
                shares.append(Share(plan, rows, np.packbits(chosen)))
        return shares

    def test_rows(self, features: list[str], fold: int) -> Iterator[LabelledRows]:
        """The rows that are tested in a fold."""
        return self._rows(features, lambda hashes: self.split.is_tested(hashes, fold))

    def held_out_rows(self, features: list[str]) -> Iterator[LabelledRows]:
        """The rows that are held out."""
        return self._rows(features, self.split.is_held_out)

    def _rows(self, features: list[str], choose: Callable[[Hashes], npt.NDArray[np.bool_]]) -> Iterator[LabelledRows]:
        def chosen(start: int, n_rows: int) -> npt.NDArray[np.bool_]:
            return choose(np.asarray(self.hashes[start : start + n_rows]))

        return self.chosen_rows(features, chosen)

    def chosen_rows(
        self, features: list[str], choose: Callable[[int, int], npt.NDArray[np.bool_]], rows: range | None = None
    ) -> Iterator[LabelledRows]:
        """Some of the rows.

        Parameters
        ----------
        features : list of str
        choose : callable
            Gives which of so many rows, the second argument, from a number on are wanted.
        rows : range, optional
            Only these rows are read.
        """
        column = self.target.column
        names = [*features, column, *([self.weight] if self.weight else [])]
        for start, frame in self.table.batches(names, is_checked=True, rows=rows):
            chosen = np.flatnonzero(choose(start, len(frame)))
            is_sampled = self.table.is_sampled(start, len(frame))
            frame = frame.iloc[chosen]
            y = (
                external_numbers(self.target, frame[column], start)
                if self.classes is None
                else self.classes.encoded(frame[column])
            )
            dates = [name for name in features if pd.api.types.is_datetime64_any_dtype(frame[name])]
            yield LabelledRows(
                frame[features].assign(**{name: days(frame[name]) for name in dates}),
                y,
                frame[self.weight].to_numpy(dtype=np.float64) if self.weight else None,
                start + chosen,
                is_sampled[chosen],
            )


@dataclass(frozen=True)
class Share:
    """The training rows in a part of a table, for a process that needs the files and nothing else.

    Attributes
    ----------
    plan : ExternalPlan
        Without hashes.
    rows : range
        The numbers of the rows of the part.
    is_trained_on : ndarray of uint8
        Which of them are trained on, eight in a byte.
    """

    plan: ExternalPlan
    rows: range
    is_trained_on: npt.NDArray[np.uint8]

    def training_rows(self, features: list[str]) -> Iterator[LabelledRows]:
        """These rows, with these features."""
        chosen = np.unpackbits(self.is_trained_on, count=len(self.rows)).astype(bool)
        first = self.rows.start
        return self.plan.chosen_rows(features, lambda start, n: chosen[start - first :][:n], self.rows)


def external_classes(table: ExternalTable, target: Target) -> ExternalClasses:
    """What one pass through the target's column finds.

    Raises
    ------
    UserError
        As of `Target.read`; or the column has more than `MAX_VALUES` values.
    """
    found: set[Any] = set()
    for start, frame in table.batches([target.column], is_checked=True):
        column = frame[target.column]
        _check_labels(target, column, start)
        found |= set(column.unique())
        if len(found) > MAX_VALUES:
            raise UserError(
                f"target.column={target.column}: more than {MAX_VALUES:,} different values are too many for classes; "
                "say target.kind=regression, or make bins of them in a column of the file"
            )
    values = pd.Series(sorted(found), name=target.column)
    # A column beside it, since a target is read from a table that has features.
    other = f"not {target.column}"
    _, labels, classes = target.read(values.to_frame().assign(**{other: 0}), (other,))
    return ExternalClasses(classes, pd.Index(values), np.asarray(pd.Index(classes).get_indexer(labels)))


def external_numbers(target: Target, column: pd.Series, start: int) -> npt.NDArray[np.float64]:
    """The numbers of a batch's rows, the first of which has the number `start`: (n_samples,).

    Raises
    ------
    UserError
        A row has no finite number.
    """
    _check_labels(target, column, start)
    numbers = column.to_numpy(dtype=np.float64)
    if not np.isfinite(numbers).all():
        row = start + int(np.argmin(np.isfinite(numbers)))
        raise UserError(f"target.column={target.column}: row {row:,} (counted from 0) has no finite number")
    return numbers


def _check_labels(target: Target, column: pd.Series, start: int) -> None:
    missing = column.isna().to_numpy()
    if missing.any():
        raise UserError(
            f"target.column={target.column}: row {start + int(missing.argmax()):,} (counted from 0), and maybe others "
            "after it, have no label, and a model cannot learn from them; leave them out where the data set is made"
        )
