"""Metrics: what is computed from predictions on rows that a model was not trained on."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn import metrics

from wineexp.core.errors import UserError, did_you_mean

Scores = dict[str, float]

# Bins in which probabilities are held against what happened, and the fewest answers of one: fewer are mostly noise.
BINS, BIN_ROWS = 10, 10


@dataclass(frozen=True)
class Predictions:
    """A model's answers on rows that it was not trained on.

    Attributes
    ----------
    y : ndarray of shape (n_samples,)
        True classes as positions in the list of classes.
    predicted : ndarray of shape (n_samples,)
        The classes that were decided on, likewise.
    probabilities : ndarray of shape (n_samples, n_classes)
    sets : ndarray of bool of shape (n_samples, n_classes), or None
        Which classes are not ruled out; None of a model that knows of no such sets.
    """

    y: npt.NDArray[np.intp]
    predicted: npt.NDArray[np.intp]
    probabilities: npt.NDArray[np.float64]
    sets: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Metric:
    """A figure computed from answers, and which way it is better."""

    score: Callable[[Predictions], float]
    direction: str = "maximize"
    # On which targets it means something: all, those of two classes, those whose classes are ordered.
    applies_to: str = "all"
    # What it is computed from: the decisions, or the probabilities alone.
    judges: str = "decisions"


def _log_loss(answers: Predictions) -> float:
    labels = range(answers.probabilities.shape[1])
    return float(metrics.log_loss(answers.y, answers.probabilities, labels=list(labels)))


def _balanced_accuracy(answers: Predictions) -> float:
    # Recall over the classes that occur, as scikit-learn has it, without its warning about those that do not.
    present = np.unique(answers.y)
    recalls = metrics.recall_score(answers.y, answers.predicted, labels=present, average=None, zero_division=0)
    return float(np.mean(recalls))


def _brier_score(answers: Predictions) -> float:
    """Brier 1950, "Verification of forecasts expressed in terms of probability": over all classes, so from 0 to 2.

    Of two classes too, where it is twice the squared error of the second one's probability.
    """
    labels = list(range(answers.probabilities.shape[1]))
    return float(metrics.brier_score_loss(answers.y, answers.probabilities, labels=labels, scale_by_half=False))


def _cohen_kappa(answers: Predictions, weights: str | None = None) -> float:
    labels = list(range(answers.probabilities.shape[1]))
    return float(metrics.cohen_kappa_score(answers.y, answers.predicted, weights=weights, labels=labels))


def reliability(answers: Predictions) -> pd.DataFrame:
    """How often the likeliest class is right, by the probability that it was given.

    Bins of equal mass, as Nixon et al. 2019, "Measuring Calibration in Deep Learning", advise: `BINS` of them, or as
    many as have `BIN_ROWS` answers each. Equal probabilities share a bin, so the rows' order changes nothing.

    Returns
    -------
    DataFrame of shape (n_bins, 5)
        `low`, `high` and `confidence` (smallest, greatest and mean probability), `accuracy`, `answers` (their number);
        the least confident bin first.
    """
    # Not the class that was decided on, whose probability a decision may have other reasons than to maximize.
    confidence, right = answers.probabilities.max(axis=1), answers.y == answers.probabilities.argmax(axis=1)
    bins = min(BINS, max(1, len(confidence) // BIN_ROWS))
    edges = np.unique(np.quantile(confidence, np.arange(1, bins) / bins, method="inverted_cdf"))
    table = pd.DataFrame({"confidence": confidence, "right": right}).groupby(np.searchsorted(edges, confidence))
    return table.agg(
        low=("confidence", "min"),
        high=("confidence", "max"),
        confidence=("confidence", "mean"),
        accuracy=("right", "mean"),
        answers=("right", "size"),
    )


def _expected_calibration_error(answers: Predictions) -> float:
    """Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3, over the bins of `reliability`."""
    bins = reliability(answers)
    return float(np.average((bins["accuracy"] - bins["confidence"]).abs(), weights=bins["answers"]))


# Names are scikit-learn's where it has one.
METRICS: dict[str, Metric] = {
    "accuracy": Metric(lambda a: metrics.accuracy_score(a.y, a.predicted)),
    "balanced_accuracy": Metric(_balanced_accuracy),
    "matthews_corrcoef": Metric(lambda a: metrics.matthews_corrcoef(a.y, a.predicted)),
    "f1_macro": Metric(lambda a: metrics.f1_score(a.y, a.predicted, average="macro", zero_division=0)),
    # Agreement beyond what chance would give (Cohen 1960): 0 is as good as chance, and the majority class.
    "cohen_kappa": Metric(_cohen_kappa),
    "log_loss": Metric(_log_loss, "minimize", judges="probabilities"),
    "brier_score": Metric(_brier_score, "minimize", judges="probabilities"),
    "expected_calibration_error": Metric(_expected_calibration_error, "minimize", judges="probabilities"),
    "roc_auc": Metric(
        lambda a: metrics.roc_auc_score(a.y, a.probabilities[:, 1]), applies_to="binary", judges="probabilities"
    ),
    "quadratic_weighted_kappa": Metric(lambda a: _cohen_kappa(a, weights="quadratic"), applies_to="ordinal"),
    "mean_absolute_error": Metric(
        lambda a: metrics.mean_absolute_error(a.y, a.predicted), "minimize", applies_to="ordinal"
    ),
    "accuracy_within_1": Metric(lambda a: np.mean(np.abs(a.y - a.predicted) <= 1), applies_to="ordinal"),
}


def metrics_for(n_classes: int, *, ordinal: bool) -> list[str]:
    """Names of the metrics that mean something for a target."""
    kinds = {"all"} | ({"binary"} if n_classes == 2 else set()) | ({"ordinal"} if ordinal else set())
    return [name for name, metric in METRICS.items() if metric.applies_to in kinds]


def check_metric(name: str, direction: str, n_classes: int, *, ordinal: bool) -> None:
    """Hold a target's deciding metric against the metrics that exist for it.

    Raises
    ------
    UserError
        The metric is unknown, does not apply to the target, or is better the other way.
    """
    names = metrics_for(n_classes, ordinal=ordinal)
    if name not in names:
        raise UserError(f"target.metric={name}: not a metric of this target; {did_you_mean(name, names)}")
    if direction != METRICS[name].direction:
        raise UserError(f"target.direction={direction}: {name} is to {METRICS[name].direction}")


def score(answers: Predictions, names: list[str]) -> Scores:
    """The named metrics of some answers; ROC-AUC and kappa are NaN where only one class occurs.

    Of answers with sets also `set_coverage`, how often they hold the true class, and `set_size`, how many they hold.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Only one class is present in y_true")
        warnings.filterwarnings("ignore", "A single label was found")
        warnings.filterwarnings("ignore", "`y1`, `y2` and `labels` have only one label")
        scores = {name: float(METRICS[name].score(answers)) for name in names}
    if answers.sets is not None:
        held = answers.sets[np.arange(len(answers.y)), answers.y]
        scores |= {"set_coverage": float(held.mean()), "set_size": float(answers.sets.sum(axis=1).mean())}
    return scores


def coverage(answers: Predictions) -> pd.DataFrame:
    """How often the sets hold the true class: one row a class, by position; NaN where no row is of it.

    Returns
    -------
    DataFrame of shape (n_classes, 2)
        `rows` and `coverage`.

    Raises
    ------
    ValueError
        The answers have no sets.
    """
    if answers.sets is None:
        raise ValueError("the answers have no sets")
    held = pd.Series(answers.sets[np.arange(len(answers.y)), answers.y]).groupby(answers.y)
    table = pd.DataFrame({"rows": held.size(), "coverage": held.mean()})
    return table.reindex(range(answers.sets.shape[1])).fillna({"rows": 0}).astype({"rows": int})


def majority(y_train: npt.NDArray[np.intp], y_test: npt.NDArray[np.intp]) -> float:
    """Accuracy on the test rows of always answering the training rows' most frequent class."""
    return float(np.mean(y_test == np.bincount(y_train).argmax()))
