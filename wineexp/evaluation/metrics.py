"""Metrics: figures computed from a model's predictions on rows that it was not trained on."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn import metrics

from wineexp.core.errors import UserError, did_you_mean
from wineexp.evaluation.calibration import expected_calibration_error
from wineexp.evaluation.intervals import pinball_losses
from wineexp.evaluation.predictions import NumberPredictions, Predictions

Scores = dict[str, float]


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
        `numbers`, `costs` (classes, where the target says what decisions cost).
    computed_from : str
        `decisions` (the predicted classes or numbers); `probabilities`, also where the decisions follow from these; or
        `intervals`, which come from the errors in the other folds, see `cross_validation.with_intervals`.
    """

    score: Callable[[Any], float]
    direction: str = "maximize"
    applies_to: tuple[str, ...] = ("classes",)
    computed_from: str = "decisions"


def _of_decisions(figure: Callable[..., Any], predictions: Predictions | NumberPredictions, **options: Any) -> Any:
    """A figure of scikit-learn's from true and predicted classes or numbers."""
    return figure(predictions.y, predictions.predicted, sample_weight=predictions.weights, **options)


def _of_positive_class(figure: Callable[..., Any], predictions: Predictions) -> Any:
    """A figure of scikit-learn's from the probability of the second of two classes."""
    return figure(predictions.y, predictions.probabilities[:, 1], sample_weight=predictions.weights)


def _log_loss(predictions: Predictions) -> float:
    labels = range(predictions.probabilities.shape[1])
    y, weights = predictions.y, predictions.weights
    return float(metrics.log_loss(y, predictions.probabilities, labels=list(labels), sample_weight=weights))


def _balanced_accuracy(predictions: Predictions) -> float:
    # The mean recall of the classes that occur: scikit-learn's own function warns of predicted classes that do not.
    present = np.unique(predictions.y)
    recalls = _of_decisions(metrics.recall_score, predictions, labels=present, average=None, zero_division=0)
    return float(np.mean(recalls))


def _brier_score(predictions: Predictions) -> float:
    """Brier 1950, "Verification of forecasts expressed in terms of probability": summed over all classes, from 0 to 2.

    A target of two classes is no exception: its score is twice the squared error of the second class's probability.
    """
    labels = list(range(predictions.probabilities.shape[1]))
    return float(
        metrics.brier_score_loss(
            predictions.y,
            predictions.probabilities,
            labels=labels,
            scale_by_half=False,
            sample_weight=predictions.weights,
        )
    )


def _cohen_kappa(predictions: Predictions) -> float:
    labels = list(range(predictions.probabilities.shape[1]))
    return float(_of_decisions(metrics.cohen_kappa_score, predictions, labels=labels))


def _quadratic_weighted_kappa(predictions: Predictions) -> float:
    """Cohen 1968, "Weighted kappa": 1 less the squared distance over that of the same predictions dealt at random."""
    labels = range(predictions.probabilities.shape[1])
    counts = _of_decisions(metrics.confusion_matrix, predictions, labels=list(labels))
    weights = predictions.distances**2
    by_chance = np.sum(weights * (np.outer(counts.sum(axis=0), counts.sum(axis=1)) / counts.sum()))
    return float(1 - np.sum(weights * counts) / by_chance) if by_chance else np.nan


def _spearman(predictions: NumberPredictions) -> float:
    """Rank correlation of true and predicted numbers: how well the rows are sorted; NaN where either is constant."""
    if not np.ptp(predictions.y) or not np.ptp(predictions.predicted):
        return np.nan
    if predictions.weights is None:
        return float(stats.spearmanr(predictions.y, predictions.predicted).statistic)
    ranks = np.stack(
        [_weighted_ranks(values, predictions.weights) for values in (predictions.y, predictions.predicted)]
    )
    covariances = np.cov(ranks, aweights=predictions.weights)
    return float(covariances[0, 1] / np.sqrt(covariances[0, 0] * covariances[1, 1]))


def _weighted_ranks(values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The mean rank of each value (n_samples,), up to a constant, if each were there as often as its weight says."""
    _, position = np.unique(values, return_inverse=True)
    totals = np.bincount(position, weights)
    return np.asarray((np.cumsum(totals) - totals / 2)[position])


def _mean_error(predictions: Predictions | NumberPredictions) -> float:
    return float(np.average(predictions.errors, weights=predictions.weights))


def _mean_cost(predictions: Predictions) -> float:
    if predictions.costs is None:
        return np.nan
    return float(np.average(predictions.costs[predictions.y, predictions.predicted], weights=predictions.weights))


# Names are scikit-learn's where it has one.
METRICS: dict[str, Metric] = {
    "accuracy": Metric(lambda p: _of_decisions(metrics.accuracy_score, p)),
    "balanced_accuracy": Metric(_balanced_accuracy),
    "matthews_corrcoef": Metric(lambda p: _of_decisions(metrics.matthews_corrcoef, p)),
    "f1_macro": Metric(lambda p: _of_decisions(metrics.f1_score, p, average="macro", zero_division=0)),
    # Cohen 1960: agreement beyond chance. A model that always predicts the majority class has 0.
    "cohen_kappa": Metric(_cohen_kappa),
    "log_loss": Metric(_log_loss, "minimize", computed_from="probabilities"),
    "brier_score": Metric(_brier_score, "minimize", computed_from="probabilities"),
    "expected_calibration_error": Metric(expected_calibration_error, "minimize", computed_from="probabilities"),
    # Of the second of two classes, the positive one: how many of those predicted are it, how many of it are predicted,
    # and the harmonic mean of both.
    "precision": Metric(lambda p: _of_decisions(metrics.precision_score, p, zero_division=0), applies_to=("binary",)),
    "recall": Metric(lambda p: _of_decisions(metrics.recall_score, p, zero_division=np.nan), applies_to=("binary",)),
    "f1": Metric(lambda p: _of_decisions(metrics.f1_score, p, zero_division=0), applies_to=("binary",)),
    "average_precision": Metric(
        lambda p: _of_positive_class(metrics.average_precision_score, p) if p.y.any() else np.nan,
        applies_to=("binary",),
        computed_from="probabilities",
    ),
    "roc_auc": Metric(
        lambda p: _of_positive_class(metrics.roc_auc_score, p),
        applies_to=("binary",),
        computed_from="probabilities",
    ),
    # In the target's unit, where its classes are numbers; else in classes.
    "quadratic_weighted_kappa": Metric(_quadratic_weighted_kappa, applies_to=("ordinal",)),
    "mean_absolute_error": Metric(_mean_error, "minimize", applies_to=("ordinal", "numbers")),
    # Differences of decimal fractions are off by their last bits.
    "accuracy_within_1": Metric(
        lambda p: float(np.average(p.errors <= 1 + 1e-9, weights=p.weights)), applies_to=("ordinal",)
    ),
    "root_mean_squared_error": Metric(
        lambda p: float(np.sqrt(np.average(p.errors**2, weights=p.weights))), "minimize", applies_to=("numbers",)
    ),
    "median_absolute_error": Metric(
        lambda p: _of_decisions(metrics.median_absolute_error, p), "minimize", applies_to=("numbers",)
    ),
    # The share of the test rows' own variance that is explained; 0 for their mean, less for worse.
    "r2": Metric(lambda p: _of_decisions(metrics.r2_score, p) if np.ptp(p.y) else np.nan, applies_to=("numbers",)),
    "spearman": Metric(_spearman, applies_to=("numbers",)),
    # Of the ends of intervals, and of the distribution that they are quantiles of.
    "pinball": Metric(
        lambda p: _interval_scores(p).get("pinball", np.nan),
        "minimize",
        applies_to=("numbers",),
        computed_from="intervals",
    ),
    "crps": Metric(
        lambda p: _interval_scores(p).get("crps", np.nan),
        "minimize",
        applies_to=("numbers",),
        computed_from="intervals",
    ),
    # The mean cost of a decision. Decisions are then those of the least expected cost, and no others could be learned.
    "cost": Metric(_mean_cost, "minimize", applies_to=("costs",), computed_from="probabilities"),
}


def metrics_for(n_classes: int, *, ordinal: bool, has_costs: bool = False) -> list[str]:
    """Names of the metrics that are defined for a target of so many classes, or, with 0 classes, of numbers.

    Parameters
    ----------
    n_classes : int
    ordinal, has_costs : bool
        Whether the classes are ordered, and whether the target says what decisions cost.
    """
    if n_classes:
        of_target = {"binary": n_classes == 2, "ordinal": ordinal, "costs": has_costs}
        kinds = {"classes", *(kind for kind, holds in of_target.items() if holds)}
    else:
        kinds = {"numbers"}
    return [name for name, metric in METRICS.items() if kinds & set(metric.applies_to)]


def check_metric(name: str, direction: str, n_classes: int, *, ordinal: bool, has_costs: bool = False) -> None:
    """Check a target's deciding metric and its direction; the other arguments are those of `metrics_for`.

    Raises
    ------
    UserError
        The metric is unknown or not defined for the target, or is better in the other direction.
    """
    names = metrics_for(n_classes, ordinal=ordinal, has_costs=has_costs)
    if name == "cost" and n_classes and not has_costs:
        raise UserError(
            "target.metric=cost: target.costs must say what each decision costs, as {actual: {predicted: cost}}"
        )
    if name not in names:
        raise UserError(f"target.metric={name}: not a metric of this target; {did_you_mean(name, names)}")
    if direction != METRICS[name].direction:
        raise UserError(f"target.direction={direction}: {name} is to {METRICS[name].direction}")


def definitions(metrics: Iterable[str] | Mapping[str, Metric]) -> Mapping[str, Metric]:
    """Metrics by name, which may be given as names of `METRICS` alone."""
    return metrics if isinstance(metrics, Mapping) else {name: METRICS[name] for name in metrics}


def score(predictions: Predictions | NumberPredictions, metrics: Iterable[str] | Mapping[str, Metric]) -> Scores:
    """Some metrics of some predictions; ROC-AUC, kappa and the like are NaN where only one class occurs.

    Parameters
    ----------
    predictions : Predictions or NumberPredictions
    metrics : iterable of str, or mapping of str to Metric
        Names of `METRICS`, or metrics by name.

    Where rows have weights, each counts as if it were there so many times; where none has any, every metric is NaN.

    Predictions with prediction sets also get `set_coverage`, the share of sets that hold the true class, and
    `set_size`, the mean number of classes in a set. Numbers with intervals also get `interval_coverage`, the share of
    intervals that hold the true number, `interval_width`, their mean width, `pinball` of their ends, and `crps`.
    """
    chosen = {name: metric for name, metric in definitions(metrics).items() if metric.computed_from != "intervals"}
    if predictions.weights is not None:
        # Else a class of rows that do not count would count as one that occurs.
        predictions = predictions.select(predictions.weights > 0)
        if not len(predictions.y):
            return dict.fromkeys(chosen, np.nan)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Only one class is present in y_true")
        warnings.filterwarnings("ignore", "A single label was found")
        warnings.filterwarnings("ignore", "`y1`, `y2` and `labels` have only one label")
        scores = {name: float(metric.score(predictions)) for name, metric in chosen.items()}
    if isinstance(predictions, Predictions) and predictions.prediction_sets is not None:
        covered = predictions.prediction_sets[np.arange(len(predictions.y)), predictions.y]
        set_sizes = predictions.prediction_sets.sum(axis=1)
        means = [float(np.average(of_rows, weights=predictions.weights)) for of_rows in (covered, set_sizes)]
        scores |= dict(zip(("set_coverage", "set_size"), means, strict=True))
    if isinstance(predictions, NumberPredictions):
        scores |= _interval_scores(predictions)
    return scores


def _interval_scores(predictions: NumberPredictions) -> Scores:
    y, low, high, crps = predictions.y, predictions.low, predictions.high, predictions.crps
    if low is None or high is None or crps is None:
        return {}
    of_rows: dict[str, npt.NDArray[np.float64]] = {
        "interval_coverage": ((y >= low) & (y <= high)).astype(np.float64),
        "interval_width": high - low,
        "pinball": pinball_losses(y, low, high),
        "crps": crps,
    }
    return {name: float(np.average(values, weights=predictions.weights)) for name, values in of_rows.items()}
