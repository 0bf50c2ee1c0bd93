"""The learning task that a config defines: rows and labels, split into a holdout and the folds of the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import BaseCrossValidator
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from wineexp.core.columns import column_fault
from wineexp.core.dates import UNIT, days
from wineexp.core.errors import UserError
from wineexp.data import leaks, schema, split
from wineexp.data.dataset import Dataset
from wineexp.data.external_plan import ExternalPlan, external_classes
from wineexp.data.groups import Indices, group_identical_rows, join_groups
from wineexp.data.hashed_split import hashed_split
from wineexp.data.holdout import set_aside, validation_rows
from wineexp.data.schema import NumericFeature
from wineexp.data.target import Target
from wineexp.evaluation import cross_validation
from wineexp.evaluation.baseline import baseline, baseline_scores
from wineexp.evaluation.grouped_folds import FittedRows
from wineexp.evaluation.metrics import Metric, Scores, score
from wineexp.evaluation.own_metric import is_own, try_out
from wineexp.evaluation.predictions import NumberPredictions, Predictions, class_values

# Number of the fold in a table of predictions for the rows of the holdout.
HOLDOUT_FOLD = -1


@dataclass(frozen=True)
class Task:
    """What a model learns from, and the rows that it is scored on.

    Attributes
    ----------
    dataset : Dataset
    target : Target
    classes : ndarray of shape (n_classes,)
        Labels in ascending order; none where numbers are predicted.
    X, y : DataFrame of shape (n_training, n_features), Series of shape (n_training,)
        Rows for tuning and cross-validation.
    X_holdout, y_holdout : DataFrame and Series, likewise
        Rows that neither of them may see.
    folds : list of (training, test) positions in X
    rows, rows_holdout : ndarrays of int
        Positions in the data set of the rows of X and of X_holdout.
    sets : ndarray of int of shape (n_training,)
        Number of each row's set, whose rows stay together: its group and its copies.
    snapshots : ndarray of int of shape (n_training,), or None
        See `Dataset.snapshots`.
    leaks : dict of str to float
        What `leaks.leaks` finds in the folds, on average, and, by names that begin with `holdout_`, in the holdout.
    dates : tuple of str
        Features that are dates; in X they are numbers, see `wineexp.core.dates`.
    weights, weights_holdout : ndarrays of shapes (n_training,) and (n_holdout,), or None
        How many rows each row counts for, where the data set says it.
    plan : ExternalPlan, or None
        What all rows are for, where the table is read in batches; all of the above then is of a sample of them.
    """

    dataset: Dataset
    target: Target
    classes: npt.NDArray[np.generic]
    X: pd.DataFrame
    y: pd.Series
    X_holdout: pd.DataFrame
    y_holdout: pd.Series
    folds: list[tuple[Indices, Indices]]
    rows: Indices
    rows_holdout: Indices
    leaks: dict[str, float]
    sets: Indices
    weights: npt.NDArray[np.float64] | None = None
    weights_holdout: npt.NDArray[np.float64] | None = None
    dates: tuple[str, ...] = ()
    snapshots: Indices | None = None
    plan: ExternalPlan | None = None

    @property
    def n_training(self) -> int:
        """Number of rows for tuning and cross-validation, whether or not they are all in X."""
        return len(self.y) if self.plan is None else self.plan.n_training

    @property
    def n_holdout(self) -> int:
        """Number of rows that are held out, whether or not they are all in X_holdout."""
        return len(self.y_holdout) if self.plan is None else self.plan.n_holdout

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """The metrics that are defined for the target, by name."""
        return self.target.metrics(self.classes.tolist())

    @property
    def deciding_metric(self) -> Metric:
        """The one that decides between models."""
        return self.metrics[self.target.metric]

    @property
    def frame(self) -> pd.DataFrame:
        """The training rows with their labels: (n_training, n_features + 1)."""
        return self.X.assign(**{self.target.column: self.y})

    @property
    def test_to_train(self) -> float:
        """Test rows of a fold over its training rows, on average; NaN where there are no folds."""
        return float(np.mean([len(test) / len(training) for training, test in self.folds])) if self.folds else np.nan

    def encoded(self, y: pd.Series) -> npt.NDArray[Any]:
        """Positions in `classes` of labels (n_samples,); numbers as they are."""
        return cross_validation.encoded(y, None if self.target.is_number else self.classes)

    def validation_rows(self, rows: Indices, *, fraction: float, seed: int) -> tuple[Indices, Indices]:
        """What `holdout.validation_rows` gives for a fit on these rows of X: positions in `rows`."""
        strata = self.target.strata(self.frame) if self.target.is_number else self.y
        times = None if self.dataset.times is None else self.dataset.times.iloc[self.rows[rows]]
        return validation_rows(strata.iloc[rows], self.sets[rows], times, fraction=fraction, seed=seed)

    @cached_property
    def fitted_rows(self) -> FittedRows | None:
        """What folds within a model need to know of the rows of X; None where they belong to no group and no time."""
        times = None if self.dataset.times is None else self.dataset.times.iloc[self.rows]
        if times is None and self.dataset.groups is None:
            return None
        return FittedRows(self.sets, None if times is None else np.unique(times, return_inverse=True)[1])

    def predict_holdout(
        self, fitted: Pipeline, folds: Sequence[cross_validation.Fold] = ()
    ) -> Predictions | NumberPredictions | None:
        """A fitted pipeline's predictions on the holdout; None where nothing is held out.

        Numbers have intervals from the errors in the folds.
        """
        if self.y_holdout.empty:
            return None
        # The folds use as many threads, on which the last bits of a matrix product depend.
        with threadpool_limits(cross_validation.NATIVE_THREADS):
            y = self.encoded(self.y_holdout)
            predictions = cross_validation.predict(fitted, self.X_holdout, y, self.weights_holdout)
        if isinstance(predictions, NumberPredictions):
            return predictions.with_intervals(cross_validation.error_distribution(folds))
        return predictions

    def score_holdout(
        self, predictions: Predictions | NumberPredictions | None, folds: Sequence[cross_validation.Fold] = ()
    ) -> Scores:
        """Every metric on the holdout, and `baseline_scores`; empty where nothing is held out.

        The intervals around the baseline's number come from the errors in the folds.
        """
        if predictions is None:
            return {}
        constant, of_constants = self.baseline(), cross_validation.error_distribution(folds, of_constants=True)
        of_intervals = cross_validation.constant_interval_scores(constant, predictions, of_constants)
        if predictions.all_scores is not None:
            # Beside them there are only those of intervals, which are computed on the sample.
            return {**predictions.all_scores, **score(predictions, []), **of_intervals}
        of_baseline = baseline_scores(constant, predictions, self.metrics)
        return score(predictions, self.metrics) | of_baseline | of_intervals

    def baseline(self, rows: Indices | None = None) -> Any:
        """What `baseline` gives for these rows of X, by default for all."""
        rows = np.arange(len(self.y)) if rows is None else rows
        return baseline(self.encoded(self.y)[rows], None if self.weights is None else self.weights[rows])

    def predictions_table(
        self, folds: list[cross_validation.Fold], holdout: Predictions | NumberPredictions | None
    ) -> pd.DataFrame:
        """The predictions of all folds and of the holdout, row by row.

        Returns
        -------
        DataFrame of shape (n_predictions, n_columns)
            `fold` (`HOLDOUT_FOLD` for the holdout), `row` (position in the data set), `true`, `predicted` and
            `baseline` (labels as text, or numbers; the last is that of most training rows, or their mean), `weight`
            where the data set has weights, for each class `probability <label>`, not rounded, and `in set <label>`
            where the model gives prediction sets.
        """
        tables = [self._table(fold.number, self.rows[fold.test], fold.predictions, fold.constant) for fold in folds]
        if holdout is not None:
            tables.append(self._table(HOLDOUT_FOLD, self.rows_holdout, holdout, self.baseline()))
        table = pd.concat(tables, ignore_index=True)
        return table if self.plan is None else table.assign(row=self.plan.table.sampled[table["row"]])

    def _table(
        self, fold: int, rows: Indices, predictions: Predictions | NumberPredictions, constant: Any
    ) -> pd.DataFrame:
        columns: dict[str, Any] = {"fold": fold, "row": rows}
        weight = {} if predictions.weights is None else {"weight": predictions.weights}
        if isinstance(predictions, NumberPredictions):
            columns |= {"true": predictions.y, "predicted": predictions.predicted, "baseline": constant}
            of_interval = {"low": predictions.low, "high": predictions.high, "crps": predictions.crps}
            return pd.DataFrame(
                columns | weight | {name: part for name, part in of_interval.items() if part is not None}
            )
        labels = np.array([str(label) for label in self.classes], dtype=object)
        columns |= {
            "true": labels[predictions.y],
            "predicted": labels[predictions.predicted],
            "baseline": labels[constant],
            **weight,
        }
        for code, label in enumerate(labels):
            columns[f"probability {label}"] = predictions.probabilities[:, code]
        if predictions.prediction_sets is not None:
            for code, label in enumerate(labels):
                columns[f"in set {label}"] = predictions.prediction_sets[:, code]
        return pd.DataFrame(columns)

    def tags(self) -> dict[str, str]:
        """Tags of a run that identify the data, the split and the deciding metric."""
        return {
            "data.md5": self.dataset.md5,
            "data.dvc": "+".join(pin.dvc_name for pin in self.dataset.pins),
            "data.rows": str(self.dataset.n_rows),
            "data.duplicate_rows": str(self.dataset.duplicates),
            "data.features": str(self.X.shape[1]),
            "split.sha256": self._split_fingerprint(),
            "split.test_to_train": str(self.test_to_train),
            **{f"split.leaks.{name}": f"{share:.4f}" for name, share in self.leaks.items()},
            "deciding_metric": self.target.metric,
            **({} if self.dataset.weights is None else {"data.weight": str(self.dataset.weights.name)}),
        }

    def _split_fingerprint(self) -> str:
        if self.plan is not None:
            return self.plan.fingerprint
        return split.fingerprint(
            self.rows_holdout, [(self.rows[training], self.rows[test]) for training, test in self.folds]
        )

    def schema(self, data: str, target: str) -> schema.Schema:
        """Schema of a model, from the training rows alone; `data` and `target` name the choices of these groups."""
        return schema.Schema(
            data=data,
            target=target,
            column=self.target.column,
            classes=[str(label) for label in self.classes],
            ordinal=self.target.ordinal,
            metric=self.target.metric,
            features=schema.describe_features(
                self.X, self.dataset.units, self.dataset.meanings, self.dates, self.dataset.levels
            ),
            samples=schema.pick_samples(self.X, self.y, of_numbers=self.target.is_number),
            noun=list(self.dataset.noun),
            numbers=self._describe_numbers() if self.target.is_number else None,
        )

    def _describe_numbers(self) -> NumericFeature:
        """The target's numbers in the training rows, with the unit and the meaning that the data set says."""
        column, dataset = self.target.column, self.dataset
        described = schema.describe_feature(self.y, dataset.units.get(column, ""), dataset.meanings.get(column, ""))
        assert isinstance(described, NumericFeature)  # noqa: S101  for mypy
        return described

    def describe(self) -> str:
        """The numbers of rows, as a sentence."""
        n_left_out = self.dataset.n_rows - self.n_training - self.n_holdout
        left_out = f", {n_left_out} left out for their group or their copies among the latest" if n_left_out else ""
        weighted = (
            "" if self.dataset.weights is None else f" Each row counts as often as {self.dataset.weights.name} says."
        )
        return (
            f"{self.dataset.n_rows} rows, {self.dataset.duplicates} of them exact duplicates of an earlier one; "
            f"{self.n_training} cross-validated, {self.n_holdout} held out{left_out}.{weighted}"
        )


def out_of_fold_predictions(table: pd.DataFrame) -> Predictions | NumberPredictions:
    """The predictions of all folds, without the holdout's, from a table of `Task.predictions_table`."""
    return predictions_from_table(table[table["fold"] != HOLDOUT_FOLD])


def predictions_from_table(table: pd.DataFrame) -> Predictions | NumberPredictions:
    """All predictions of a table, or of a part of it, that `Task.predictions_table` made."""
    probabilities = table.filter(regex="^probability ")
    weights = table["weight"].to_numpy(dtype=np.float64) if "weight" in table else None
    if probabilities.empty:
        true, predicted = (table[name].to_numpy(dtype=np.float64) for name in ("true", "predicted"))
        of_interval = [table[name].to_numpy(dtype=np.float64) for name in ("low", "high", "crps") if name in table]
        return NumberPredictions(true, predicted, weights, *of_interval)
    labels = pd.Index([str(name).removeprefix("probability ") for name in probabilities])
    return Predictions(
        y=np.asarray(labels.get_indexer(pd.Index(table["true"]))),
        predicted=np.asarray(labels.get_indexer(pd.Index(table["predicted"]))),
        probabilities=probabilities.to_numpy(),
        values=class_values(labels),
        weights=weights,
    )


def labels_from_table(table: pd.DataFrame) -> list[str]:
    """The classes of such a table, in their order; none where numbers are predicted."""
    return [str(name).removeprefix("probability ") for name in table.filter(regex="^probability ")]


def baseline_from_table(table: pd.DataFrame) -> Any:
    """What `baseline` gave for the training rows of the one fold that a part of such a table is of."""
    labels = labels_from_table(table)
    constant = table["baseline"].iloc[0]
    return labels.index(constant) if labels else float(constant)


def make_task(
    dataset: Dataset, target: Target, splitter: BaseCrossValidator | None, holdout: Mapping[str, Any]
) -> Task:
    """Read the target from the data, set the holdout aside and split the rest into folds.

    Parameters
    ----------
    dataset : Dataset
    target : Target
    splitter : cross-validator, or None
        None makes no folds, for a program that trains nothing.
    holdout : mapping
        `size`, `seed` and, by default 0, `fold`; see `wineexp.data.holdout.set_aside`.

    Raises
    ------
    UserError
        The target, its metric, the holdout or the splitter does not fit the data, the splitter needs an order, or
        groups that the data set does not say, or a column is of a kind that no model learns from.
    """
    if splitter is not None:
        split.check_splitter(
            splitter,
            has_groups=dataset.groups is not None,
            has_times=dataset.times is not None,
            has_folds=dataset.folds is not None,
        )
    X, y, classes = target.read(dataset.frame, dataset.features)
    plan = _external_plan(dataset, target, splitter, holdout)
    if plan is not None and plan.classes is not None:
        # The sample may lack a rare one.
        classes = plan.classes.classes
    dates = tuple(str(name) for name in X if pd.api.types.is_datetime64_any_dtype(X[name]))
    if dates:
        numbers = {name: days(X[name]) for name in dates}
        # Of dates without a time, explanations name none with one.
        are_whole = {name for name, values in numbers.items() if (values % 1 == 0).all()}
        X = X.assign(
            **{name: values.astype(np.int64) if name in are_whole else values for name, values in numbers.items()}
        )
        dataset = replace(dataset, units=dataset.units | dict.fromkeys(dates, UNIT))
    deciding = target.metrics(classes.tolist())[target.metric]
    target.cost_matrix(classes.tolist())
    identical = sets = group_identical_rows(X)
    if dataset.is_repeated_by_chance and (dataset.groups is not None or dataset.times is not None):
        # Rows that agree by chance would join groups and leave out earlier rows for no reason.
        sets = np.arange(len(X))
    if dataset.groups is not None:
        sets = join_groups(sets, dataset.groups)
    # Of the column, not of the target, so that all targets that are read from it share one holdout.
    strata = target.strata(dataset.frame)
    if plan is not None:
        is_held_out = plan.split.is_held_out(plan.sampled_hashes)
        training, held_out = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
    else:
        training, held_out = _set_aside(dataset, target, strata, sets, holdout)
    faults = {str(name): column_fault(X[name].iloc[training]) for name in X}
    if any(faults.values()):
        raise UserError(*(f"data: the column {name} {fault}" for name, fault in faults.items() if fault))
    folds = []
    if plan is not None:
        folds = plan.split.folds(plan.sampled_hashes[training])
    elif splitter is not None:
        folds = split.folds(
            splitter,
            X.iloc[training],
            (strata if target.is_number else y).iloc[training],
            sets[training],
            times=None if dataset.times is None else dataset.times.iloc[training],
            given=None if dataset.folds is None else dataset.folds.iloc[training],
        )
    in_folds = [(training[fit], training[test]) for fit, test in folds]
    shares = leaks.leaks(in_folds, identical, dataset.groups, dataset.times)
    if len(held_out):
        in_holdout = leaks.leaks([(training, held_out)], identical, dataset.groups, dataset.times)
        shares |= {f"holdout_{name}": share for name, share in in_holdout.items()}
    leaks.warn(shares, dataset.groups)
    weights = _weights(dataset.weights, in_folds)
    if is_own(target.metric):
        codes = cross_validation.encoded(y.iloc[training], None if target.is_number else classes)
        try_out(
            target.metric, deciding, _all_right(codes, len(classes), None if weights is None else weights[training])
        )
    return Task(
        dataset=dataset,
        target=target,
        classes=classes,
        X=X.iloc[training].reset_index(drop=True),
        y=y.iloc[training].reset_index(drop=True),
        X_holdout=X.iloc[held_out].reset_index(drop=True),
        y_holdout=y.iloc[held_out].reset_index(drop=True),
        folds=folds,
        rows=training,
        rows_holdout=held_out,
        leaks=shares,
        weights=None if weights is None else weights[training],
        weights_holdout=None if weights is None else weights[held_out],
        dates=dates,
        sets=sets[training],
        snapshots=None if dataset.snapshots is None else dataset.snapshots[training],
        plan=plan,
    )


def _external_plan(
    dataset: Dataset, target: Target, splitter: BaseCrossValidator | None, holdout: Mapping[str, Any]
) -> ExternalPlan | None:
    """What the rows of a data set that is read in batches are for; None where it is all in memory."""
    table = dataset.external
    if table is None:
        return None
    return ExternalPlan(
        table,
        target,
        hashed_split(splitter, holdout),
        table.row_hashes(without=target.column),
        None if target.is_number else external_classes(table, target),
        None if dataset.weights is None else str(dataset.weights.name),
    )


def _all_right(
    y: npt.NDArray[Any], n_classes: int, weights: npt.NDArray[np.float64] | None
) -> Predictions | NumberPredictions:
    """Predictions of encoded labels or numbers (n_samples,) without an error."""
    return Predictions(y, y, np.eye(n_classes)[y], weights=weights) if n_classes else NumberPredictions(y, y, weights)


def _set_aside(
    dataset: Dataset, target: Target, strata: pd.Series, sets: Indices, holdout: Mapping[str, Any]
) -> tuple[Indices, Indices]:
    """As `holdout.set_aside`; with feedback, the holdout is the one that the data set has without it.

    No row of feedback is held out, and none that equals a held-out one is trained on.
    """
    if dataset.snapshots is None:
        return set_aside(dataset, strata, sets, holdout)
    own = np.flatnonzero(dataset.snapshots == 0)
    frame = dataset.frame.iloc[own]
    # `table` has refused feedback where the data set says groups, times, folds or weights.
    training, held_out = set_aside(replace(dataset, frame=frame), target.strata(frame), sets[own], holdout)
    later = np.flatnonzero(dataset.snapshots > 0)
    return np.concatenate([training, later[~np.isin(sets[later], sets[held_out])]]), held_out


def _weights(column: pd.Series | None, folds: list[tuple[Indices, Indices]]) -> npt.NDArray[np.float64] | None:
    """The weights of all rows (n_samples,), of which those of each side of each fold are not all 0."""
    if column is None:
        return None
    weights = column.to_numpy(dtype=np.float64)
    if any(not weights[rows].sum() for fold in folds for rows in fold):
        raise UserError(
            f"data.weight={column.name}: all training rows of a fold, or all its test rows, have a weight of 0, so "
            "that none of them counts; choose another split=..., or fewer folds"
        )
    return weights
