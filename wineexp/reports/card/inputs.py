"""Facts: what was recorded of a model, and what follows from it by computation alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import precision_recall_fscore_support

from wineexp.data import eda, split
from wineexp.data.task import Task
from wineexp.evaluation import comparison, cross_validation
from wineexp.evaluation.metrics import METRICS, Predictions, Scores, score

# Of fewer rows, a share says little: its 95 % interval is as wide as 0.3.
FEW = 30
# Two-sided, of every interval.
ALPHA = 0.05
# What slices are judged by: a mean over rows, so that over all slices of a feature it averages to the whole. A rank
# correlation, or a kappa, is less on every slice of a telling feature, for each holds less of what there is to tell.
SLICE_METRIC = "brier_score"
# A slice is worse where it is surely so, and by more than this share of the score over all rows.
MUCH = 0.1
# How many of the most important features rows are sliced by.
SLICED = 3


@dataclass(frozen=True)
class Baseline:
    """Another model's figures: its name, each metric by fold, on the same folds, and on the same holdout."""

    name: str
    folds: Mapping[str, Sequence[float]]
    holdout: Mapping[str, float]


@dataclass(frozen=True)
class Facts:
    """All that a model card may speak of.

    Attributes
    ----------
    task : Task
    folds : list of Fold
    holdout : Predictions or None
        None where nothing is held out.
    baseline : Baseline or None
    params : mapping of str to str
        As recorded: the choice of each group, and every leaf of the config.
    tags : mapping of str to str
        As `record.lineage` makes them.
    importance : DataFrame of shape (n_features, n_repeats), or None
        By how much the deciding metric gets worse when a feature is shuffled.
    """

    task: Task
    folds: list[cross_validation.Fold]
    holdout: Predictions | None
    baseline: Baseline | None
    params: Mapping[str, str]
    tags: Mapping[str, str]
    importance: pd.DataFrame | None

    @property
    def metric(self) -> str:
        """Name of the deciding metric."""
        return self.task.target.metric

    @property
    def labels(self) -> list[str]:
        """The classes in their order, as text."""
        return [str(label) for label in self.task.classes]

    @cached_property
    def summary(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation of each metric over the folds."""
        return cross_validation.summarise(self.folds)

    @cached_property
    def holdout_scores(self) -> Scores:
        """Each metric on the holdout; nothing where there is none."""
        return self.task.score_holdout(self.holdout)

    @cached_property
    def answers(self) -> Predictions:
        """The answers of all folds; of a repeated split, several for each row."""
        return cross_validation.pool_predictions(self.folds)

    def against_baseline(self, metric: str) -> comparison.Comparison | None:
        """The model held against the baseline; None where there is none, or fewer than two folds with both scores."""
        if self.baseline is None or metric not in self.task.metrics or metric not in self.baseline.folds:
            return None
        return self._paired(metric, [fold.scores[metric] for fold in self.folds], self.baseline.folds[metric])

    def by_class(self, answers: Predictions) -> pd.DataFrame:
        """Precision, recall, F1 and how often it was predicted: one row a class; NaN where there is no such share."""
        codes = range(len(self.labels))
        precision, recall, f1, _ = precision_recall_fscore_support(
            answers.y, answers.predicted, labels=list(codes), zero_division=np.nan
        )
        predicted = np.bincount(answers.predicted, minlength=len(self.labels))
        columns = {"precision": precision, "recall": recall, "f1": f1, "predicted": predicted}
        return pd.DataFrame(columns, pd.Index(self.labels, name="class"))

    @cached_property
    def sliced_by(self) -> list[str]:
        """The features that rows are sliced by: the most important ones, and every column of text.

        Where no importance was recorded, those that tell the classes apart best.
        """
        X = self.task.X
        if self.importance is not None:
            ranked = self.importance.mean(axis=1).sort_values(ascending=False, kind="stable").index
        else:
            ranked = eda.class_separation(X, self.task.y).index
        features = list(dict.fromkeys(str(name).partition("=")[0] for name in ranked))
        text = [str(name) for name in X if not pd.api.types.is_numeric_dtype(X[name])]
        return list(dict.fromkeys(features[:SLICED] + text))

    @cached_property
    def slices(self) -> pd.DataFrame:
        """How the model fares on parts of the rows outside the holdout.

        Returns
        -------
        DataFrame of shape (n_slices, 8 or 9)
            By the slice's name: `rows`, `majority` (share of the slice's most frequent class), means over the folds of
            `accuracy`, of the deciding metric and of `SLICE_METRIC`; by how much the latter is better than on all rows
            of the same folds, `gain` with `low` and `high` (NaN where too few folds have any row of it); `worse`.
        """
        rows = {}
        for name in self.sliced_by:
            for label, mask in _parts(self.task.X[name]).items():
                rows[label] = self._slice(mask)
        return pd.DataFrame.from_dict(rows, orient="index")

    @cached_property
    def copies(self) -> float:
        """Share of the folds' test rows that have an exact copy among the rows trained on."""
        groups = split.group_identical_rows(self.task.X)
        found = [np.isin(groups[test], groups[training]) for training, test in self.task.folds]
        return float(np.mean(np.concatenate(found)))

    def _slice(self, mask: npt.NDArray[np.bool_]) -> dict[str, float | bool]:
        names = list(dict.fromkeys(["accuracy", self.metric, SLICE_METRIC]))
        parts = [_some(fold.predictions, mask[fold.test]) for fold in self.folds]
        nothing = float("nan")
        scores = pd.DataFrame([score(p, names) if len(p.y) else dict.fromkeys(names, nothing) for p in parts])
        whole = [fold.scores[SLICE_METRIC] for fold in self.folds]
        found = self._paired(SLICE_METRIC, scores[SLICE_METRIC].tolist(), whole)
        return {
            "rows": int(mask.sum()),
            "majority": float(self.task.y[mask].value_counts(normalize=True).max()),
            **{name: float(scores[name].mean()) for name in names},
            "gain": found.difference if found else nothing,
            "low": found.low if found else nothing,
            "high": found.high if found else nothing,
            "worse": found is not None
            and found.verdict == "worse"
            and -found.difference > MUCH * self.summary[SLICE_METRIC][0],
        }

    def _paired(self, metric: str, first: Sequence[float], second: Sequence[float]) -> comparison.Comparison | None:
        one, other = np.array(first, dtype=float), np.array(second, dtype=float)
        if len(one) == len(other) and (~np.isnan(one - other)).sum() < 2:
            return None
        return comparison.corrected_t_test(
            one,
            other,
            direction=METRICS[metric].direction,
            test_to_train=self.task.test_to_train,
            alpha=ALPHA,
        )


def _parts(values: pd.Series) -> dict[str, npt.NDArray[np.bool_]]:
    """Thirds of a numeric feature, or each value of a text, as masks by name; equal values stay together."""
    name = str(values.name).replace("_", " ")
    if not pd.api.types.is_numeric_dtype(values):
        return {f"{name} = {value}": np.asarray(values == value) for value in sorted(values.dropna().unique())}
    low, high = np.nanquantile(values, [1 / 3, 2 / 3], method="inverted_cdf")
    column = values.to_numpy()
    parts = {
        f"{name} ≤ {low:g}": column <= low,
        f"{low:g} < {name} ≤ {high:g}": (column > low) & (column <= high),
        f"{name} > {high:g}": column > high,
    }
    return {label: mask for label, mask in parts.items() if mask.any()}


def _some(answers: Predictions, mask: npt.NDArray[np.bool_]) -> Predictions:
    return Predictions(answers.y[mask], answers.predicted[mask], answers.probabilities[mask])
