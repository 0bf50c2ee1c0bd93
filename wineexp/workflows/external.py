"""An experiment on a table that is read in batches: every row is trained on and scored, a sample of them is kept.

Fold by fold and batch by batch, all rows are predicted. Scores are computed from all predictions of a fold, which are
written to a file. Those of the sample are kept, so that figures, the model card and the monitor's reference are made as
they are of a table in memory.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from wineexp.core.memory import release_unused
from wineexp.data.external_plan import ExternalPlan, LabelledRows
from wineexp.data.task import Task
from wineexp.evaluation import cross_validation
from wineexp.evaluation.baseline import baseline_scores
from wineexp.evaluation.cross_validation import NATIVE_THREADS, Fold
from wineexp.evaluation.lean_metrics import with_little_memory
from wineexp.evaluation.metrics import Scores, score
from wineexp.evaluation.predictions import NumberPredictions, Predictions
from wineexp.models import external

# Folder of a run's artifacts with the predictions of all rows, a file for each fold and one for the holdout.
ALL_PREDICTIONS_FOLDER = "all_predictions"


def predictions_folder(plan: ExternalPlan) -> Path:
    """Where the files of `ALL_PREDICTIONS_FOLDER` lie until they are recorded."""
    return plan.table.scratch.path / ALL_PREDICTIONS_FOLDER


def fit(pipeline: Pipeline, task: Task, fold: int | None = None) -> Pipeline:
    """The pipeline, fitted on the training rows of a fold or, where it is None, on all rows outside the holdout."""
    plan = _plan(task)
    X, y = task.X, task.y
    if fold is not None:
        X, y = X.iloc[task.folds[fold][0]], y.iloc[task.folds[fold][0]]
    features = [str(name) for name in X]

    workers = plan.table.workers
    parts: list[Callable[[], Iterator[LabelledRows]]] = [partial(plan.training_rows, features, fold)]
    if workers is not None:
        parts = [partial(share.training_rows, features) for share in plan.shares(fold, workers.n_workers)]
    shares = [partial(_rows, part) for part in parts]
    release_unused()
    with threadpool_limits(NATIVE_THREADS):
        return external.fit(pipeline, X, y, shares, plan.table.scratch.path, workers)


def _rows(make: Callable[[], Iterator[LabelledRows]]) -> Iterator[external.Rows]:
    return ((each.X, each.y, each.weights) for each in make())


def cross_validate(
    pipeline: Pipeline, task: Task, check_first: Callable[[Pipeline], None] | None = None
) -> Iterator[Fold]:
    """As `evaluation.cross_validation.cross_validate`, one fold at a time; a fold's predictions are of the sample.

    Raises
    ------
    UserError
        As of `models.external.fit`.
    """
    plan = _plan(task)
    for number, (training, test) in enumerate(task.folds):
        started = time.perf_counter()
        fitted = fit(pipeline, task, number)
        fitted_at = time.perf_counter()
        if number == 0 and check_first is not None:
            check_first(fitted)
        rows = plan.test_rows([str(name) for name in task.X], number)
        constant = task.baseline(training)
        scores, sample, seconds = _predict(fitted, task, rows, f"fold {number + 1}", constant)
        yield Fold(number, test, sample, scores, constant, fitted_at - started, seconds)


def predict_holdout(fitted: Pipeline, task: Task, folds: Iterable[Fold]) -> Predictions | NumberPredictions | None:
    """As `Task.predict_holdout`, of the sample, with the scores of all rows that are held out."""
    plan = _plan(task)
    if not plan.n_holdout:
        return None
    rows = plan.held_out_rows([str(name) for name in task.X])
    scores, sample, _ = _predict(fitted, task, rows, "holdout", task.baseline())
    sample = replace(sample, all_scores=scores)
    if isinstance(sample, NumberPredictions):
        return sample.with_intervals(cross_validation.error_distribution(list(folds)))
    return sample


def _plan(task: Task) -> ExternalPlan:
    if task.plan is None:
        raise ValueError("a task of a table that is read in batches is wanted")
    return task.plan


def _predict(
    fitted: Pipeline, task: Task, rows: Iterable[LabelledRows], name: str, constant: Any
) -> tuple[Scores, Predictions | NumberPredictions, float]:
    """The scores of the predictions of all rows, those predictions of the sample, and how many seconds predicting took.

    All predictions are written to a file.
    """
    parts, sampled, seconds = [], [], 0.0
    path = predictions_folder(_plan(task)) / f"{name}.parquet"
    path.parent.mkdir(exist_ok=True)
    writer = None
    with threadpool_limits(NATIVE_THREADS):
        for batch in rows:
            if not len(batch.y):
                continue
            started = time.perf_counter()
            part = cross_validation.predict(fitted, batch.X, batch.y, batch.weights)
            seconds += time.perf_counter() - started
            table = _table(task, batch, part)
            writer = writer or pa.parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
            parts.append(part)
            sampled.append(batch.is_sampled)
    if writer is not None:
        writer.close()
    predictions = cross_validation.concatenate(parts)
    del parts
    release_unused()
    metrics = with_little_memory(task.metrics)
    scores = score(predictions, metrics) | baseline_scores(constant, predictions, metrics)
    return scores, predictions.select(np.concatenate(sampled)), seconds


def _table(task: Task, batch: LabelledRows, part: Predictions | NumberPredictions) -> pa.Table:
    """The predictions of a batch, with the names of the columns of `Task.predictions_table`."""
    columns: dict[str, Any] = {"row": batch.rows}
    if isinstance(part, NumberPredictions):
        columns |= {"true": part.y, "predicted": part.predicted}
    else:
        labels = [str(label) for label in task.classes]
        for name, codes in (("true", part.y), ("predicted", part.predicted)):
            columns[name] = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(labels))
        columns |= {f"probability {label}": part.probabilities[:, code] for code, label in enumerate(labels)}
    if part.weights is not None:
        columns["weight"] = part.weights
    return pa.table(columns)
