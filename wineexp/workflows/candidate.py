"""The candidate of a promotion: a recorded config, trained on the gate's folds and on all rows, and stored."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from omegaconf import DictConfig, OmegaConf
from sklearn.base import ClassifierMixin

from wineexp.data.task import Task
from wineexp.evaluation import cross_validation
from wineexp.evaluation.comparison import compare_folds
from wineexp.evaluation.cross_validation import Fold
from wineexp.models import manifest, persistence
from wineexp.models.compiled.compilation import compile_pipeline
from wineexp.reports.card.inputs import Baseline
from wineexp.tracking.names import CONFIG_FILE
from wineexp.tracking.run import Run
from wineexp.workflows import console, model_package, record
from wineexp.workflows.experiment import Experiment, assemble
from wineexp.workflows.gate import Check, Gate

log = logging.getLogger(__name__)

# How many folds of a long cross-validation have a line in the log.
N_FOLD_LINES = 5


@dataclass(frozen=True)
class Candidate:
    """A trained candidate.

    Attributes
    ----------
    experiment : Experiment
    params : mapping of str to str
        As recorded: the choice of each group, and every leaf of the config.
    folds : list of Fold
    fitted : classifier
    costs : list of Check
        The rules about what it costs to serve.
    """

    experiment: Experiment
    params: Mapping[str, str]
    folds: list[Fold]
    fitted: ClassifierMixin
    costs: list[Check]

    @classmethod
    def train(cls, experiment: Experiment, params: Mapping[str, str], gate: Gate) -> "Candidate":
        """Cross-validate and fit an experiment, and measure what it costs to serve."""
        folds = cross_validate(experiment, "candidate", is_stored=True)
        fitted = experiment.fit()
        return cls(experiment, params, folds, fitted, measure_costs(fitted, experiment.task, gate))

    def record_scores(self, run: Run) -> None:
        """Record the cross-validation alone, of a candidate that is refused."""
        run.log(metrics=record.fold_metrics(self.folds, self.experiment.task.target.metric))
        run.describe(record.description(self.params, self.experiment.task, self.folds, {}, complete=False))

    def store(self, run: Run, baseline: Baseline) -> tuple[str, str]:
        """Record everything, with the holdout, which no rule has used, and store the model with its files.

        Parameters
        ----------
        run : Run
        baseline : Baseline
            What the model card compares with.

        Returns
        -------
        model_id : str
        form : str
            Whether the model was compiled for serving, or why not.
        """
        task = self.experiment.task
        holdout = self.experiment.predict_holdout(self.fitted, self.folds)
        importance = record.holdout_importance(self.experiment, self.fitted, holdout, self.folds)
        files: dict[str, str | bytes] = model_package.files(
            task,
            self.folds,
            self.fitted,
            holdout,
            baseline,
            importance,
            params=self.params,
            tags=run.tags,
        )
        files[CONFIG_FILE] = record.config_text(self.experiment.cfg)
        content, message = compile_pipeline(self.fitted, task.X)
        log.info("for serving: %s", message if content else f"the plain pipeline, not compiled, since {message}")
        if content is not None:
            files[manifest.COMPILED_MODEL_FILE] = content
        scores = task.score_holdout(holdout, self.folds)
        run.describe(record.description(self.params, task, self.folds, scores, complete=True))
        model_id = record.record_results(
            run, self.experiment, self.folds, self.fitted, holdout, scores, importance, files
        )
        return str(model_id), message

    def baseline(self, model: DictConfig, name: str) -> Baseline:
        """The scores of a simpler model, on the same folds and the same holdout.

        Of a table that is read in batches they are those of the sample, since few models are trained on batches.
        """
        cfg = self.experiment.cfg.copy()
        cfg.model = OmegaConf.to_container(model, resolve=True)
        # What is said of the candidate's boosting is not said of the baseline.
        if "early_stopping" in cfg:
            cfg.early_stopping.rounds = None
        if cfg.feature._target_ == "wineexp.models.features.native":
            # Few models take categories as they are.
            cfg.feature = {"_target_": "wineexp.models.features.scaled", "strategy": "median"}
        baseline = assemble(cfg, on_sample=True).on_sample()
        folds = cross_validate(baseline, f"baseline {name}")
        scores = {metric: [fold.scores[metric] for fold in folds] for metric in folds[0].scores}
        task = baseline.task
        return Baseline(name, scores, task.score_holdout(task.predict_holdout(baseline.fit(), folds), folds))

    def compare_with_baseline(self, baseline: Baseline) -> list[str]:
        """Warn of a baseline that is ahead in the deciding metric; gives the warning, for the history."""
        task = self.experiment.task
        metric = task.target.metric
        scores, reference = [fold.scores[metric] for fold in self.folds], baseline.folds[metric]
        comparison = compare_folds(
            scores, reference, direction=task.deciding_metric.direction, test_to_train=task.test_to_train
        )
        if comparison is None or comparison.difference >= 0:
            return []
        certainty = "which the folds confirm" if comparison.verdict == "worse" else "which the folds do not confirm"
        warning = (
            f"baseline: {baseline.name} is ahead on the same folds, {metric} {np.nanmean(reference):.4f} against "
            f"{np.nanmean(scores):.4f}, {certainty}; the gate compares with what the alias names, not with the baseline"
        )
        log.warning("%s", warning)
        return [warning]


def measure_costs(fitted: ClassifierMixin, task: Task, gate: Gate) -> list[Check]:
    """The gate's rules about what a fitted model costs to serve."""
    seconds = cross_validation.median_row_seconds(fitted, task.X)
    return gate.check_costs(row_milliseconds=1000 * seconds, size=persistence.stored_bytes(fitted))


def cross_validate(experiment: Experiment, title: str, *, is_stored: bool = False) -> list[Fold]:
    """The folds of an experiment, with a line in the log for every fifth part of them.

    `is_stored` is that of `Experiment.cross_validate`.
    """
    total, metric = len(experiment.task.folds), experiment.task.target.metric
    progress = console.show_progress(
        experiment.cross_validate(is_stored=is_stored),
        total=total,
        metric=metric,
        title=title,
        every=max(1, total // N_FOLD_LINES),
    )
    return cross_validation.with_intervals(list(progress))
