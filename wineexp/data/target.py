"""Targets: the column that is predicted, as classes or as a number, and the metric that decides between models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from wineexp.core.columns import as_texts, is_number
from wineexp.core.errors import UserError, brief, did_you_mean
from wineexp.evaluation.metrics import METRICS, Metric, check_metric, metrics_for
from wineexp.evaluation.own_metric import is_own, own_metric

# Rows without a label that an error names.
MAX_SHOWN_ROWS = 5
# Characters of a list of columns that an error repeats.
MAX_COLUMNS_CHARS = 400

MAXIMIZE = "maximize"
CLASSIFICATION, REGRESSION = KINDS = ("classification", "regression")

# What a model of a number may learn instead of it; see `wineexp.models.regression`.
TRANSFORMS = ("log1p", "quantile")
# Numbers of more different values are stratified by bins of equal mass, of which there are so many.
MAX_STRATA, N_BINS = 20, 10


@dataclass(frozen=True)
class Target:
    """What is predicted from a data set.

    Parameters
    ----------
    column : str
        Column that the labels are read from.
    bins : sequence of float, or None
        Ascending upper edges, inclusive, of all bins but the last; None takes the column's values as labels.
    labels : sequence of str, or None
        One label per bin, in ascending order; the second of two is the positive class.
    ordinal : bool
        Whether the classes are ordered, so that a prediction can be nearly right. Where all labels are numbers, errors
        are differences of these; otherwise neighbours are 1 apart.
    metric : str
        Name of the deciding metric, a key of `wineexp.evaluation.metrics.METRICS`, or of a callable of one's own, as
        `my.module.score`; see `wineexp.evaluation.own_metric`.
    direction : str, optional
        `maximize` or `minimize`: which way the deciding metric is better; by default `maximize`.
    kind : str
        `classification`, or `regression` to predict the column's numbers.
    positive : str or number, optional
        Of two classes, the one that precision, recall, F1 and the areas under curves speak of; by default the second.
    transform : str, optional
        Of numbers, one of `TRANSFORMS`: the model learns the logarithm of 1 + y, or y's quantile in the training rows
        as that of a normal distribution. Its predictions are transformed back before they are scored.
    costs : dict, optional
        What a decision costs, by the actual class and the predicted one, a number of at least 0; that of a right one is
        0 unless it is said. Models then decide on the class of the least expected cost, and `cost` is a metric.
    metric_needs : str
        Of a metric of one's own: `predictions`, or `probabilities`.
    """

    column: str
    bins: list[float] | None
    labels: list[str] | None
    ordinal: bool
    metric: str
    direction: str | None = None
    kind: str = CLASSIFICATION
    positive: str | int | float | None = None
    transform: str | None = None
    costs: dict[Any, Any] | None = None
    metric_needs: str = "predictions"

    @property
    def is_number(self) -> bool:
        """Whether numbers are predicted instead of classes."""
        return self.kind == REGRESSION

    def metrics(self, labels: Sequence[object]) -> dict[str, Metric]:
        """The metrics that are defined for the target, by name, the deciding one among them.

        Parameters
        ----------
        labels : sequence of n_classes labels
            None of a target of numbers.

        Raises
        ------
        UserError
            The deciding metric is unknown, or not defined for the target, or is better in the other direction.
        """
        of_target: dict[str, Any] = {"ordinal": self.ordinal, "has_costs": self.costs is not None}
        if is_own(self.metric):
            own = {self.metric: own_metric(self.metric, self.direction or MAXIMIZE, self.metric_needs, labels)}
        else:
            own = {}
            check_metric(self.metric, self.direction or MAXIMIZE, len(labels), **of_target)
        return own | {name: METRICS[name] for name in metrics_for(len(labels), **of_target)}

    def metric_faults(self) -> list[str]:
        """What is wrong with a deciding metric of one's own, as far as it shows without data."""
        try:
            if is_own(self.metric):
                own_metric(self.metric, self.direction or MAXIMIZE, self.metric_needs, [] if self.is_number else [0, 1])
        except UserError as error:
            return list(error.faults)
        return []

    def strata(self, frame: pd.DataFrame) -> pd.Series:
        """What splits are stratified by, the same for all targets that are read from the column: shape (n_samples,).

        Its values, or, of numbers with more than `MAX_STRATA` different ones, the number of their bin.
        """
        y = self.column_values(frame)
        if not is_number(y) or y.nunique() <= MAX_STRATA:
            return y
        return pd.qcut(y, N_BINS, labels=False, duplicates="drop")

    def column_values(self, frame: pd.DataFrame) -> pd.Series:
        """The column as labels: shape (n_samples,).

        Whole numbers are integers, also where they are texts. Values of several types, which have no order, are texts.
        """
        y = frame[self.column]
        if pd.api.types.is_integer_dtype(y):
            return y
        if y.dtype == object and len({type(value) for value in y.dropna()}) > 1:
            y = as_texts(y)
        if pd.api.types.is_bool_dtype(y) or y.isna().any():
            return y
        texts = y.astype(str).str.removesuffix(".0") if pd.api.types.is_float_dtype(y) else as_texts(y)
        return y.astype("int64") if texts.str.fullmatch("(?:0|-?[1-9][0-9]{0,17})").all() else y

    def read(self, frame: pd.DataFrame, features: tuple[str, ...]) -> tuple[pd.DataFrame, pd.Series, np.ndarray]:
        """Features, labels or numbers, and classes.

        Parameters
        ----------
        frame : DataFrame of shape (n_samples, n_columns)
        features : tuple of str
            Columns that a model may use; the target's own column is left out.

        Returns
        -------
        X : DataFrame of shape (n_samples, n_features)
        y : Series of shape (n_samples,)
        classes : ndarray of shape (n_classes,)
            The labels that occur, in ascending order, or the positive one of two last; none for a target of numbers.

        Raises
        ------
        UserError
            The kind or the transform is unknown, or an argument is of the other kind; the data set lacks the column; a
            row has no label, or no finite number; bins and labels do not fit each other or the column; all rows are of
            one class or number; or the positive class is not one of two.
        """
        self._check_kind()
        if self.column not in frame:
            readable = [str(column) for column in frame if column not in features] or list(features)
            raise UserError(
                f"target.column={self.column}: the data has no such column; it has targets in "
                f"{brief(', '.join(readable), MAX_COLUMNS_CHARS)} (choose a target=... that reads one of them)"
            )
        X = frame[[name for name in features if name != self.column]]
        if X.columns.empty:
            raise UserError(f"data: besides {self.column} there is no column to learn from")
        y = self.column_values(frame)
        if y.isna().any():
            places = np.flatnonzero(y.isna())
            shown = ", ".join(map(str, places[:MAX_SHOWN_ROWS])) + (", ..." if len(places) > MAX_SHOWN_ROWS else "")
            raise UserError(
                f"target.column={self.column}: {len(places):,} of {len(y):,} rows have no label (counted from 0: row "
                f"{shown}), and a model cannot learn from them; leave them out where the data set is made"
            )
        if self.is_number:
            return X, self._numbers(y), np.array([])
        bins, labels = self.bins or [], self.labels or []
        if (
            len(labels) != (len(bins) + 1 if bins else 0)
            or bins != sorted(set(bins))
            or len(labels) != len(set(labels))
        ):
            raise UserError(
                f"target.bins={self.bins}, target.labels={self.labels}: n ascending bins need n + 1 different labels, "
                "no bins need none"
            )
        if bins and not is_number(y):
            raise UserError(f"target.bins={self.bins}: the column {self.column} holds no numbers that could be binned")
        classes = np.unique(y)
        if bins:
            names = np.asarray(labels, dtype=object)
            y = pd.Series(names[np.searchsorted(bins, y)], y.index, name=y.name)
            classes = np.array([label for label in labels if (y == label).any()], dtype=object)
        if len(classes) < 2:
            raise UserError(
                f"target.column={self.column}, target.bins={self.bins}: all {len(y)} rows are of class {classes[0]}, "
                "there is nothing to tell apart; choose other bins"
            )
        return X, y, classes if self.positive is None else self._positive_last(classes)

    def _check_kind(self) -> None:
        faults = []
        if self.kind not in KINDS:
            faults.append(f"target.kind={self.kind}: {did_you_mean(self.kind, KINDS)}")
        if self.transform is not None and self.transform not in TRANSFORMS:
            faults.append(f"target.transform={self.transform}: {did_you_mean(self.transform, TRANSFORMS)}, or null")
        of_classes: dict[str, Any] = {
            "bins": self.bins,
            "labels": self.labels,
            "ordinal": self.ordinal,
            "positive": self.positive,
            "costs": self.costs,
        }
        for key, value in of_classes.items() if self.is_number else {"transform": self.transform}.items():
            if value not in (None, False):
                other = CLASSIFICATION if self.is_number else REGRESSION
                faults.append(f"target.{key}={value}: this is said of target.kind={other}, and it is {self.kind}")
        if faults:
            raise UserError(*faults)

    def cost_matrix(self, classes: Sequence[object]) -> list[list[float]] | None:
        """What each decision costs: n_classes lists, by the actual class, of n_classes numbers, by the predicted one.

        Parameters
        ----------
        classes : sequence of n_classes labels

        Returns
        -------
        list of list of float, or None
            None where the target says no costs.

        Raises
        ------
        UserError
            The costs name other classes, lack one, or hold something else than numbers of at least 0.
        """
        if self.costs is None:
            return None
        names = [str(label) for label in classes]
        said = {str(actual): row for actual, row in self.costs.items()}
        faults = [
            f"target.costs.{actual}={row}: what each decision costs is wanted, as {{{names[0]}: 1}}"
            for actual, row in said.items()
            if not isinstance(row, Mapping)
        ]
        by_pair = {
            (actual, str(predicted)): cost
            for actual, row in said.items()
            if isinstance(row, Mapping)
            for predicted, cost in row.items()
        }
        unknown = dict.fromkeys(name for name in [*said, *(predicted for _, predicted in by_pair)] if name not in names)
        faults += [
            f"target.costs: the target has no class {name}; {did_you_mean(name, names)}; words such as yes and no need "
            "quotes"
            for name in unknown
        ]
        faults += [
            f"target.costs.{actual}.{predicted}={cost}: a number of at least 0 is wanted"
            for (actual, predicted), cost in by_pair.items()
            if isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 <= cost < np.inf
        ]
        pairs = [(actual, predicted) for actual in names for predicted in names]
        if lacking := [f"{a}.{p}" for a, p in pairs if a != p and (a, p) not in by_pair]:
            listed = brief(", ".join(lacking), MAX_COLUMNS_CHARS)
            faults.append(
                f"target.costs: every wrong decision needs its cost, by actual and predicted class; {listed} lack it"
            )
        if faults:
            raise UserError(*faults)
        return [[float(by_pair.get((actual, predicted), 0)) for predicted in names] for actual in names]

    def _numbers(self, y: pd.Series) -> pd.Series:
        where = f"target.column={self.column}"
        if not is_number(y) or not np.isfinite(y).all():
            raise UserError(f"{where}, target.kind={REGRESSION}: the column holds other values than finite numbers")
        if y.nunique() < 2:
            raise UserError(f"{where}: all {len(y)} rows have {y.iloc[0]:g}, there is nothing to predict")
        if self.transform == "log1p" and y.min() <= -1:
            raise UserError(
                f"{where}, target.transform=log1p: y > -1 must hold, but the least is {y.min():g}; choose "
                "target.transform=quantile, or null"
            )
        return y.astype("float64")

    def _positive_last(self, classes: np.ndarray) -> np.ndarray:
        is_positive = np.array([str(label) == str(self.positive) for label in classes])
        if len(classes) != 2 or self.ordinal or not is_positive.any():
            why = (
                "the classes are ordered, and the second is the positive one"
                if self.ordinal
                else f"one of the two classes is wanted; {did_you_mean(str(self.positive), map(str, classes))}"
                if len(classes) == 2
                else f"there are {len(classes)} classes, and only of two is one the positive one"
            )
            raise UserError(f"target.positive={self.positive}: {why}")
        return np.concatenate([classes[~is_positive], classes[is_positive]])
