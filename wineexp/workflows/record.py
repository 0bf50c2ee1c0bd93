"""What an experiment records: its origin, its metrics, its figures, its predictions, its model."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf

from wineexp.core.addresses import without_credentials
from wineexp.core.config import config_sha256
from wineexp.data.task import Task
from wineexp.evaluation import cross_validation, metrics, plots
from wineexp.evaluation.baseline import BASELINE
from wineexp.evaluation.calibration import coverage_by_class
from wineexp.evaluation.predictions import NumberPredictions, Predictions
from wineexp.models.device import card_tags
from wineexp.tracking import modules, names, provenance
from wineexp.tracking.run import Run
from wineexp.workflows import external
from wineexp.workflows.experiment import Experiment, device, worker_tags


def origin_tags(cfg: DictConfig, task: Task) -> dict[str, str]:
    """The tags about a run's origin."""
    own = modules.own_modules(cfg)
    tags = provenance.provenance_tags(tuple(own.values())) | modules.digests(own)
    return tags | card_tags(device(cfg)) | worker_tags(cfg) | task.tags() | {names.CONFIG_SHA256: config_sha256(cfg)}


def config_text(cfg: DictConfig) -> str:
    """A config as a run records it: as YAML, its interpolations resolved, its addresses without credentials."""
    return without_credentials(OmegaConf.to_yaml(cfg, resolve=True))


# What a run says of a model whose predictions do not depend on the row.
LEARNED_NOTHING = "**It learned nothing from the features**: every row of a fold got the same answer.\n\n"


def record_origin(run: Run, cfg: DictConfig) -> None:
    """Record the config, the user's own modules and, of a changed tree, the diff.

    They are stored at once, so that they outlive a killed process.
    """
    run.log_file(names.CONFIG_FILE, config_text(cfg))
    if names.GIT_DIFF_SHA256 in run.tags:
        run.log_file(names.DIFF_FILE, provenance.diff().encode(errors="surrogateescape"))
    for name, path in modules.files(run.tags).items():
        run.log_file(modules.artifact(name, is_package=path.name == "__init__.py"), path.read_bytes())


def fold_metrics(folds: list[cross_validation.Fold], metric: str) -> dict[str, float | list[float]]:
    """The metrics of a cross-validation: each fold's scores, their means and deviations, and mean seconds.

    Of the deciding metric also the standard error of the mean.
    """
    summary = cross_validation.summarise(folds)
    return (
        {f"fold/{name}": [fold.scores[name] for fold in folds] for name in summary}
        | {f"cv/{name}": mean for name, (mean, _) in summary.items()}
        | {f"cv/{name}_std": deviation for name, (_, deviation) in summary.items()}
        | {
            f"cv/{names.STANDARD_ERROR}": cross_validation.standard_error(folds, metric),
            "cv/fit_seconds": float(np.mean([fold.fit_seconds for fold in folds])),
            "cv/predict_seconds": float(np.mean([fold.predict_seconds for fold in folds])),
        }
    )


def description(
    choices: Mapping[str, str],
    task: Task,
    folds: list[cross_validation.Fold],
    holdout: metrics.Scores,
    *,
    complete: bool,
) -> str:
    """A run in Markdown, which MLflow shows above everything else: the model, the deciding metric, where to read on.

    Parameters
    ----------
    choices : mapping of str to str
        Of each config group.
    task : Task
    folds : list of Fold
        Fewer than the task's, of a pruned trial.
    holdout : dict of str to float
        Empty where it was not scored.
    complete : bool
        Whether the run records predictions and figures, which a sweep's trials do not.
    """
    metric = task.target.metric
    summary = cross_validation.summarise(folds)
    mean, deviation = summary[metric]
    spread = "" if np.isnan(deviation) else f" ± {deviation:.4f}"
    error = cross_validation.standard_error(folds, metric)
    of_mean = "" if np.isnan(error) else f" (standard error of the mean: {error:.4f})"
    count = f"{len(folds)} folds" if len(folds) == len(task.folds) else f"{len(folds)} of {len(task.folds)} folds"
    on_holdout = f"; **{holdout[metric]:.4f}** on the holdout" if holdout else "; the holdout was not scored"
    weights = task.dataset.weights
    weighted = "" if weights is None else f"; rows are weighted by `{weights.name}` in fitting and in every metric"
    more = f"; `{names.PREDICTIONS_FILE}` has every prediction, `figures/` shows them"
    return (
        f"**{choices['model']}** on {choices['feature']} features of {choices['data']}, to predict "
        f"{choices['target']}; split {choices['split']}{weighted}.\n\n"
        f"{metric.replace('_', ' ')} **{mean:.4f}{spread}** over {count}{of_mean}{on_holdout}. "
        f"{_baseline_sentence(task, summary)}\n\n"
        f"{LEARNED_NOTHING if cross_validation.learned_nothing(folds) else ''}"
        f"`{names.CONFIG_FILE}` is the whole config{more if complete else ''}."
    )


def _baseline_sentence(task: Task, summary: Mapping[str, tuple[float, float]]) -> str:
    """What a prediction that knows no feature would score."""
    if not task.target.is_number:
        return f"Always predicting the most frequent class: accuracy {summary['majority_accuracy'][0]:.4f}."
    names = [task.target.metric, "root_mean_squared_error"]
    name = next(name for name in names if f"{BASELINE}{name}" in summary)
    return f"Always predicting the mean: {name.replace('_', ' ')} {summary[f'{BASELINE}{name}'][0]:.4f}."


def holdout_importance(
    experiment: Experiment,
    fitted: Any,
    holdout: Predictions | NumberPredictions | None,
    folds: list[cross_validation.Fold],
) -> pd.DataFrame | None:
    """By how much the deciding metric gets worse on the holdout when a feature is shuffled.

    Returns
    -------
    DataFrame of shape (n_features, n_repeats), or None
        None without predictions of a holdout.
    """
    if holdout is None:
        return None
    task = experiment.task
    drops = cross_validation.permutation_drops(
        fitted,
        task.X_holdout,
        holdout.y,
        task.deciding_metric,
        seed=experiment.cfg.seed,
        weights=task.weights_holdout,
        errors=cross_validation.error_distribution(folds),
    )
    return pd.DataFrame(drops, pd.Index([str(name) for name in task.X], name="feature"))


def record_results(
    run: Run,
    experiment: Experiment,
    folds: list[cross_validation.Fold],
    fitted: Any,
    holdout: Predictions | NumberPredictions | None,
    holdout_scores: Mapping[str, float],
    importance: pd.DataFrame | None,
    files: Mapping[str, str | bytes] | None = None,
) -> str | None:
    """Record metrics, figures, predictions and the model; gives the model's id, None where nothing is recorded.

    Parameters
    ----------
    run : Run
    experiment : Experiment
    folds : list of Fold
    fitted : classifier
    holdout : Predictions or NumberPredictions, or None
        None where nothing is held out, or the holdout must not be scored yet.
    holdout_scores : mapping of str to float
        From `Task.score_holdout`.
    importance : DataFrame, or None
        From `holdout_importance`.
    files : mapping of str to str or bytes, optional
        What to store with the model, by name.
    """
    task = experiment.task
    of_folds = fold_metrics(folds, task.target.metric)
    run.log(metrics=of_folds | {f"holdout/{name}": value for name, value in holdout_scores.items()})
    # A stage of dvc.yaml that scores the predictions reads them there, whether or not the run is recorded.
    task.predictions_table(folds, holdout).to_parquet(run.file(names.PREDICTIONS_FILE), index=False)
    if run.id is None:
        return None
    if task.plan is not None:
        for file in sorted(external.predictions_folder(task.plan).iterdir()):
            run.log_path(file, external.ALL_PREDICTIONS_FOLDER)
    predictions = cross_validation.pool_predictions(folds)
    if isinstance(predictions, NumberPredictions):
        run.log_figure("predicted", plots.predicted_numbers(predictions, task.target.column))
    else:
        _record_classes(run, task, predictions, holdout)
    if importance is not None:
        importance.to_csv(run.file(names.IMPORTANCE_FILE))
        figure = plots.importance(list(importance.index), importance.to_numpy(), task.target.metric)
        run.log_figure("importance", figure)
    return run.log_model(fitted, task.X, files)


def _record_classes(run: Run, task: Task, predictions: Predictions, holdout: Any) -> None:
    """Record the figures of a target of classes, and the coverage of prediction sets where the model gives some."""
    labels = [str(label) for label in task.classes]
    run.log_figure("confusion", plots.confusion(predictions, labels))
    run.log_figure("probabilities", plots.probabilities(predictions, labels))
    if predictions.prediction_sets is not None:
        tables = {"folds": predictions} | ({"holdout": holdout} if holdout is not None else {})
        coverage = pd.concat(
            {name: coverage_by_class(table) for name, table in tables.items()}, names=["rows_of", "class"]
        )
        labelled = coverage.rename(index=dict(enumerate(labels)), level="class")
        labelled.to_csv(run.file(names.COVERAGE_FILE))
    if task.target.ordinal:
        run.log_figure("grades", plots.grades(predictions, labels))
