"""The champion of a promotion: the version that the alias names, as its run recorded it."""

from dataclasses import replace

from omegaconf import DictConfig

from wineexp.core.config import GROUPS
from wineexp.core.errors import UserError
from wineexp.core.instantiation import check_node
from wineexp.data import task
from wineexp.evaluation.baseline import baseline_names
from wineexp.evaluation.own_metric import is_own
from wineexp.tracking import names
from wineexp.tracking.registry import Version
from wineexp.tracking.runs import Runs
from wineexp.workflows.candidate import cross_validate
from wineexp.workflows.experiment import Experiment, assemble
from wineexp.workflows.gate import ModelScores, calibration_error


def champion_config(champion: Version, runs: Runs, alias: str) -> DictConfig:
    """The config that the champion was trained with.

    Raises
    ------
    UserError
        Its run or its config is gone or was altered, or an earlier release recorded it and it cannot be built any more.
    """
    try:
        cfg = runs.get(str(champion.number)).config()
        if faults := [fault for group in GROUPS for fault in check_node(group, cfg[group])]:
            raise UserError(*faults)
        return cfg
    except UserError as error:
        raise UserError(
            *error.faults,
            f"so version {champion.number}, which {alias} names, cannot be compared with; go back with rollback=true, "
            "or delete the alias in MLflow, and promote anew",
        ) from error


def champion_scores(champion: Version, runs: Runs, alias: str, experiment: Experiment) -> ModelScores:
    """The champion's scores on a candidate's folds: as recorded, or measured anew where its own folds were others."""
    name = f"version {champion.number}"
    recorded, tags = runs.get(str(champion.number)), experiment.task.tags()
    predictions = recorded.predictions()
    identical = (names.DATA_MD5, names.DATA_WEIGHT, names.SPLIT_SHA256)
    # What a metric of the user's own computes may have changed since.
    same_folds = all(recorded.tags.get(tag) == tags.get(tag) for tag in identical) and not is_own(
        experiment.task.target.metric
    )
    if predictions is not None and same_folds:
        metrics = experiment.task.metrics
        scores = {metric: recorded.fold_scores(metric) for metric in [*metrics, *baseline_names(metrics)]}
        return ModelScores(name, scores, calibration_error(task.out_of_fold_predictions(predictions)))
    cfg = champion_config(champion, runs, alias)
    for key in ("metric", "direction", "metric_needs"):
        if key in experiment.cfg.target:
            cfg.target[key] = experiment.cfg.target[key]
    known = feedback(cfg)
    cfg.data = experiment.cfg.data
    cfg.split, cfg.holdout, cfg.n_jobs = experiment.cfg.split, experiment.cfg.holdout, experiment.cfg.n_jobs
    return ModelScores.of_folds(name, cross_validate(_without_later_feedback(assemble(cfg), len(known)), name))


def feedback(cfg: DictConfig) -> list[str]:
    """The files of feedback that a config's data set has."""
    return [str(file) for file in cfg.data.get("feedback") or []]


def _without_later_feedback(experiment: Experiment, n_files: int) -> Experiment:
    """An experiment that trains on no more than the first files of feedback, and is tested on the same rows."""
    task = experiment.task
    if task.snapshots is None:
        return experiment
    is_known = task.snapshots <= n_files
    folds = [(training[is_known[training]], test) for training, test in task.folds]
    return replace(experiment, task=replace(task, folds=folds))
