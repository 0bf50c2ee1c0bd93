"""Cross-validation, in which everything is fitted on the training rows of a fold alone."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator, clone, is_regressor
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from wineexp.core.errors import UserError
from wineexp.evaluation.baseline import BASELINE, baseline, baseline_scores
from wineexp.evaluation.grouped_folds import FittedRows, fitting
from wineexp.evaluation.intervals import ErrorDistribution
from wineexp.evaluation.metrics import Metric, Scores, score
from wineexp.evaluation.predictions import NumberPredictions, Predictions, class_values

# Threads of OpenMP and of linear algebra libraries: with more of them, the last bits of a score would vary.
NATIVE_THREADS = 1


@dataclass(frozen=True)
class Fold:
    """Result of one fold.

    Attributes
    ----------
    number : int
        From 0, in the splitter's order.
    test : ndarray of int
        Positions of the test rows.
    predictions : Predictions or NumberPredictions
        For the test rows.
    scores : dict of str to float
        Includes those of `baseline_scores`.
    constant : int or float
        As `baseline` gives it for the training rows.
    fit_seconds, predict_seconds : float
        Wall time of fitting, and of predicting classes and probabilities of all test rows.
    """

    number: int
    test: npt.NDArray[np.intp]
    predictions: Predictions | NumberPredictions
    scores: Scores
    constant: Any
    fit_seconds: float
    predict_seconds: float


def predict(
    estimator: Pipeline, X: pd.DataFrame, y: npt.NDArray[Any], weights: npt.NDArray[np.float64] | None = None
) -> Predictions | NumberPredictions:
    """A fitted pipeline's predictions for X (n_samples, n_features); y (n_samples,) as `encoded` gives it."""
    if is_regressor(estimator):
        return NumberPredictions(y, np.asarray(estimator.predict(X), dtype=np.float64), weights)
    probabilities = estimator.predict_proba(X)
    model = estimator[-1]
    prediction_sets = model.prediction_sets(probabilities)
    values = class_values(model.classes_)
    return Predictions(
        y, model.decide(probabilities), probabilities, prediction_sets, values, weights, model.cost_matrix
    )


def encoded(y: pd.Series, classes: npt.NDArray[np.generic] | None) -> npt.NDArray[Any]:
    """The labels y (n_samples,) as positions in the classes; where there are none, the numbers as they are."""
    return y.to_numpy(dtype=np.float64) if classes is None else np.asarray(pd.Index(classes).get_indexer(y))


def fit(
    estimator: BaseEstimator, X: pd.DataFrame, y: pd.Series, *, fitted_rows: FittedRows | None = None, **options: Any
) -> BaseEstimator:
    """A clone of the estimator, fitted with one native thread, so that scores do not depend on the number of cores.

    Parameters
    ----------
    estimator : Pipeline or transformer
    X : DataFrame of shape (n_samples, n_features)
    y : Series of shape (n_samples,)
    fitted_rows : FittedRows, optional
        What folds within the estimator need to know.
    **options
        Of its `fit`, as `model__sample_weight`.

    Raises
    ------
    UserError
        The estimator refuses the data or one of its own parameters, or needs more memory than there is.
    """
    with threadpool_limits(NATIVE_THREADS):
        return _fit(estimator, X, y, options, fitted_rows)


def _fit(
    estimator: BaseEstimator,
    X: pd.DataFrame,
    y: pd.Series,
    options: Mapping[str, Any],
    fitted_rows: FittedRows | None,
) -> BaseEstimator:
    # The limit of OpenMP is each thread's own, and set here. Linear algebra libraries have one limit for the process,
    # which concurrent folds would overwrite, and which the callers set.
    with threadpool_limits(NATIVE_THREADS, user_api="openmp"), fitting(fitted_rows):
        try:
            return clone(estimator).fit(X, y, **options)
        except MemoryError as error:
            needed = str(error).strip() or "no more can be had"
            raise UserError(
                f"fitting failed: {len(X)} rows need more memory than there is ({needed}); choose another model or "
                "fewer rows"
            ) from error
        except (ValueError, TypeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"fitting failed: {reason} (HYDRA_FULL_ERROR=1 shows where)") from error


def cross_validate(
    estimator: Pipeline,
    X: pd.DataFrame,
    y: pd.Series,
    folds: list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]],
    metrics: Iterable[str] | Mapping[str, Metric],
    *,
    n_jobs: int,
    weights: npt.NDArray[np.float64] | None = None,
    fit_options: Callable[[npt.NDArray[np.intp]], Mapping[str, Any]] | None = None,
    fitted_rows: FittedRows | None = None,
    check_first: Callable[[Pipeline], None] | None = None,
) -> Iterator[Fold]:
    """Fit and score a clone of the estimator on each fold, and yield the results in the order of the folds.

    Parameters
    ----------
    estimator : Pipeline
        As `wineexp.models.pipeline.make_pipeline` gives it; its clones are fitted on training rows alone.
    X : DataFrame of shape (n_samples, n_features)
    y : Series of shape (n_samples,)
    folds : list of (training, test) positions
    metrics : iterable of str, or mapping of str to Metric
        As of `score`.
    n_jobs : int
        Number of concurrent folds, as threads, because the libraries release Python's lock; -1 means all cores.
    weights : ndarray of shape (n_samples,), optional
        How many rows each row counts for, in every metric.
    fit_options : callable, optional
        From the positions of training rows to options of the estimator's `fit`.
    fitted_rows : FittedRows, optional
        What folds within the estimator need to know of all rows.
    check_first : callable, optional
        Is called with the first fold's fitted pipeline, and may raise.

    Raises
    ------
    UserError
        `n_jobs` is 0, or the estimator refuses the data or one of its own parameters.
    """
    if n_jobs == 0:
        raise UserError("n_jobs=0: n_jobs >= 1 must hold, or n_jobs=-1 for all cores")

    def run(number: int, train: npt.NDArray[np.intp], test: npt.NDArray[np.intp]) -> Fold:
        started = time.perf_counter()
        options = fit_options(train) if fit_options else {}
        fitted = _fit(estimator, X.iloc[train], y.iloc[train], options, fitted_rows and fitted_rows.chosen(train))
        fitted_at = time.perf_counter()
        if number == 0 and check_first is not None:
            check_first(fitted)
        checked_at = time.perf_counter()
        codes = encoded(y, None if is_regressor(fitted) else fitted.classes_)
        predictions = predict(fitted, X.iloc[test], codes[test], None if weights is None else weights[test])
        predicted_at = time.perf_counter()
        constant = baseline(codes[train], None if weights is None else weights[train])
        scores = score(predictions, metrics) | baseline_scores(constant, predictions, metrics)
        return Fold(number, test, predictions, scores, constant, fitted_at - started, predicted_at - checked_at)

    # This limits the linear algebra libraries; `_fit` limits OpenMP in each thread.
    with threadpool_limits(NATIVE_THREADS):
        parallel = Parallel(n_jobs=n_jobs, backend="threading", return_as="generator")
        yield from parallel(delayed(run)(number, train, test) for number, (train, test) in enumerate(folds))


def pool_predictions(folds: list[Fold]) -> Predictions | NumberPredictions:
    """The predictions of all folds together; a repeated split has several for each row."""
    return concatenate([fold.predictions for fold in folds])


def concatenate(parts: Sequence[Predictions | NumberPredictions]) -> Predictions | NumberPredictions:
    """The predictions of several parts of the rows, by models of one kind, together."""
    of_classes = [part for part in parts if isinstance(part, Predictions)]
    if not of_classes:
        return _concatenate_numbers(parts)
    y = np.concatenate([part.y for part in of_classes])
    predicted = np.concatenate([part.predicted for part in of_classes])
    of_rows = [part.weights for part in of_classes if part.weights is not None]
    weights = np.concatenate(of_rows) if of_rows else None
    sets = [predictions.prediction_sets for predictions in of_classes if predictions.prediction_sets is not None]
    return Predictions(
        y=y,
        predicted=predicted,
        probabilities=np.concatenate([predictions.probabilities for predictions in of_classes]),
        prediction_sets=np.concatenate(sets) if sets else None,
        values=of_classes[0].values,
        weights=weights,
        costs=of_classes[0].costs,
    )


def _concatenate_numbers(parts: Sequence[Predictions | NumberPredictions]) -> NumberPredictions:
    pooled = {}
    for name in ("y", "predicted", "weights", "low", "high", "crps"):
        known = [values for part in parts if (values := getattr(part, name)) is not None]
        pooled[name] = np.concatenate(known) if len(known) == len(parts) else None
    return NumberPredictions(**pooled)  # type: ignore[arg-type]


def error_distribution(
    folds: Sequence[Fold], without: npt.ArrayLike = (), *, of_constants: bool = False
) -> ErrorDistribution | None:
    """The errors of the predictions of numbers in some folds, without those of some test rows.

    None where classes are predicted, or too few rows are left; see `ErrorDistribution.of`. With `of_constants`, the
    errors of always predicting each fold's constant instead, in one bin.
    """
    if not folds or not isinstance(folds[0].predictions, NumberPredictions):
        return None
    pooled = _concatenate_numbers([fold.predictions for fold in folds])
    rows = np.concatenate([fold.test for fold in folds])
    kept = ~np.isin(rows, without)
    weights = None if pooled.weights is None else pooled.weights[kept]
    y, predicted = pooled.y, pooled.predicted
    if of_constants:
        y = y - np.concatenate([np.full(len(fold.test), fold.constant) for fold in folds])
        predicted = np.zeros(len(y))
    return ErrorDistribution.of(y[kept], predicted[kept], len(np.unique(rows[kept])), weights)


def with_intervals(folds: list[Fold]) -> list[Fold]:
    """The folds with intervals and their scores, where numbers are predicted.

    The intervals of a fold come from the errors on the rows of the other folds: no row has a part in its own interval.
    Beside the scores stand those of the intervals around each fold's constant, which are made likewise.
    """
    done = []
    for fold in folds:
        errors = error_distribution(folds, without=fold.test)
        if errors is None or not isinstance(fold.predictions, NumberPredictions):
            return folds
        predictions = fold.predictions.with_intervals(errors)
        of_constants = error_distribution(folds, without=fold.test, of_constants=True)
        scores = score(predictions, []) | constant_interval_scores(fold.constant, predictions, of_constants)
        done.append(replace(fold, predictions=predictions, scores=fold.scores | scores))
    return done


def constant_interval_scores(
    constant: Any, predictions: Predictions | NumberPredictions, errors: ErrorDistribution | None
) -> Scores:
    """As `baseline_scores`, of the metrics of intervals that are to be minimized.

    Parameters
    ----------
    constant : int or float
    predictions : Predictions or NumberPredictions
        A model's, of the test rows.
    errors : ErrorDistribution or None
        Of constants on other rows; without it, and of classes, there are no such scores.
    """
    if errors is None or not isinstance(predictions, NumberPredictions):
        return {}
    always = replace(predictions, predicted=np.full(len(predictions.y), constant)).with_intervals(errors)
    scores = score(always, [])
    return {f"{BASELINE}{name}": scores[name] for name in ("pinball", "crps")}


def summarise(folds: list[Fold]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation (n - 1) of each score over the folds; a fold with NaN is left out."""
    table = pd.DataFrame([fold.scores for fold in folds])
    return {str(name): (float(column.mean()), float(column.std())) for name, column in table.items()}


def standard_error(folds: list[Fold], metric: str) -> float:
    """The standard error of a score's mean over the folds: their standard deviation over the root of their number.

    NaN for fewer than two folds with a score. Folds share training rows, so that it is too small for a comparison with
    new data, which `comparison.mean_interval` corrects.
    """
    scores = np.array([fold.scores.get(metric, np.nan) for fold in folds])
    scores = scores[~np.isnan(scores)]
    return float(scores.std(ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else float("nan")


def learned_nothing(folds: list[Fold]) -> bool:
    """Whether every row of a fold got the same answer, in all folds: the features have no influence."""

    def answers(predictions: Predictions | NumberPredictions) -> npt.NDArray[np.float64]:
        return predictions.probabilities if isinstance(predictions, Predictions) else predictions.predicted

    return all(np.ptp(answers(fold.predictions), axis=0).max() == 0 for fold in folds)


def median_row_seconds(fitted: Pipeline, X: pd.DataFrame) -> float:
    """Wall time of predicting one row of X (n_samples, n_features), by probabilities or a number: of 20, the median."""
    answer = fitted.predict if is_regressor(fitted) else fitted.predict_proba
    seconds = []
    with threadpool_limits(NATIVE_THREADS):
        for number in range(20):
            started = time.perf_counter()
            answer(X.iloc[[number % len(X)]])
            seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


def permutation_drops(
    model: Pipeline,
    X: pd.DataFrame,
    y: npt.NDArray[Any],
    metric: Metric,
    *,
    seed: int,
    weights: npt.NDArray[np.float64] | None = None,
    errors: ErrorDistribution | None = None,
) -> npt.NDArray[np.float64]:
    """By how much a metric gets worse when a column of X (n_samples, n_features) is shuffled: (n_features, 5 repeats).

    Breiman 2001, "Random Forests", section 10. At most 500 rows of X are used. A metric of intervals needs the errors
    of predictions on other rows.
    """
    from sklearn.inspection import permutation_importance

    sign = 1 if metric.direction == "maximize" else -1

    def scoring(
        model: Pipeline, X: pd.DataFrame, y: npt.NDArray[Any], sample_weight: npt.NDArray[np.float64] | None = None
    ) -> float:
        predictions = predict(model, X, y, sample_weight)
        if isinstance(predictions, NumberPredictions) and metric.computed_from == "intervals":
            return sign * metric.score(predictions.with_intervals(errors))
        return sign * score(predictions, {"metric": metric})["metric"]

    with threadpool_limits(NATIVE_THREADS):
        drops = permutation_importance(
            model,
            X,
            y,
            scoring=scoring,
            n_repeats=5,
            random_state=seed,
            sample_weight=weights,
            max_samples=min(500, len(X)),
        )
    return np.asarray(drops.importances)
