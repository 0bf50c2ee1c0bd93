"""Train, score and record one model: `python -m wineexp.train model=xgb`."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from wineexp.core.config import GROUPS, Train, leaves
from wineexp.core.program import program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wineexp.data.task import Task
    from wineexp.evaluation.cross_validation import Fold
    from wineexp.evaluation.metrics import Scores
    from wineexp.sweep.trial import Trial
    from wineexp.tracking.run import Run

log = logging.getLogger(__name__)


@program(Train)
def main(cfg: DictConfig) -> float | list[float]:
    """Compose, load, split, cross-validate, refit, score the holdout, record; return the deciding metric."""
    from wineexp.workflows.experiment import assemble

    experiment = assemble(cfg)
    task = experiment.task

    # Seconds to import, which a data file that cannot be had should not have to wait for.
    from wineexp.evaluation import cross_validation
    from wineexp.sweep import trial
    from wineexp.tracking import store
    from wineexp.tracking.run import Run
    from wineexp.workflows import console, record

    choices = HydraConfig.get().runtime.choices
    me = trial.current()
    folder = Path(HydraConfig.get().runtime.output_dir)
    name = f"{choices['model']} {choices['feature']} {choices['split']}"
    # A stage of dvc.yaml has no such choice: what it names is in params.yaml already.
    protocol = "/".join(
        choices[group] for group in sorted(choices) if group.startswith("experiment") and choices[group]
    )
    named = {record.PROTOCOL: protocol} if protocol else {}
    run = Run(
        cfg.tracking.uri,
        experiment=f"{choices['data']}-{choices['target']}",
        name=name if me.number is None else f"trial {me.number}: {name}",
        tags=record.lineage(cfg, task, folder) | named,
        folder=folder,
        parent=me.context.get("parent_run_id"),
    )
    with store.told(), run:
        if run.id is not None:
            me.set_user_attr("run_id", run.id)
        groups = {name: choices[name] for name in GROUPS}
        run.log(params=groups | leaves(cfg))
        run.log_dataset(task, name=choices["data"])
        shown = console.follow(
            experiment.cross_validate(),
            total=len(task.folds),
            metric=task.target.metric,
            briefly=me.number is not None,
        )
        folds = followed(shown, me, task)
        if me.number is not None:
            # No trial sees the holdout; the winner does, once, when it is run again.
            run.log(metrics=record.figures(folds))
            run.describe(record.note(groups, task, folds, {}, whole=False))
            return judged(folds, me, task)
        fitted = experiment.fit()
        # Nor does a job of a grid: whoever chose the best of many by the holdout would have tuned on it.
        alone = HydraConfig.get().mode == RunMode.RUN or me.winner
        holdout = task.predict_holdout(fitted) if alone else None
        record.complete(run, experiment, folds, fitted, holdout, record.importance(experiment, fitted, holdout))
        run.describe(record.note(groups, task, folds, task.score_holdout(holdout), whole=True))
    summary = cross_validation.summarise(folds)
    show(" · ".join(groups.values()), task, summary, task.score_holdout(holdout), run)
    return summary[task.target.metric][0]


def followed(folds: "Iterator[Fold]", me: "Trial", task: "Task") -> "list[Fold]":
    """The folds, each reported to the trial; of a hopeless trial the first ones."""
    done = []
    for fold in folds:
        done.append(fold)
        me.report(fold.scores[task.target.metric], fold.number)
        if me.should_prune():
            break
    return done


def judged(folds: "list[Fold]", me: "Trial", task: "Task") -> float | list[float]:
    """What a sweep is told: the deciding metric, and the seconds of predicting where it asks for a second objective."""
    import numpy as np

    score = float(np.mean([fold.scores[task.target.metric] for fold in folds]))
    seconds = float(np.mean([fold.predict_seconds for fold in folds]))
    me.set_user_attr("predict_seconds", seconds)
    return score if me.objectives == 1 else [score, seconds]


def show(title: str, task: "Task", summary: dict[str, tuple[float, float]], holdout: "Scores", run: "Run") -> None:
    """Print the figures, in plain words where they mean little, and where to look next."""
    from wineexp.tracking import store
    from wineexp.workflows import console

    names = [task.target.metric, *(name for name in summary if name != task.target.metric)]
    console.scores(
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
    log.info(task.describe())
    accuracy, majority = summary["accuracy"][0], summary["majority_accuracy"][0]
    if accuracy <= majority:
        log.warning(
            "This run does not beat the majority class: always answering the most frequent class is %.1f %% accurate, "
            "this model %.1f %%.",
            *(100 * majority, 100 * accuracy),
        )
    if run.id is not None:
        log.info("Recorded as run %s in %s.", run.id, run.uri)
        log.info("Look at it: %s", store.how_to_look(str(run.uri)))


if __name__ == "__main__":
    main()
