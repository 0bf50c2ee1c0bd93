"""Train, score and record one model: `python -m wineexp.train model=xgb`."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from wineexp.core.config import GROUPS, Train, flatten_config
from wineexp.core.output_files import written_by_hydra
from wineexp.core.program import program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sklearn.pipeline import Pipeline

    from wineexp.data.task import Task
    from wineexp.evaluation.cross_validation import Fold
    from wineexp.evaluation.metrics import Scores
    from wineexp.sweep.trial import Trial

log = logging.getLogger(__name__)

# The config groups whose choices are a run's name.
TITLE_GROUPS = ("model", "feature", "split")
# What MLflow's database holds of a run's name.
MAX_NAME_CHARS = 250


@dataclass(frozen=True)
class TrainResult:
    """What a training found.

    Attributes
    ----------
    metric : str
        Name of the deciding metric.
    scores : dict of str to (float, float)
        Mean and standard deviation of each metric over the folds.
    holdout : dict of str to float
        Each metric on the holdout; empty for a sweep's trial, which does not see it.
    folds : list of Fold
    pipeline : Pipeline or None
        Features and model, fitted on all rows outside the holdout; None for a sweep's trial.
    task : Task
        The rows, their labels and the folds.
    run_id, tracking_uri, how_to_view : str or None
        Where it is recorded, and the address of MLflow's page with its experiment's runs; None where nothing is.
    folder : Path
        The output folder.
    objective : float or list of float
        What a sweep minimizes or maximizes.
    """

    metric: str
    scores: dict[str, tuple[float, float]]
    holdout: "Scores"
    folds: "list[Fold]"
    pipeline: "Pipeline | None"
    task: "Task"
    run_id: str | None
    tracking_uri: str | None
    how_to_view: str | None
    folder: Path
    objective: float | list[float]


@program(Train)
def main(cfg: DictConfig) -> float | list[float]:
    """Run from the command line; gives Hydra's sweepers what they optimize."""
    return run(cfg).objective


def run(cfg: DictConfig) -> TrainResult:
    """Load, split, cross-validate, refit, score the holdout, record."""
    from wineexp.workflows.experiment import assemble

    experiment = assemble(cfg)
    task = experiment.task

    # These take seconds to import, so that a data file which cannot be had is reported first.
    from wineexp.evaluation import cross_validation
    from wineexp.sweep import trial
    from wineexp.tracking import names, store
    from wineexp.tracking.run import Run
    from wineexp.workflows import console, record

    choices = HydraConfig.get().runtime.choices
    current = trial.current()
    is_trial = current.number is not None
    folder = Path(HydraConfig.get().runtime.output_dir)
    title = " ".join(choices[group] for group in TITLE_GROUPS)
    # A stage of dvc.yaml has no such choice: what it names is in params.yaml already.
    protocol = "/".join(
        choices[group] for group in sorted(choices) if group.startswith("experiment") and choices[group]
    )
    protocol_tag = {names.NAMED_EXPERIMENT: protocol} if protocol else {}
    tracked = Run(
        cfg.tracking.uri,
        experiment=f"{choices['data']}-{choices['target']}",
        name=run_name(title, current.name),
        tags=record.origin_tags(cfg, task) | protocol_tag,
        folder=folder,
        parent=current.context.get("parent_run_id"),
        files=written_by_hydra(),
    )
    groups = {name: choices[name] for name in GROUPS}
    fitted = None
    holdout_scores: Scores = {}
    with store.store_errors(), tracked:
        if tracked.id is not None:
            current.set_user_attr("run_id", tracked.id)
        record.record_origin(tracked, cfg)
        tracked.log(params=groups | flatten_config(cfg))
        tracked.log_dataset(task, name=choices["data"])
        progress = console.show_progress(
            experiment.cross_validate(is_stored=tracked.id is not None),
            total=len(task.folds),
            metric=task.target.metric,
            quiet=is_trial,
        )
        folds = report_folds(progress, current, task)
        if not is_trial:
            folds = cross_validation.with_intervals(folds)
        if is_trial:
            # No trial sees the holdout; the winner does, once, when it is run again.
            tracked.log(metrics=record.fold_metrics(folds, task.target.metric))
        else:
            with console.notice_if_slow("fitting the model on all rows outside the holdout ..."):
                fitted = experiment.fit()
            # Nor does a job of a grid: choosing the best of many by the holdout would be tuning on it.
            sees_holdout = HydraConfig.get().mode == RunMode.RUN or current.is_refit
            holdout = experiment.predict_holdout(fitted, folds) if sees_holdout else None
            with console.notice_if_slow("scoring and recording ..."):
                importance = record.holdout_importance(experiment, fitted, holdout, folds)
                holdout_scores = task.score_holdout(holdout, folds)
                record.record_results(tracked, experiment, folds, fitted, holdout, holdout_scores, importance)
        tracked.describe(record.description(groups, task, folds, holdout_scores, complete=not is_trial))
    result = TrainResult(
        metric=task.target.metric,
        scores=cross_validation.summarise(folds),
        holdout=holdout_scores,
        folds=folds,
        pipeline=fitted,
        task=task,
        run_id=tracked.id,
        tracking_uri=tracked.uri if tracked.id is not None else None,
        how_to_view=tracked.how_to_view() if tracked.id is not None else None,
        folder=folder,
        objective=objective(folds, current, task),
    )
    if not is_trial:
        show(" · ".join(groups.values()), result)
    return result


def run_name(title: str, trial_name: str | None) -> str:
    """What a run is called: its choices; of a sweep's trial or a grid's job also which one it is."""
    if trial_name is not None:
        return f"{trial_name}: {title}"
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        return title
    job = f"job {HydraConfig.get().job.num}"
    values = [line for line in HydraConfig.get().overrides.task if line.partition("=")[0] not in TITLE_GROUPS]
    return f"{job}: {' '.join([*values, title])}"[:MAX_NAME_CHARS]


def report_folds(folds: "Iterator[Fold]", current: "Trial", task: "Task") -> "list[Fold]":
    """All folds, each reported to the sweep's trial; the first ones of a trial that is pruned."""
    done = []
    for fold in folds:
        done.append(fold)
        current.report(fold.scores[task.target.metric], fold.number)
        if current.should_prune():
            break
    return done


def objective(folds: "list[Fold]", current: "Trial", task: "Task") -> float | list[float]:
    """The mean of the deciding metric, and the seconds of predicting where a sweep asks for a second objective."""
    import numpy as np

    score = float(np.mean([fold.scores[task.target.metric] for fold in folds]))
    seconds = float(np.mean([fold.predict_seconds for fold in folds]))
    current.set_user_attr("predict_seconds", seconds)
    return score if current.objectives == 1 else [score, seconds]


def show(title: str, result: TrainResult) -> None:
    """Print the scores, a warning in plain words where they mean little, and where to look next."""
    from wineexp.evaluation import cross_validation
    from wineexp.workflows import console

    summary, holdout = result.scores, result.holdout
    names = [result.metric, *(name for name in summary if name != result.metric)]
    console.print_scores(
        title,
        [
            (
                name,
                f"{summary[name][0]:.4f} ± {summary[name][1]:.4f}",
                f"{holdout[name]:.4f}" if holdout else "",
            )
            for name in names
        ],
    )
    deviation = cross_validation.standard_error(result.folds, result.metric)
    if not math.isnan(deviation):
        mean, n_folds = summary[result.metric][0], len(result.folds)
        log.info("%s: %.4f on average over %d folds, standard error %.4f.", result.metric, mean, n_folds, deviation)
    log.info(result.task.describe())
    if result.task.target.is_number:
        error, of_mean = (summary[name][0] for name in ("root_mean_squared_error", "baseline_root_mean_squared_error"))
        if error >= of_mean:
            log.warning(
                "This run does not beat the mean: always answering the mean of the training rows has a root mean "
                "squared error of %.4g, this model %.4g.",
                of_mean,
                error,
            )
    elif (accuracy := summary["accuracy"][0]) <= (majority := summary["majority_accuracy"][0]):
        log.warning(
            "This run does not beat the majority class: always answering the most frequent class is %.1f %% accurate, "
            "this model %.1f %%.",
            *(100 * majority, 100 * accuracy),
        )
    if cross_validation.learned_nothing(result.folds):
        log.warning("This model learned nothing from the features: it gives every row of a fold the same answer.")
    if result.run_id is not None:
        log.info("Recorded as run %s in %s.", result.run_id, result.tracking_uri)
        log.info("Look at it: %s", result.how_to_view)


if __name__ == "__main__":
    main()
