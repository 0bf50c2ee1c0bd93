"""An experiment: the problem that a config poses and the estimator that it names, brought to life together."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from omegaconf import DictConfig, OmegaConf
from sklearn.base import ClassifierMixin
from sklearn.pipeline import Pipeline

from wineexp import evaluation, model
from wineexp.config import build
from wineexp.problem import Problem, pose

# The keys of a config that pose its problem.
POSES = ["data", "target", "split", "holdout", "seed"]


@dataclass(frozen=True)
class Experiment:
    """What a config says, ready to be carried out.

    Attributes
    ----------
    cfg : DictConfig
        A config in the frame of conf/train.yaml.
    problem : Problem
    estimator : Pipeline
        Features and model, not fitted.
    """

    cfg: DictConfig
    problem: Problem
    estimator: Pipeline

    def cross_validate(self) -> Iterator[evaluation.Fold]:
        """Each fold, as it is ready; see `evaluation.cross_validate`."""
        problem = self.problem
        return evaluation.cross_validate(
            self.estimator, problem.X, problem.y, problem.folds, problem.metrics, n_jobs=self.cfg.n_jobs
        )

    def fit(self) -> ClassifierMixin:
        """The estimator, fitted on every row outside the holdout."""
        return evaluation.fit(self.estimator, self.problem.X, self.problem.y)


def assemble(cfg: DictConfig) -> Experiment:
    """Check and build everything that a config names, and load its data.

    Raises
    ------
    UserError
        With every argument that is unknown, missing or of the wrong type, or because the data cannot be had or do not
        fit the target or the split.
    """
    parts = build(cfg)
    problem = _posed(OmegaConf.to_yaml(OmegaConf.masked_copy(cfg, POSES), resolve=True))
    return Experiment(cfg, problem, model.pipeline(parts["feature"], parts["model"], problem.classes))


@lru_cache(maxsize=1)
def _posed(config: str) -> Problem:
    """The problem that a config, as YAML, poses; trials of a sweep, which mostly share it, pose it once a process."""
    cfg: Any = OmegaConf.create(config)
    parts = build(cfg)
    return pose(parts["data"](), parts["target"], parts["split"], cfg.holdout)
