"""What an experiment leaves: where it comes from, its figures in numbers and in pictures, its answers, its model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf

from wineexp.core.config import config_sha256
from wineexp.data.task import Task
from wineexp.evaluation import cross_validation, metrics, plots
from wineexp.tracking import provenance
from wineexp.tracking.run import Run
from wineexp.workflows.experiment import Experiment

# Names of artifacts.
CONFIG, DIFF, PREDICTIONS, IMPORTANCE = "config.yaml", "git.diff", "predictions.parquet", "importance.csv"
COVERAGE = "coverage.csv"

# The tag that names the choice of conf/experiment/ that a run was started with.
PROTOCOL = "experiment"


def lineage(cfg: DictConfig, task: Task, folder: Path) -> dict[str, str]:
    """Tags on where a run comes from; writes the config and, of a changed tree, the diff into the run's folder."""
    (folder / CONFIG).write_text(OmegaConf.to_yaml(cfg, resolve=True), encoding="utf-8")
    tags = provenance.facts()
    # A stage of dvc.yaml has one folder, run after run.
    (folder / DIFF).unlink(missing_ok=True)
    if "git.diff.sha256" in tags:
        (folder / DIFF).write_text(provenance.diff(), encoding="utf-8", errors="surrogateescape")
    return tags | task.tags() | {"config.sha256": config_sha256(cfg)}


def figures(folds: list[cross_validation.Fold]) -> dict[str, float | list[float]]:
    """The figures of a cross-validation: each fold's, their means and deviations, and what the folds took."""
    summary = cross_validation.summarise(folds)
    return (
        {f"fold/{name}": [fold.scores[name] for fold in folds] for name in summary}
        | {f"cv/{name}": mean for name, (mean, _) in summary.items()}
        | {f"cv/{name}_std": deviation for name, (_, deviation) in summary.items()}
        | {
            "cv/fit_seconds": float(np.mean([fold.fit_seconds for fold in folds])),
            "cv/predict_seconds": float(np.mean([fold.predict_seconds for fold in folds])),
        }
    )


def note(
    groups: Mapping[str, str],
    task: Task,
    folds: list[cross_validation.Fold],
    holdout: metrics.Scores,
    *,
    whole: bool,
) -> str:
    """What a run is, in Markdown, for MLflow to show above everything else: what ran, what decides, where to look on.

    Parameters
    ----------
    groups : mapping of str to str
        The choice of each config group.
    task : Task
    folds : list of Fold
        Fewer than the task's, of a trial that was given up.
    holdout : dict of str to float
        Empty where it was not asked.
    whole : bool
        Whether the run leaves answers and figures, which a sweep's trials do not.
    """
    metric = task.target.metric
    summary = cross_validation.summarise(folds)
    mean, deviation = summary[metric]
    spread = "" if np.isnan(deviation) else f" ± {deviation:.4f}"
    told = f"{len(folds)} folds" if len(folds) == len(task.folds) else f"{len(folds)} of {len(task.folds)} folds"
    seen = f"; **{holdout[metric]:.4f}** on the holdout" if holdout else "; the holdout was not asked"
    more = "; `predictions.parquet` has every answer, `figures/` shows them"
    return (
        f"**{groups['model']}** on {groups['feature']} features of {groups['data']}, to tell its {groups['target']}; "
        f"split {groups['split']}.\n\n"
        f"{metric.replace('_', ' ')} **{mean:.4f}{spread}** over {told}{seen}. "
        f"Always answering the most frequent class: accuracy {summary['majority_accuracy'][0]:.4f}.\n\n"
        f"`config.yaml` is all that was asked for{more if whole else ''}."
    )


def importance(experiment: Experiment, fitted: Any, holdout: metrics.Predictions | None) -> pd.DataFrame | None:
    """By how much the deciding metric gets worse on the holdout when a feature is shuffled.

    Returns
    -------
    DataFrame of shape (n_features, n_repeats), or None
        None where nothing is held out, or nobody may look yet.
    """
    if holdout is None:
        return None
    task = experiment.task
    drops = cross_validation.permutation_drops(
        fitted, task.X_holdout, holdout.y, task.target.metric, seed=experiment.cfg.seed
    )
    return pd.DataFrame(drops, pd.Index([str(name) for name in task.X], name="feature"))


def complete(
    run: Run,
    experiment: Experiment,
    folds: list[cross_validation.Fold],
    fitted: Any,
    holdout: metrics.Predictions | None,
    drops: pd.DataFrame | None,
    files: Mapping[str, str | bytes] | None = None,
) -> str | None:
    """Log the figures of a run, its answers and its model; gives the model's id, None where nothing is recorded.

    Parameters
    ----------
    run : Run
    experiment : Experiment
    folds : list of Fold
    fitted : classifier
    holdout : Predictions, or None
        None where nothing is held out, or nobody may look yet.
    drops : DataFrame, or None
        As `importance` gives it.
    files : mapping of str to str or bytes, optional
        What to store with the model, by name.
    """
    task = experiment.task
    scores = task.score_holdout(holdout)
    run.log(metrics=figures(folds) | {f"holdout/{name}": value for name, value in scores.items()})
    # Where nothing is recorded too: a stage of dvc.yaml that scores the answers reads them there.
    task.predictions_table(folds, holdout).to_parquet(run.folder / PREDICTIONS, index=False)
    if run.id is None:
        return None
    told = cross_validation.pool_predictions(folds)
    labels = [str(label) for label in task.classes]
    run.log_figure("confusion", plots.confusion(told, labels))
    run.log_figure("probabilities", plots.probabilities(told, labels))
    if told.prediction_sets is not None:
        tables = {"folds": told} | ({"holdout": holdout} if holdout is not None else {})
        covered = pd.concat(
            {name: metrics.coverage_by_class(each) for name, each in tables.items()}, names=["rows_of", "class"]
        )
        covered.rename(index=dict(enumerate(labels)), level="class").to_csv(run.folder / COVERAGE)
    if task.target.ordinal:
        run.log_figure("grades", plots.grades(told, labels))
    if drops is not None:
        drops.to_csv(run.folder / IMPORTANCE)
        run.log_figure("importance", plots.importance(list(drops.index), drops.to_numpy(), task.target.metric))
    return run.log_model(fitted, task.X, files)
