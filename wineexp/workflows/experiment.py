"""An experiment: the task and the estimator that a config names."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from sklearn.base import ClassifierMixin, RegressorMixin, is_classifier, is_regressor
from sklearn.pipeline import Pipeline

from wineexp.core.errors import UserError
from wineexp.core.instantiation import build
from wineexp.core.trust import trusting
from wineexp.data.external_dataset import dask_workers, missing_packages
from wineexp.data.external_table import MEMORY
from wineexp.data.groups import Indices
from wineexp.data.target import Target
from wineexp.data.task import Task, make_task
from wineexp.evaluation import cross_validation
from wineexp.evaluation.intervals import MIN_ROWS
from wineexp.evaluation.predictions import NumberPredictions, Predictions
from wineexp.models import persistence, regression
from wineexp.models.column_arguments import bind_columns
from wineexp.models.decision import own_metric_faults
from wineexp.models.device import CPU, device_faults, on_device
from wineexp.models.early_stopping import EarlyStopping, early_stopping_faults
from wineexp.models.external import external_faults
from wineexp.models.features import for_numbers, with_dates
from wineexp.models.label_arguments import label_faults
from wineexp.models.native_categories import native_faults, suited_to
from wineexp.models.pipeline import make_pipeline
from wineexp.models.weights import unweighted_faults
from wineexp.tracking import names
from wineexp.workflows import external
from wineexp.workflows.console import notice_if_slow

# The keys of a config that define its task.
TASK_KEYS = ["data", "target", "split", "holdout", "seed"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Experiment:
    """A config with everything that it names, built and ready to run.

    Attributes
    ----------
    cfg : DictConfig
        A config in the frame of conf/train.yaml.
    task : Task
    estimator : Pipeline
        Features and model, not fitted.
    """

    cfg: DictConfig
    task: Task
    estimator: Pipeline

    def cross_validate(self, *, is_stored: bool = False) -> Iterator[cross_validation.Fold]:
        """Each fold, as soon as it is scored; see `evaluation.cross_validation.cross_validate`.

        Parameters
        ----------
        is_stored : bool, optional
            Whether a model will be stored in the end: then a type that storing would refuse is refused before the
            first fold, and one that only a fitted model holds after it.

        Raises
        ------
        SetupError
            As described.
        UserError
            As `cross_validation.cross_validate`.
        """
        if is_stored:
            _check_types(self.estimator)
        task, check_first = self.task, _check_types if is_stored else None
        if task.plan is not None:
            folds = external.cross_validate(self.estimator, task, check_first)
        else:
            folds = cross_validation.cross_validate(
                self.estimator,
                task.X,
                task.y,
                task.folds,
                task.metrics,
                n_jobs=self.cfg.n_jobs,
                weights=task.weights,
                fit_options=self._fit_options,
                fitted_rows=task.fitted_rows,
                check_first=check_first,
            )
        if task.deciding_metric.computed_from == "intervals":
            # The intervals of each fold come from the errors in all others.
            folds = iter(cross_validation.with_intervals(list(folds)))
        for fold in folds:
            if task.target.metric not in fold.scores:
                raise UserError(
                    f"target.metric={task.target.metric}: the other folds have fewer than {MIN_ROWS} rows, too few for "
                    "the intervals of one; choose another metric, or fewer folds"
                )
            yield fold

    def fit(self) -> ClassifierMixin:
        """The estimator, fitted on every row outside the holdout."""
        task = self.task
        if task.plan is not None:
            return external.fit(self.estimator, task)
        options = self._fit_options(np.arange(len(task.y)))
        return cross_validation.fit(self.estimator, task.X, task.y, fitted_rows=task.fitted_rows, **options)

    def predict_holdout(
        self, fitted: Pipeline, folds: Sequence[cross_validation.Fold] = ()
    ) -> Predictions | NumberPredictions | None:
        """As `Task.predict_holdout`; of a table that is read in batches, of the sample with the scores of all rows."""
        if self.task.plan is not None:
            return external.predict_holdout(fitted, self.task, folds)
        return self.task.predict_holdout(fitted, folds)

    def on_sample(self) -> "Experiment":
        """The experiment on the rows that are in memory: the same, unless the table is read in batches."""
        return replace(self, task=replace(self.task, plan=None))

    def _fit_options(self, rows: Indices) -> dict[str, Any]:
        """Options of the estimator's `fit` for training on these rows of the task's X."""
        options: dict[str, Any] = {}
        if self.task.weights is not None:
            options["model__sample_weight"] = self.task.weights[rows]
        rounds, fraction = _early_stopping(self.cfg)
        if rounds is not None:
            parts = self.task.validation_rows(rows, fraction=fraction, seed=self.cfg.seed)
            options["model__early_stopping"] = EarlyStopping(rounds, *parts)
        return options


# Which models were checked in this process, by the types and words of their attributes: the trials of a sweep mostly
# differ in numbers, on which the types that a model holds do not depend.
_checked_kinds: set[frozenset[tuple[str, type, str | None]]] = set()


def _check_types(model: Pipeline) -> None:
    """As `persistence.check_types`, once for each kind of model, fitted or not."""
    parts = model.get_params() | {f"final {name}": value for name, value in vars(model[-1]).items()}
    kind = frozenset((name, type(value), value if isinstance(value, str) else None) for name, value in parts.items())
    if kind not in _checked_kinds:
        persistence.check_types(model)
        _checked_kinds.add(kind)


def assemble(cfg: DictConfig, *, on_sample: bool = False) -> Experiment:
    """Check and build everything that a config names, and load its data.

    With `on_sample` the model need not be one that is trained on batches of rows; see `Experiment.on_sample`.

    Raises
    ------
    UserError
        With every argument that is unknown, missing or of the wrong type; or because the data cannot be loaded or do
        not fit the target or the split; or with every label and column that the model's arguments name in vain.
    """
    parts = build(cfg)
    check_kind(parts["model"], parts["target"])
    _check_early_stopping(cfg, parts["model"])
    faults = own_metric_faults(parts["model"]) + device_faults(parts["model"], device(cfg))
    if not on_sample:
        faults += _external_faults(cfg, parts)
    if faults:
        raise UserError(*faults)
    parts["model"] = on_device(parts["model"], device(cfg))
    task = _task(OmegaConf.to_yaml(OmegaConf.masked_copy(cfg, TASK_KEYS), resolve=True))
    classes = task.classes.tolist()
    if faults := native_faults(parts["feature"], parts["model"]):
        raise UserError(*faults)
    if task.weights is not None and (faults := unweighted_faults(parts["model"])):
        raise UserError(*faults)
    feature = with_dates(suited_to(parts["model"], parts["feature"]), task.dates)
    feature, model, column_faults = bind_columns(feature, parts["model"], task.X, task.y)
    if task.target.is_number:
        if column_faults:
            raise UserError(*column_faults)
        return Experiment(cfg, task, regression.make_pipeline(for_numbers(feature), model, task.target.transform))
    if faults := label_faults(model, classes) + column_faults:
        raise UserError(*faults)
    return Experiment(cfg, task, make_pipeline(feature, model, classes, task.target.cost_matrix(classes)))


def _external_faults(cfg: DictConfig, parts: Mapping[str, Any]) -> list[str]:
    """As `models.external.external_faults`; none where the table is in memory."""
    if (engine := cfg.data.get("engine", MEMORY)) == MEMORY:
        return []
    return missing_packages(engine) + external_faults(
        parts["model"],
        engine=engine,
        early_stopping=_early_stopping(cfg)[0] is not None,
        device=device(cfg),
        transform=parts["target"].transform,
    )


def device(cfg: DictConfig) -> str:
    """Where a config's model is trained; configs of earlier versions do not say it."""
    return str(cfg.get("device") or CPU)


def worker_tags(cfg: DictConfig) -> dict[str, str]:
    """Tags of a run about the workers of a Dask cluster that it is trained on; empty where it is not.

    Raises
    ------
    UserError
        As of `external_dataset.dask_workers`.
    """
    workers = dask_workers(cfg.data.get("engine", MEMORY), cfg.data.get("scheduler"))
    return {} if workers is None else {names.DASK_WORKERS: str(workers.n_workers)}


def _early_stopping(cfg: DictConfig) -> tuple[int | None, float]:
    """After how many rounds boosting stops, and by what part of the rows; configs of earlier versions do not say it."""
    said = cfg.get("early_stopping") or {}
    return said.get("rounds"), said.get("fraction", 0.0)


def _check_early_stopping(cfg: DictConfig, model: ClassifierMixin | RegressorMixin) -> None:
    if faults := early_stopping_faults(model, *_early_stopping(cfg)):
        raise UserError(*faults)


def check_kind(model: ClassifierMixin | RegressorMixin, target: Target, group: str = "model") -> None:
    """Check that a model of a config group predicts what the target is, classes or numbers.

    Raises
    ------
    UserError
        It predicts the other.
    """
    is_of_numbers = is_regressor(model)
    if target.is_number == is_of_numbers or not (is_of_numbers or is_classifier(model)):
        return
    predicts, wanted = ("numbers", "classes") if is_of_numbers else ("classes", "a number")
    key = "model" if group == "model" else f"model@{group}"
    raise UserError(
        f"{group}: a {type(model).__name__} predicts {predicts}, and target.kind={target.kind} wants {wanted}; choose "
        f"another {key}=..., such as forest, extratrees, histgb or xgb, which do both"
    )


def config_faults(cfg: DictConfig) -> list[str]:
    """What keeps a config from being run, as far as it shows without data; empty where nothing does.

    Parameters
    ----------
    cfg : DictConfig
        Hydra's own settings may be in it.
    """
    try:
        parts = build(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]))
        check_kind(parts["model"], parts["target"])
        _check_early_stopping(cfg, parts["model"])
        faults = [*parts["target"].metric_faults(), *own_metric_faults(parts["model"])]
        if faults := faults + device_faults(parts["model"], device(cfg)) + _external_faults(cfg, parts):
            return faults
        if cfg.tracking.uri is not None:
            with trusting(cfg):
                _check_types(Pipeline([("feature", parts["feature"]), ("model", parts["model"])]))
    except UserError as error:
        return list(error.faults)
    return []


@lru_cache(maxsize=1)
def _task(config: str) -> Task:
    """The task of a config, given as YAML; cached, since the trials of a sweep mostly share it."""
    cfg: Any = OmegaConf.create(config)
    parts = build(cfg)
    with notice_if_slow("reading the data ..."):
        dataset = parts["data"]()
    for pin in dataset.pins:
        if not pin.is_pinned:
            log.warning(
                "%s is not pinned, so that nothing tells when it changes; dvc add %s pins it", pin.name, pin.name
            )
    with notice_if_slow(f"splitting {dataset.n_rows:,} rows ..."):
        return make_task(dataset, parts["target"], parts["split"], cfg.holdout)
