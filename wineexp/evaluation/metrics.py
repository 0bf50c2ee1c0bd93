"""Metrics: figures computed from a model's predictions on rows that it was not trained on."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from sklearn import metrics

from wineexp.core.errors import UserError, did_you_mean

Scores = dict[str, float]

# Before the name of a metric that a prediction of the training rows' mean has.
BASELINE = "baseline_"

# The most bins of a calibration curve, and the fewest rows of a bin: shares of fewer rows are mostly noise.
MAX_CALIBRATION_BINS, MIN_BIN_ROWS = 10, 10


@dataclass(frozen=True)
class Predictions:
    """A model's predictions on rows that it was not trained on.

    Attributes
    ----------
    y : ndarray of shape (n_samples,)
        True classes, as positions in the list of classes.
    predicted : ndarray of shape (n_samples,)
        Predicted classes, likewise.
    probabilities : ndarray of shape (n_samples, n_classes)
    prediction_sets : ndarray of bool of shape (n_samples, n_classes), or None
        Which classes a conformal model does not rule out; None for other models.
    values : ndarray of shape (n_classes,), or None
        The number that each class stands for, ascending, with which distances are measured; None where classes are no
        numbers, so that neighbours are 1 apart. See `class_values`.
    """

    y: npt.NDArray[np.intp]
    predicted: npt.NDArray[np.intp]
    probabilities: npt.NDArray[np.float64]
    prediction_sets: npt.NDArray[np.bool_] | None = None
    values: npt.NDArray[np.float64] | None = None

    @property
    def distances(self) -> npt.NDArray[np.float64]:
        """The distance of every class from every other one: shape (n_classes, n_classes)."""
        values = np.arange(self.probabilities.shape[1], dtype=float) if self.values is None else self.values
        return np.abs(values[:, None] - values)

    @property
    def errors(self) -> npt.NDArray[np.float64]:
        """The distance of each prediction from the true class: shape (n_samples,)."""
        return np.asarray(self.distances[self.y, self.predicted])


def of_classes(predictions: "Predictions | NumberPredictions") -> Predictions:
    """Predictions that are known to be of classes.

    Raises
    ------
    TypeError
        They are of numbers, which the caller should have refused.
    """
    if isinstance(predictions, NumberPredictions):
        raise TypeError("predictions of classes are wanted")
    return predictions


def class_values(labels: Iterable[object]) -> npt.NDArray[np.float64] | None:
    """The number that each label stands for, if all of them are ascending numbers, whether or not written as text."""
    try:
        values = np.array([float(str(label)) for label in labels])
    except ValueError:
        return None
    return values if np.isfinite(values).all() and (np.diff(values) > 0).all() else None


@dataclass(frozen=True)
class NumberPredictions:
    """A model's predictions of numbers for rows that it was not trained on.

    Attributes
    ----------
    y, predicted : ndarray of shape (n_samples,)
        True and predicted numbers.
    """

    y: npt.NDArray[np.float64]
    predicted: npt.NDArray[np.float64]

    @property
    def errors(self) -> npt.NDArray[np.float64]:
        """The distance of each prediction from the true number: shape (n_samples,)."""
        return np.asarray(np.abs(self.y - self.predicted))


@dataclass(frozen=True)
class Metric:
    """A figure computed from predictions.

    Attributes
    ----------
    score : callable
        Computes it.
    direction : str
        `maximize` or `minimize`: which way it is better.
    applies_to : tuple of str
        Targets for which it is defined: `classes` of any number, `binary` (two classes), `ordinal` (ordered classes),
        `numbers`.
    computed_from : str
        `decisions` (the predicted classes or numbers) or `probabilities`.
    """

    score: Callable[[Any], float]
    direction: str = "maximize"
    applies_to: tuple[str, ...] = ("classes",)
    computed_from: str = "decisions"


def _log_loss(predictions: Predictions) -> float:
    labels = range(predictions.probabilities.shape[1])
    return float(metrics.log_loss(predictions.y, predictions.probabilities, labels=list(labels)))


def _balanced_accuracy(predictions: Predictions) -> float:
    # The mean recall of the classes that occur: scikit-learn's own function warns of predicted classes that do not.
    present = np.unique(predictions.y)
    recalls = metrics.recall_score(predictions.y, predictions.predicted, labels=present, average=None, zero_division=0)
    return float(np.mean(recalls))


def _brier_score(predictions: Predictions) -> float:
    """Brier 1950, "Verification of forecasts expressed in terms of probability": summed over all classes, from 0 to 2.

    A target of two classes is no exception: its score is twice the squared error of the second class's probability.
    """
    labels = list(range(predictions.probabilities.shape[1]))
    return float(metrics.brier_score_loss(predictions.y, predictions.probabilities, labels=labels, scale_by_half=False))


def _cohen_kappa(predictions: Predictions) -> float:
    labels = list(range(predictions.probabilities.shape[1]))
    return float(metrics.cohen_kappa_score(predictions.y, predictions.predicted, labels=labels))


def _quadratic_weighted_kappa(predictions: Predictions) -> float:
    """Cohen 1968, "Weighted kappa": 1 less the squared distance over that of the same predictions dealt at random."""
    labels = range(predictions.probabilities.shape[1])
    counts = metrics.confusion_matrix(predictions.y, predictions.predicted, labels=list(labels))
    weights = predictions.distances**2
    by_chance = np.sum(weights * (np.outer(counts.sum(axis=0), counts.sum(axis=1)) / counts.sum()))
    return float(1 - np.sum(weights * counts) / by_chance) if by_chance else np.nan


def calibration_curve(predictions: Predictions, *, code: int | None = None) -> pd.DataFrame:
    """How often a class is the true one, by the probability that it was given.

    Bins have equal mass, as Nixon et al. 2019, "Measuring Calibration in Deep Learning", advise.

    Parameters
    ----------
    predictions : Predictions
    code : int, optional
        Position of the class; by default the likeliest class of each row, whichever class the model decided on.

    Returns
    -------
    DataFrame of shape (n_bins, 5)
        `low`, `high` and `confidence` (smallest, greatest and mean probability), `accuracy` (share of rows whose true
        class it is), `rows`; in ascending order of probability.
    """
    if code is None:
        confidence = predictions.probabilities.max(axis=1)
        correct = predictions.y == predictions.probabilities.argmax(axis=1)
    else:
        confidence, correct = predictions.probabilities[:, code], predictions.y == code
    bins = pd.DataFrame({"confidence": confidence, "correct": correct})
    return bins.groupby(_equal_mass_bins(confidence)).agg(
        low=("confidence", "min"),
        high=("confidence", "max"),
        confidence=("confidence", "mean"),
        accuracy=("correct", "mean"),
        rows=("correct", "size"),
    )


def binned_numbers(predictions: NumberPredictions) -> pd.DataFrame:
    """The mean of the true numbers, by the number that was predicted, in bins of equal mass.

    Returns
    -------
    DataFrame of shape (n_bins, 3)
        `predicted` and `true` (means), and `rows`; in ascending order of the prediction.
    """
    bins = pd.DataFrame({"predicted": predictions.predicted, "true": predictions.y})
    return bins.groupby(_equal_mass_bins(predictions.predicted)).agg(
        predicted=("predicted", "mean"), true=("true", "mean"), rows=("true", "size")
    )


def _equal_mass_bins(values: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """The number of each value's bin, of `MAX_CALIBRATION_BINS` or of as many as have `MIN_BIN_ROWS` values each.

    Equal values share a bin, so that the order of the rows does not matter.
    """
    n_bins = min(MAX_CALIBRATION_BINS, max(1, len(values) // MIN_BIN_ROWS))
    edges = np.unique(np.quantile(values, np.arange(1, n_bins) / n_bins, method="inverted_cdf"))
    return np.searchsorted(edges, values)


def calibrated_class(n_classes: int) -> int | None:
    """Position of the class whose calibration is drawn: the positive one of two; None for the likeliest of more."""
    return 1 if n_classes == 2 else None


def _expected_calibration_error(predictions: Predictions) -> float:
    """Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3, over the likeliest class's curve."""
    curve = calibration_curve(predictions)
    return float(np.average((curve["accuracy"] - curve["confidence"]).abs(), weights=curve["rows"]))


def _spearman(predictions: NumberPredictions) -> float:
    """Rank correlation of true and predicted numbers: how well the rows are sorted; NaN where either is constant."""
    if not np.ptp(predictions.y) or not np.ptp(predictions.predicted):
        return np.nan
    return float(stats.spearmanr(predictions.y, predictions.predicted).statistic)


# Names are scikit-learn's where it has one.
METRICS: dict[str, Metric] = {
    "accuracy": Metric(lambda p: metrics.accuracy_score(p.y, p.predicted)),
    "balanced_accuracy": Metric(_balanced_accuracy),
    "matthews_corrcoef": Metric(lambda p: metrics.matthews_corrcoef(p.y, p.predicted)),
    "f1_macro": Metric(lambda p: metrics.f1_score(p.y, p.predicted, average="macro", zero_division=0)),
    # Cohen 1960: agreement beyond chance. A model that always predicts the majority class has 0.
    "cohen_kappa": Metric(_cohen_kappa),
    "log_loss": Metric(_log_loss, "minimize", computed_from="probabilities"),
    "brier_score": Metric(_brier_score, "minimize", computed_from="probabilities"),
    "expected_calibration_error": Metric(_expected_calibration_error, "minimize", computed_from="probabilities"),
    # Of the second of two classes, the positive one: how many of those predicted are it, how many of it are predicted,
    # and the harmonic mean of both.
    "precision": Metric(lambda p: metrics.precision_score(p.y, p.predicted, zero_division=0), applies_to=("binary",)),
    "recall": Metric(lambda p: metrics.recall_score(p.y, p.predicted, zero_division=np.nan), applies_to=("binary",)),
    "f1": Metric(lambda p: metrics.f1_score(p.y, p.predicted, zero_division=0), applies_to=("binary",)),
    "average_precision": Metric(
        lambda p: metrics.average_precision_score(p.y, p.probabilities[:, 1]) if p.y.any() else np.nan,
        applies_to=("binary",),
        computed_from="probabilities",
    ),
    "roc_auc": Metric(
        lambda p: metrics.roc_auc_score(p.y, p.probabilities[:, 1]),
        applies_to=("binary",),
        computed_from="probabilities",
    ),
    # In the target's unit, where its classes are numbers; else in classes.
    "quadratic_weighted_kappa": Metric(_quadratic_weighted_kappa, applies_to=("ordinal",)),
    "mean_absolute_error": Metric(lambda p: float(np.mean(p.errors)), "minimize", applies_to=("ordinal", "numbers")),
    # Differences of decimal fractions are off by their last bits.
    "accuracy_within_1": Metric(lambda p: float(np.mean(p.errors <= 1 + 1e-9)), applies_to=("ordinal",)),
    "root_mean_squared_error": Metric(
        lambda p: float(np.sqrt(np.mean(p.errors**2))), "minimize", applies_to=("numbers",)
    ),
    "median_absolute_error": Metric(lambda p: float(np.median(p.errors)), "minimize", applies_to=("numbers",)),
    # The share of the test rows' own variance that is explained; 0 for their mean, less for worse.
    "r2": Metric(lambda p: metrics.r2_score(p.y, p.predicted) if np.ptp(p.y) else np.nan, applies_to=("numbers",)),
    "spearman": Metric(_spearman, applies_to=("numbers",)),
}


def metrics_for(n_classes: int, *, ordinal: bool) -> list[str]:
    """Names of the metrics that are defined for a target of so many classes, or, with 0 classes, of numbers."""
    if n_classes:
        kinds = {"classes"} | ({"binary"} if n_classes == 2 else set()) | ({"ordinal"} if ordinal else set())
    else:
        kinds = {"numbers"}
    return [name for name, metric in METRICS.items() if kinds & set(metric.applies_to)]


def check_metric(name: str, direction: str, n_classes: int, *, ordinal: bool) -> None:
    """Check a target's deciding metric and its direction; the number of classes is that of `metrics_for`.

    Raises
    ------
    UserError
        The metric is unknown or not defined for the target, or is better in the other direction.
    """
    names = metrics_for(n_classes, ordinal=ordinal)
    if name not in names:
        raise UserError(f"target.metric={name}: not a metric of this target; {did_you_mean(name, names)}")
    if direction != METRICS[name].direction:
        raise UserError(f"target.direction={direction}: {name} is to {METRICS[name].direction}")


def score(predictions: Predictions | NumberPredictions, names: list[str]) -> Scores:
    """The named metrics of some predictions; ROC-AUC, kappa and the like are NaN where only one class occurs.

    Predictions with prediction sets also get `set_coverage`, the share of sets that hold the true class, and
    `set_size`, the mean number of classes in a set.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Only one class is present in y_true")
        warnings.filterwarnings("ignore", "A single label was found")
        warnings.filterwarnings("ignore", "`y1`, `y2` and `labels` have only one label")
        scores = {name: float(METRICS[name].score(predictions)) for name in names}
    if isinstance(predictions, Predictions) and predictions.prediction_sets is not None:
        covered = predictions.prediction_sets[np.arange(len(predictions.y)), predictions.y]
        set_sizes = predictions.prediction_sets.sum(axis=1)
        scores |= {"set_coverage": float(covered.mean()), "set_size": float(set_sizes.mean())}
    return scores


def coverage_by_class(predictions: Predictions) -> pd.DataFrame:
    """How often prediction sets hold the true class: one row a class, by position; NaN for a class without rows.

    Returns
    -------
    DataFrame of shape (n_classes, 2)
        `rows` and `coverage`.

    Raises
    ------
    ValueError
        The predictions have no prediction sets.
    """
    if predictions.prediction_sets is None:
        raise ValueError("the predictions have no prediction sets")
    covered = predictions.prediction_sets[np.arange(len(predictions.y)), predictions.y]
    by_class = pd.Series(covered).groupby(predictions.y)
    table = pd.DataFrame({"rows": by_class.size(), "coverage": by_class.mean()})
    return table.reindex(range(predictions.prediction_sets.shape[1])).fillna({"rows": 0}).astype({"rows": int})


def baseline(y_train: npt.NDArray[Any]) -> Any:
    """What a model that knows no feature predicts always: the training rows' most frequent class, or their mean.

    Parameters
    ----------
    y_train : ndarray of shape (n_training,)
        Positions of classes, or, as floating-point numbers, the numbers of a target of numbers.
    """
    return float(y_train.mean()) if y_train.dtype.kind == "f" else int(np.bincount(y_train).argmax())


def baseline_scores(predicted: Any, y: npt.NDArray[Any], names: list[str]) -> Scores:
    """The scores of a constant prediction for test rows.

    Parameters
    ----------
    predicted : int or float
        As `baseline` gives it.
    y : ndarray of shape (n_samples,)
        As there, of the test rows.
    names : list of str
        The metrics that are scored.

    Returns
    -------
    dict of str to float
        `majority_accuracy`, for classes; for numbers `baseline_` and the name of each metric that is to be minimized.
    """
    if y.dtype.kind != "f":
        return {"majority_accuracy": float(np.mean(y == predicted))}
    constant = NumberPredictions(y, np.full(len(y), predicted))
    errors = [name for name in names if METRICS[name].direction == "minimize"]
    return {f"{BASELINE}{name}": value for name, value in score(constant, errors).items()}
