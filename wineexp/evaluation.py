"""Evaluation: metrics, and cross-validation that fits everything inside the fold."""

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from joblib import Parallel, delayed
from sklearn import metrics
from sklearn.base import ClassifierMixin, clone
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from wineexp.errors import UserError, did_you_mean

Scores = dict[str, float]

# Threads of a numerical library that share one computation: more of them would change the last bits of a figure.
NATIVE_THREADS = 1

# Bins in which probabilities are held against what happened, and the fewest answers of one: fewer are mostly noise.
BINS, BIN_ROWS = 10, 10


@dataclass(frozen=True)
class Answers:
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

    score: Callable[[Answers], float]
    direction: str = "maximize"
    # On which targets it means something: all, those of two classes, those whose classes are ordered.
    applies_to: str = "all"
    # What it is computed from: the decisions, or the probabilities alone.
    judges: str = "decisions"


def _log_loss(answers: Answers) -> float:
    labels = range(answers.probabilities.shape[1])
    return float(metrics.log_loss(answers.y, answers.probabilities, labels=list(labels)))


def _balanced_accuracy(answers: Answers) -> float:
    # Recall over the classes that occur, as scikit-learn has it, without its warning about those that do not.
    present = np.unique(answers.y)
    recalls = metrics.recall_score(answers.y, answers.predicted, labels=present, average=None, zero_division=0)
    return float(np.mean(recalls))


def _brier_score(answers: Answers) -> float:
    """Brier 1950, "Verification of forecasts expressed in terms of probability": over all classes, so from 0 to 2.

    Of two classes too, where it is twice the squared error of the second one's probability.
    """
    labels = list(range(answers.probabilities.shape[1]))
    return float(metrics.brier_score_loss(answers.y, answers.probabilities, labels=labels, scale_by_half=False))


def _cohen_kappa(answers: Answers, weights: str | None = None) -> float:
    labels = list(range(answers.probabilities.shape[1]))
    return float(metrics.cohen_kappa_score(answers.y, answers.predicted, weights=weights, labels=labels))


def reliability(answers: Answers) -> pd.DataFrame:
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


def _expected_calibration_error(answers: Answers) -> float:
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


def score(answers: Answers, names: list[str]) -> Scores:
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


def coverage(answers: Answers) -> pd.DataFrame:
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


@dataclass(frozen=True)
class Fold:
    """What one fold gave.

    Attributes
    ----------
    number : int
        From 0, in the splitter's order.
    test : ndarray of int
        Positions of the rows that were scored.
    answers : Answers
    scores : dict of str to float
        `majority_accuracy` among them.
    fit_seconds, predict_seconds : float
        Wall time of fitting, and of predicting classes and probabilities of all test rows.
    """

    number: int
    test: npt.NDArray[np.intp]
    answers: Answers
    scores: Scores
    fit_seconds: float
    predict_seconds: float


def ask(estimator: Pipeline, X: pd.DataFrame, y: npt.NDArray[np.intp]) -> Answers:
    """A fitted pipeline's answers for X (n_samples, n_features); y holds positions in its classes."""
    probabilities = estimator.predict_proba(X)
    model = estimator[-1]
    return Answers(y, model.decide(probabilities), probabilities, model.sets(probabilities))


def fit(estimator: ClassifierMixin, X: pd.DataFrame, y: pd.Series) -> ClassifierMixin:
    """A clone of the estimator, fitted with one native thread, so that figures do not depend on how many there are.

    Raises
    ------
    UserError
        The estimator refuses the data or one of its own parameters.
    """
    with threadpool_limits(NATIVE_THREADS):
        return _fit(estimator, X, y)


def _fit(estimator: ClassifierMixin, X: pd.DataFrame, y: pd.Series) -> ClassifierMixin:
    # Linear algebra libraries keep one limit for the whole process, which folds in threads would take from each other;
    # OpenMP's is each thread's own.
    with threadpool_limits(NATIVE_THREADS, user_api="openmp"):
        try:
            return clone(estimator).fit(X, y)
        except ValueError as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"fitting failed: {reason} (HYDRA_FULL_ERROR=1 shows where)") from error


def cross_validate(
    estimator: Pipeline,
    X: pd.DataFrame,
    y: pd.Series,
    folds: list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]],
    names: list[str],
    *,
    n_jobs: int,
) -> Iterator[Fold]:
    """Fit and score a clone of the estimator on each fold, in the folds' order, as they are ready.

    Parameters
    ----------
    estimator : Pipeline
        Of `wineexp.model.pipeline`, not fitted; whatever it fits, it fits on the fold's training rows alone.
    X : DataFrame of shape (n_samples, n_features)
    y : Series of shape (n_samples,)
    folds : list of (training, test) positions
    names : list of str
        Keys of `METRICS`.
    n_jobs : int
        Folds at a time, in threads: the libraries let go of Python's lock while they work. -1 is all cores.

    Raises
    ------
    UserError
        `n_jobs` is 0, or the estimator refuses the data or one of its own parameters.
    """
    if n_jobs == 0:
        raise UserError("n_jobs=0: n_jobs >= 1 must hold, or n_jobs=-1 for all cores")

    def run(number: int, train: npt.NDArray[np.intp], test: npt.NDArray[np.intp]) -> Fold:
        started = time.perf_counter()
        fitted = _fit(estimator, X.iloc[train], y.iloc[train])
        fitted_at = time.perf_counter()
        codes = pd.Index(fitted.classes_).get_indexer(y)
        answers = ask(fitted, X.iloc[test], codes[test])
        answered_at = time.perf_counter()
        scores = score(answers, names) | {"majority_accuracy": majority(codes[train], codes[test])}
        return Fold(number, test, answers, scores, fitted_at - started, answered_at - fitted_at)

    # For the linear algebra libraries; OpenMP's limit is set where the threads are, in `_fit`.
    with threadpool_limits(NATIVE_THREADS):
        parallel = Parallel(n_jobs=n_jobs, backend="threading", return_as="generator")
        yield from parallel(delayed(run)(number, train, test) for number, (train, test) in enumerate(folds))


def pooled(folds: list[Fold]) -> Answers:
    """The answers of all folds together; of a repeated split, several for each row."""
    sets = [fold.answers.sets for fold in folds if fold.answers.sets is not None]
    return Answers(
        y=np.concatenate([fold.answers.y for fold in folds]),
        predicted=np.concatenate([fold.answers.predicted for fold in folds]),
        probabilities=np.concatenate([fold.answers.probabilities for fold in folds]),
        sets=np.concatenate(sets) if sets else None,
    )


def summarise(folds: list[Fold]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation (n - 1) over the folds of each score, NaN of a fold left out."""
    table = pd.DataFrame([fold.scores for fold in folds])
    return {str(name): (float(column.mean()), float(column.std())) for name, column in table.items()}


def row_seconds(fitted: ClassifierMixin, X: pd.DataFrame) -> float:
    """Wall time of predicting the probabilities of one row of X (n_samples, n_features): the median of 20."""
    taken = []
    with threadpool_limits(NATIVE_THREADS):
        for number in range(20):
            started = time.perf_counter()
            fitted.predict_proba(X.iloc[[number % len(X)]])
            taken.append(time.perf_counter() - started)
    return float(np.median(taken))


def permutation_drops(
    model: Pipeline, X: pd.DataFrame, y: npt.NDArray[np.intp], metric: str, *, seed: int
) -> npt.NDArray[np.float64]:
    """By how much a metric gets worse when one column of X is shuffled: (n_features, 5 repeats).

    Breiman 2001, "Random Forests", section 10; on at most 500 rows of X, shape (n_samples, n_features).
    """
    from sklearn.inspection import permutation_importance

    sign = 1 if METRICS[metric].direction == "maximize" else -1

    def scoring(model: Pipeline, X: pd.DataFrame, y: npt.NDArray[np.intp]) -> float:
        return sign * METRICS[metric].score(ask(model, X, y))

    with threadpool_limits(NATIVE_THREADS):
        drops = permutation_importance(
            model, X, y, scoring=scoring, n_repeats=5, random_state=seed, max_samples=min(500, len(X))
        )
    return np.asarray(drops.importances)
