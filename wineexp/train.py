"""Train, score and record one model: `python -m wineexp.train model=xgb`."""

import logging
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from wineexp.config import Train, build, leaves
from wineexp.program import program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wineexp.evaluation import Fold, Scores
    from wineexp.problem import Problem
    from wineexp.sweep.trial import Trial
    from wineexp.tracking import Run

log = logging.getLogger(__name__)

# The keys of a config that pose its problem.
POSES = ["data", "target", "split", "holdout", "seed"]


@program(Train)
def main(cfg: DictConfig) -> float | list[float]:
    """Compose, load, split, cross-validate, refit, score the holdout, record; return the deciding metric."""
    from wineexp import console, evaluation, model, provenance

    parts = build(cfg)
    problem = posed(OmegaConf.to_yaml(OmegaConf.masked_copy(cfg, POSES), resolve=True))

    # Seconds to import, which a data file that cannot be had should not have to wait for.
    from wineexp import tracking
    from wineexp.sweep import trial

    estimator = model.pipeline(parts["feature"], parts["model"], problem.classes)
    choices = HydraConfig.get().runtime.choices
    me = trial.current()
    name = f"{choices['model']} {choices['feature']} {choices['split']}"
    run = tracking.Run(
        cfg.tracking.uri,
        experiment=f"{choices['data']}-{choices['target']}",
        name=name if me.number is None else f"trial {me.number}: {name}",
        tags=provenance.code() | problem.facts(),
        folder=Path(HydraConfig.get().runtime.output_dir),
        parent=me.context.get("parent_run_id"),
    )
    with run:
        if run.id is not None:
            me.set_user_attr("run_id", run.id)
        groups = {name: choices[name] for name in parts}
        run.log(params=groups | leaves(cfg))
        run.log_dataset(problem, name=choices["data"])
        scored = evaluation.cross_validate(
            estimator, problem.X, problem.y, problem.folds, problem.metrics, n_jobs=cfg.n_jobs
        )
        shown = console.follow(
            scored, total=len(problem.folds), metric=problem.target.metric, briefly=me.number is not None
        )
        folds = followed(shown, me, problem)
        if me.number is not None:
            # No trial sees the holdout; the winner does, once, when it is run again.
            run.log(metrics=figures(folds))
            return judged(folds, me, problem)
        fitted = evaluation.fit(estimator, problem.X, problem.y)
        # Nor does a job of a grid: whoever chose the best of many by the holdout would have tuned on it.
        alone = HydraConfig.get().mode == RunMode.RUN or me.winner
        holdout = problem.score_holdout(fitted) if alone else {}
        record(run, problem, folds, fitted, holdout, seed=cfg.seed)
    summary = evaluation.summarise(folds)
    show(" · ".join(groups.values()), problem, summary, holdout, run)
    return summary[problem.target.metric][0]


@lru_cache(maxsize=1)
def posed(config: str) -> "Problem":
    """The problem that a config, as YAML, poses; trials of a sweep, which mostly share it, pose it once a process."""
    from wineexp.problem import pose

    cfg = DictConfig(OmegaConf.create(config))
    parts = build(cfg)
    return pose(parts["data"](), parts["target"], parts["split"], cfg.holdout)


def followed(folds: "Iterator[Fold]", me: "Trial", problem: "Problem") -> "list[Fold]":
    """The folds, each reported to the trial; of a hopeless trial the first ones."""
    done = []
    for fold in folds:
        done.append(fold)
        me.report(fold.scores[problem.target.metric], fold.number)
        if me.should_prune():
            break
    return done


def judged(folds: "list[Fold]", me: "Trial", problem: "Problem") -> float | list[float]:
    """What a sweep is told: the deciding metric, and the seconds of predicting where it asks for a second objective."""
    import numpy as np

    score = float(np.mean([fold.scores[problem.target.metric] for fold in folds]))
    seconds = float(np.mean([fold.predict_seconds for fold in folds]))
    me.set_user_attr("predict_seconds", seconds)
    return score if me.objectives == 1 else [score, seconds]


def figures(folds: "list[Fold]") -> dict[str, float | list[float]]:
    """The figures of a cross-validation: each fold's, their means and deviations, and what the folds took."""
    import numpy as np

    from wineexp import evaluation

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


def record(run: "Run", problem: "Problem", folds: "list[Fold]", fitted: Any, holdout: "Scores", *, seed: int) -> None:
    """Log the figures of a run, in numbers and in pictures, and its model."""
    import numpy as np

    from wineexp import evaluation, report

    run.log(metrics=figures(folds) | {f"holdout/{name}": value for name, value in holdout.items()})
    if run.id is None:
        return
    y = np.concatenate([fold.answers.y for fold in folds])
    predicted = np.concatenate([fold.answers.predicted for fold in folds])
    probabilities = np.concatenate([fold.answers.probabilities for fold in folds])
    labels = [str(label) for label in problem.classes]
    run.log_figure("confusion", report.confusion(y, predicted, labels))
    run.log_figure("probabilities", report.probabilities(y, probabilities, labels))
    if problem.target.ordinal:
        run.log_figure("grades", report.grades(y, probabilities, labels))
    if holdout:
        drops = evaluation.permutation_drops(
            fitted, problem.X_holdout, problem.codes(problem.y_holdout), problem.target.metric, seed=seed
        )
        run.log_figure("importance", report.importance([str(name) for name in problem.X], drops, problem.target.metric))
    run.log_model(fitted, problem.X)


def show(
    title: str, problem: "Problem", summary: dict[str, tuple[float, float]], holdout: "Scores", run: "Run"
) -> None:
    """Print the figures, in plain words where they mean little, and where to look next."""
    from wineexp import console, store

    names = [problem.target.metric, *(name for name in summary if name != problem.target.metric)]
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
    log.info(problem.describe())
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
