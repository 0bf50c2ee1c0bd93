"""The inputs of a model card: what was recorded of a model, and what is computed from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import precision_recall_fscore_support

from wineexp.core.columns import as_texts, is_number
from wineexp.data import eda
from wineexp.data.task import Task
from wineexp.evaluation import cross_validation
from wineexp.evaluation.comparison import Comparison, compare_folds
from wineexp.evaluation.metrics import Scores, score
from wineexp.evaluation.predictions import NumberPredictions, Predictions, of_classes

# A share of fewer rows is marked as uncertain: its 95 % interval is wider than 0.3.
MIN_ROWS = 30
# Slices are compared by a mean over rows, whose average over the slices of a feature is the score of all rows. A rank
# correlation or a kappa would be lower in each slice of an important feature, because a slice has less variety.
SLICE_METRIC, NUMBER_SLICE_METRIC = "brier_score", "mean_absolute_error"
# A slice is much worse where its score is worse by more than this share of the score of all rows, with an interval that
# leaves out 0.
MUCH_WORSE_SHARE = 0.1
# Rows are sliced by this many of the most important features.
N_SLICE_FEATURES = 3
# Of a column with more texts, the most frequent ones are slices.
MAX_TEXT_SLICES = 20


@dataclass(frozen=True)
class Baseline:
    """The scores of a model to compare with: each metric on the same folds, and on the same holdout."""

    name: str
    folds: Mapping[str, Sequence[float]]
    holdout: Mapping[str, float]


@dataclass(frozen=True)
class CardInputs:
    """Everything that a model card is computed from.

    Attributes
    ----------
    task : Task
    folds : list of Fold
    holdout : Predictions or NumberPredictions, or None
        None where nothing is held out.
    baseline : Baseline or None
    params : mapping of str to str
        As recorded: the choice of each group, and every leaf of the config.
    tags : mapping of str to str
        As `record.lineage` makes them.
    importance : DataFrame of shape (n_features, n_repeats), or None
        How much worse the deciding metric gets when a feature is shuffled; None where it was not recorded.
    """

    task: Task
    folds: list[cross_validation.Fold]
    holdout: Predictions | NumberPredictions | None
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
        """Each metric on the holdout; empty where nothing is held out."""
        return self.task.score_holdout(self.holdout, self.folds)

    @cached_property
    def predictions(self) -> Predictions:
        """The out-of-fold predictions of all folds; a repeated split has several for each row."""
        return of_classes(cross_validation.pool_predictions(self.folds))

    @property
    def slice_metric(self) -> str:
        """The score by which slices are compared; see `SLICE_METRIC`."""
        return NUMBER_SLICE_METRIC if self.task.target.is_number else SLICE_METRIC

    def against_baseline(self, metric: str) -> Comparison | None:
        """The model compared with the baseline; None without a baseline or with fewer than two folds in common."""
        if self.baseline is None or metric not in self.task.metrics or metric not in self.baseline.folds:
            return None
        scores, reference = [fold.scores[metric] for fold in self.folds], self.baseline.folds[metric]
        return compare_folds(
            scores, reference, direction=self.task.metrics[metric].direction, test_to_train=self.task.test_to_train
        )

    def by_class(self, predictions: Predictions) -> pd.DataFrame:
        """Scores of each class.

        Returns
        -------
        DataFrame of shape (n_classes, 4)
            `precision`, `recall` and `f1`, NaN where they are not defined, and `predicted`, the number of predictions.
        """
        codes = range(len(self.labels))
        precision, recall, f1, _ = precision_recall_fscore_support(
            predictions.y,
            predictions.predicted,
            labels=list(codes),
            zero_division=np.nan,
            sample_weight=predictions.weights,
        )
        predicted = np.bincount(predictions.predicted, minlength=len(self.labels))
        columns = {"precision": precision, "recall": recall, "f1": f1, "predicted": predicted}
        return pd.DataFrame(columns, pd.Index(self.labels, name="class"))

    @cached_property
    def ranked_features(self) -> list[str]:
        """All features, the most important first.

        Without a recorded importance, the features that separate the classes best count as the most important.
        """
        X = self.task.X
        if self.importance is not None:
            ranked = self.importance.mean(axis=1).sort_values(ascending=False, kind="stable").index
        else:
            classes = pd.Series(eda.bands(self.task.y)[0]) if self.task.target.is_number else self.task.y
            ranked = eda.class_separation(X, classes).index
        names = [name if name in X else str(name).partition("=")[0] for name in map(str, ranked)]
        # A text column with one value alone is not ranked.
        return list(dict.fromkeys([*names, *map(str, X)]))

    @cached_property
    def slice_features(self) -> list[str]:
        """The features that rows are sliced by: the most important ones, and every column of text."""
        X = self.task.X
        text = [str(name) for name in X if not is_number(X[name])]
        return list(dict.fromkeys(self.ranked_features[:N_SLICE_FEATURES] + text))

    @cached_property
    def slices(self) -> pd.DataFrame:
        """Scores on slices of the rows outside the holdout.

        Returns
        -------
        DataFrame of shape (n_slices, 8 or 9)
            By the slice's name: `rows`, `majority` (share of the slice's most frequent class) or, of numbers, `mean`,
            and means over the folds of `accuracy` (of classes), of the deciding metric and of `slice_metric`.
            `coverage` is the share of prediction intervals that hold the true number, where there are such. `gain`,
            with the interval from `low` to `high`, is how much better the latter is than on all rows of the same
            folds, NaN where too few folds have rows of the slice. `much_worse` is true by the rule of
            `MUCH_WORSE_SHARE`.
        """
        scores = {
            label: self._score_slice(mask)
            for name in self.slice_features
            for label, mask in _slices_of(self.task.X[name]).items()
        }
        return pd.DataFrame.from_dict(scores, orient="index")

    def _score_slice(self, mask: npt.NDArray[np.bool_]) -> dict[str, float | bool]:
        is_number, slice_metric = self.task.target.is_number, self.slice_metric
        names = list(dict.fromkeys([*([] if is_number else ["accuracy"]), self.metric, slice_metric]))
        metrics = {name: self.task.metrics[name] for name in names}
        in_slice = [fold.predictions.select(mask[fold.test]) for fold in self.folds]
        no_scores = dict.fromkeys(names, np.nan)
        scores = pd.DataFrame([score(fold, metrics) if len(fold.y) else no_scores for fold in in_slice])
        all_rows = [fold.scores[slice_metric] for fold in self.folds]
        of_slice = scores[slice_metric].tolist()
        comparison = compare_folds(
            of_slice,
            all_rows,
            direction=self.task.metrics[slice_metric].direction,
            test_to_train=self.task.test_to_train,
        )
        y = self.task.y[mask]
        typical = {"mean": float(y.mean())} if is_number else {"majority": y.value_counts(normalize=True).max()}
        held = {"coverage": float(scores["interval_coverage"].mean())} if "interval_coverage" in scores else {}
        return {
            "rows": int(mask.sum()),
            **typical,
            **held,
            **{name: float(scores[name].mean()) for name in names},
            "gain": comparison.difference if comparison else np.nan,
            "low": comparison.low if comparison else np.nan,
            "high": comparison.high if comparison else np.nan,
            "much_worse": comparison is not None
            and comparison.verdict == "worse"
            and -comparison.difference > MUCH_WORSE_SHARE * self.summary[slice_metric][0],
        }


def _slices_of(values: pd.Series) -> dict[str, npt.NDArray[np.bool_]]:
    """Masks of the slices by a feature: thirds of numbers, in which equal values stay together, or frequent texts.

    Rows without a value are a slice of their own.
    """
    name = str(values.name).replace("_", " ")
    missing = {f"{name} missing": values.isna().to_numpy()} if values.isna().any() else {}
    if not is_number(values):
        texts = as_texts(values)
        frequent = sorted(texts.value_counts().index[:MAX_TEXT_SLICES])
        return {f"{name} = {text}": np.asarray(texts == text) for text in frequent} | missing
    column = values.to_numpy(dtype=np.float64, na_value=np.nan)
    low, high = np.nanquantile(column, [1 / 3, 2 / 3], method="inverted_cdf")
    thirds = {
        f"{name} ≤ {low:g}": column <= low,
        f"{low:g} < {name} ≤ {high:g}": (column > low) & (column <= high),
        f"{name} > {high:g}": column > high,
    }
    return {label: mask for label, mask in thirds.items() if mask.any()} | missing
