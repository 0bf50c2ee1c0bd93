"""Assessment of a run: scores, and a table for each plot, from the table of predictions that it left."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wineexp.core.errors import UserError
from wineexp.data.target import Target
from wineexp.data.task import (
    HOLDOUT_FOLD,
    baseline_from_table,
    labels_from_table,
    out_of_fold_predictions,
    predictions_from_table,
)
from wineexp.evaluation.baseline import baseline_scores
from wineexp.evaluation.calibration import binned_numbers, calibration_curve
from wineexp.evaluation.cross_validation import (
    Fold,
    constant_interval_scores,
    error_distribution,
    with_intervals,
)
from wineexp.evaluation.metrics import score
from wineexp.evaluation.predictions import NumberPredictions, Predictions

COLUMNS = {"fold", "row", "true", "predicted", "baseline"}


def read_predictions(path: Path) -> pd.DataFrame:
    """A table that `Task.predictions_table` made.

    Raises
    ------
    UserError
        The file is missing, or holds no such table.
    """
    try:
        table = pd.read_parquet(path)
    except FileNotFoundError:
        raise UserError(f"predictions={path}: there is no such file; a run leaves one in its output folder") from None
    except (OSError, ValueError) as error:
        raise UserError(f"predictions={path}: not a Parquet file: {' '.join(str(error).split())}") from error
    if missing := COLUMNS - set(table):
        raise UserError(f"predictions={path}: not the predictions of a run, no column {', '.join(sorted(missing))}")
    return table


def score_folds(table: pd.DataFrame, target: Target) -> pd.DataFrame:
    """Every metric that applies to a target, and `baseline_scores`, of each fold and of the holdout.

    Parameters
    ----------
    table : DataFrame of shape (n_predictions, 5 + n_classes)
    target : Target

    Returns
    -------
    DataFrame of shape (n_folds + 1, n_metrics)
        By fold, `HOLDOUT_FOLD` first; without it where nothing was held out.

    Raises
    ------
    UserError
        The target's deciding metric does not apply to so many classes.
    """
    texts = labels_from_table(table)
    metrics = target.metrics(texts if target.labels else as_labels(texts))
    costs = target.cost_matrix(texts) if target.costs is not None else None
    folds = []
    for number, part in table.groupby("fold"):
        predictions = predictions_from_table(part)
        if isinstance(predictions, Predictions) and costs is not None:
            predictions = replace(predictions, costs=np.array(costs))
        constant = baseline_from_table(part)
        scores = score(predictions, metrics) | baseline_scores(constant, predictions, metrics)
        folds.append(Fold(int(str(number)), part["row"].to_numpy(), predictions, scores, constant, np.nan, np.nan))
    # No row of the holdout, which comes first, has a part in the intervals of others.
    held_out = folds[:1] if folds[0].number == HOLDOUT_FOLD else []
    folds = folds[len(held_out) :]
    by_fold = {fold.number: fold.scores for fold in [*held_out, *with_intervals(folds)]}
    for fold in held_out:
        errors = error_distribution(folds, of_constants=True)
        by_fold[fold.number] = fold.scores | constant_interval_scores(fold.constant, fold.predictions, errors)
    return pd.DataFrame.from_dict(by_fold, orient="index")


def as_labels(texts: list[str]) -> list[Any]:
    """Labels, as a table of predictions has them as texts, of the type that they had in training."""
    column = pd.Series(texts, dtype=object)
    if set(texts) <= {"False", "True"}:
        return [text == "True" for text in texts]
    numbers = pd.to_numeric(column, errors="coerce")
    return texts if numbers.isna().any() else numbers.tolist()


def summarise(scores: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Means and deviations over the folds, and the holdout's scores, under MLflow's names; NaN is left out."""
    folds = scores.drop(index=HOLDOUT_FOLD, errors="ignore")
    deviations = folds.std().add_suffix("_std")
    parts = {"cv": pd.concat([folds.mean(), deviations]).dropna()}
    if HOLDOUT_FOLD in scores.index:
        parts["holdout"] = scores.loc[HOLDOUT_FOLD].dropna()
    return {part: {str(name): float(value) for name, value in values.items()} for part, values in parts.items()}


def plot_tables(table: pd.DataFrame, scores: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tables that dvc.yaml plots, all of out-of-fold predictions.

    Returns
    -------
    dict of str to DataFrame
        `confusion` (true and predicted label or number of each row), `calibration` (`calibration_curve`; for
        numbers `binned_numbers`), `folds` (every metric by fold, counted from 1).
    """
    folds = scores.drop(index=HOLDOUT_FOLD, errors="ignore")
    predictions = out_of_fold_predictions(table)
    return {
        "confusion": table.loc[table["fold"] != HOLDOUT_FOLD, ["true", "predicted"]],
        "calibration": binned_numbers(predictions)
        if isinstance(predictions, NumberPredictions)
        else calibration_curve(predictions),
        "folds": folds.set_axis(folds.index + 1).rename_axis("fold").reset_index(),
    }
