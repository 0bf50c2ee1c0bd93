"""What a run's answers are worth: figures, and a table for each plot, from the table of predictions that it left."""

from pathlib import Path

import pandas as pd

from wineexp.core.errors import UserError
from wineexp.data.target import Target
from wineexp.data.task import HOLDOUT, out_of_fold_predictions, predictions_from_table
from wineexp.evaluation import metrics


def read(path: Path) -> pd.DataFrame:
    """A table that `Task.predictions_table` made.

    Raises
    ------
    UserError
        The file is missing, or is no such table.
    """
    try:
        predictions = pd.read_parquet(path)
    except FileNotFoundError:
        raise UserError(f"predictions={path}: there is no such file; a run leaves one in its output folder") from None
    except (OSError, ValueError) as error:
        raise UserError(f"predictions={path}: not a Parquet file: {' '.join(str(error).split())}") from error
    if missing := {"fold", "row", "true", "predicted"} - set(predictions):
        raise UserError(f"predictions={path}: not a run's answers, without a column {', '.join(sorted(missing))}")
    return predictions


def scores(predictions: pd.DataFrame, target: Target) -> pd.DataFrame:
    """Every metric that means something for a target, `majority_accuracy` among them, of each fold and of the holdout.

    Parameters
    ----------
    predictions : DataFrame of shape (n_answers, 4 + n_classes)
    target : Target

    Returns
    -------
    DataFrame of shape (n_folds + 1, n_metrics)
        By fold, `HOLDOUT` first; without it where nothing was held out.

    Raises
    ------
    UserError
        The target's deciding metric is none for so many classes, or the table is no whole run's.
    """
    n_classes = predictions.filter(regex="^probability ").shape[1]
    metrics.check_metric(target.metric, target.direction, n_classes, ordinal=target.ordinal)
    names = metrics.metrics_for(n_classes, ordinal=target.ordinal)
    trained = predictions[predictions["fold"] != HOLDOUT].drop_duplicates("row")
    found = {}
    for number, asked in predictions.groupby("fold"):
        told = predictions_from_table(asked)
        # A fold was trained on the rows that are not its own.
        known = predictions_from_table(trained[~trained["row"].isin(asked["row"])]).y
        if not len(known):
            raise UserError(f"fold {number} answers every row: a table of a whole run has rows that it was trained on")
        found[number] = metrics.score(told, names) | {"majority_accuracy": metrics.majority_accuracy(known, told.y)}
    return pd.DataFrame.from_dict(found, orient="index")


def figures(scores: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Means and deviations over the folds, and the holdout's figures, under MLflow's names; NaN is left out."""
    folds = scores.drop(index=HOLDOUT, errors="ignore")
    deviations = folds.std().add_suffix("_std")
    found = {"cv": pd.concat([folds.mean(), deviations]).dropna()}
    if HOLDOUT in scores.index:
        found["holdout"] = scores.loc[HOLDOUT].dropna()
    return {part: {str(name): float(value) for name, value in values.items()} for part, values in found.items()}


def plots(predictions: pd.DataFrame, scores: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tables that dvc.yaml draws, all of them out of fold.

    Returns
    -------
    dict of str to DataFrame
        `confusion` (true and predicted label of each row), `calibration` (`metrics.calibration_curve`), `folds` (every
        metric by fold, counted from 1).
    """
    told = out_of_fold_predictions(predictions)
    folds = scores.drop(index=HOLDOUT, errors="ignore")
    return {
        "confusion": predictions.loc[predictions["fold"] != HOLDOUT, ["true", "predicted"]],
        "calibration": metrics.calibration_curve(told),
        "folds": folds.set_axis(folds.index + 1).rename_axis("fold").reset_index(),
    }
