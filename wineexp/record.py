"""What an experiment leaves: where it comes from, its figures in numbers and in pictures, its answers, its model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf

from wineexp import config, evaluation, provenance, report
from wineexp.experiment import Experiment
from wineexp.problem import Problem
from wineexp.tracking import Run

# Names of artifacts.
CONFIG, DIFF, PREDICTIONS, IMPORTANCE = "config.yaml", "git.diff", "predictions.parquet", "importance.csv"
COVERAGE = "coverage.csv"

# The tag that names the choice of conf/experiment/ that a run was started with.
PROTOCOL = "experiment"


def lineage(cfg: DictConfig, problem: Problem, folder: Path) -> dict[str, str]:
    """Tags on where a run comes from; writes the config and, of a changed tree, the diff into the run's folder."""
    (folder / CONFIG).write_text(OmegaConf.to_yaml(cfg, resolve=True), encoding="utf-8")
    tags = provenance.facts()
    # A stage of dvc.yaml has one folder, run after run.
    (folder / DIFF).unlink(missing_ok=True)
    if "git.diff.sha256" in tags:
        (folder / DIFF).write_text(provenance.diff(), encoding="utf-8", errors="surrogateescape")
    return tags | problem.facts() | {"config.sha256": config.digest(cfg)}


def figures(folds: list[evaluation.Fold]) -> dict[str, float | list[float]]:
    """The figures of a cross-validation: each fold's, their means and deviations, and what the folds took."""
    summary = evaluation.summarise(folds)
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
    problem: Problem,
    folds: list[evaluation.Fold],
    holdout: evaluation.Scores,
    *,
    whole: bool,
) -> str:
    """What a run is, in Markdown, for MLflow to show above everything else: what ran, what decides, where to look on.

    Parameters
    ----------
    groups : mapping of str to str
        The choice of each config group.
    problem : Problem
    folds : list of Fold
        Fewer than the problem's, of a trial that was given up.
    holdout : dict of str to float
        Empty where it was not asked.
    whole : bool
        Whether the run leaves answers and figures, which a sweep's trials do not.
    """
    metric = problem.target.metric
    summary = evaluation.summarise(folds)
    mean, deviation = summary[metric]
    spread = "" if np.isnan(deviation) else f" ± {deviation:.4f}"
    told = f"{len(folds)} folds" if len(folds) == len(problem.folds) else f"{len(folds)} of {len(problem.folds)} folds"
    seen = f"; **{holdout[metric]:.4f}** on the holdout" if holdout else "; the holdout was not asked"
    more = "; `predictions.parquet` has every answer, `figures/` shows them"
    return (
        f"**{groups['model']}** on {groups['feature']} features of {groups['data']}, to tell its {groups['target']}; "
        f"split {groups['split']}.\n\n"
        f"{metric.replace('_', ' ')} **{mean:.4f}{spread}** over {told}{seen}. "
        f"Always answering the most frequent class: accuracy {summary['majority_accuracy'][0]:.4f}.\n\n"
        f"`config.yaml` is all that was asked for{more if whole else ''}."
    )


def importance(experiment: Experiment, fitted: Any, holdout: evaluation.Answers | None) -> pd.DataFrame | None:
    """By how much the deciding metric gets worse on the holdout when a feature is shuffled.

    Returns
    -------
    DataFrame of shape (n_features, n_repeats), or None
        None where nothing is held out, or nobody may look yet.
    """
    if holdout is None:
        return None
    problem = experiment.problem
    drops = evaluation.permutation_drops(
        fitted, problem.X_holdout, holdout.y, problem.target.metric, seed=experiment.cfg.seed
    )
    return pd.DataFrame(drops, pd.Index([str(name) for name in problem.X], name="feature"))


def complete(
    run: Run,
    experiment: Experiment,
    folds: list[evaluation.Fold],
    fitted: Any,
    holdout: evaluation.Answers | None,
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
    holdout : Answers, or None
        None where nothing is held out, or nobody may look yet.
    drops : DataFrame, or None
        As `importance` gives it.
    files : mapping of str to str or bytes, optional
        What to store with the model, by name.
    """
    problem = experiment.problem
    scores = problem.score_holdout(holdout)
    run.log(metrics=figures(folds) | {f"holdout/{name}": value for name, value in scores.items()})
    # Where nothing is recorded too: a stage of dvc.yaml that scores the answers reads them there.
    problem.predictions(folds, holdout).to_parquet(run.folder / PREDICTIONS, index=False)
    if run.id is None:
        return None
    told = evaluation.pooled(folds)
    labels = [str(label) for label in problem.classes]
    run.log_figure("confusion", report.confusion(told.y, told.predicted, labels))
    run.log_figure("probabilities", report.probabilities(told.y, told.probabilities, labels))
    if told.sets is not None:
        tables = {"folds": told} | ({"holdout": holdout} if holdout is not None else {})
        covered = pd.concat(
            {name: evaluation.coverage(each) for name, each in tables.items()}, names=["rows_of", "class"]
        )
        covered.rename(index=dict(enumerate(labels)), level="class").to_csv(run.folder / COVERAGE)
    if problem.target.ordinal:
        run.log_figure("grades", report.grades(told.y, told.probabilities, labels))
    if drops is not None:
        drops.to_csv(run.folder / IMPORTANCE)
        run.log_figure("importance", report.importance(list(drops.index), drops.to_numpy(), problem.target.metric))
    return run.log_model(fitted, problem.X, files)
