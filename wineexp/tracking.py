"""The record of a run in MLflow: opened, filled and closed with an honest status."""

import fcntl
import os
import signal
import sqlite3
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

# Read by MLflow when it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")

import mlflow
import mlflow.sklearn
import pandas as pd
from matplotlib.figure import Figure
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow.utils.validation import MAX_PARAMS_TAGS_PER_BATCH as BATCH
from omegaconf import DictConfig, ListConfig
from sklearn.pipeline import Pipeline
from sqlalchemy import Engine, event

from wineexp.errors import UserError
from wineexp.pin import ROOT
from wineexp.problem import Problem

# What a model may be made of besides scikit-learn's and numpy's public types. A type that is not listed is neither
# written nor loaded.
TRUSTED_TYPES = [
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.compose._column_transformer.make_column_selector",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.model_selection._split.RepeatedStratifiedKFold",
    "sklearn.model_selection._split.StratifiedKFold",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
    "wineexp.feature.QuantileClipper",
    "wineexp.feature.Ratios",
    "wineexp.feature.SkewedLog",
    "wineexp.model.FixedClassesClassifier",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
]

MAX_TAG = 1000

# Libraries that a stored model is loaded with. Inferring them would cost MLflow seconds.
MODEL_LIBRARIES = ("mlflow", "numpy", "pandas", "scikit-learn", "scipy", "skops", "xgboost")


def leaves(cfg: DictConfig) -> dict[str, Any]:
    """Every leaf of a config by its dotted key, as it is spelled on the command line."""
    found: dict[str, Any] = {}

    def walk(key: str, node: Any) -> None:
        if isinstance(node, DictConfig | ListConfig) and len(node):
            items = node.items() if isinstance(node, DictConfig) else enumerate(node)
            for child, value in items:
                walk(f"{key}.{child!s}" if key else str(child), value)
        else:
            found[key] = node

    walk("", cfg)
    return found


def connect(uri: str) -> str:
    """Point MLflow at a tracking store, making a local one that is missing; `MLFLOW_TRACKING_URI` wins.

    Returns
    -------
    str
        The URI that is used.

    Raises
    ------
    UserError
        The store cannot be reached or opened.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or uri
    try:
        if uri.startswith("sqlite:///"):
            database = ROOT / uri.removeprefix("sqlite:///")
            uri = f"sqlite:///{database}"
            mlflow.set_tracking_uri(uri)
            _create(database)
        else:
            if uri.startswith(("http://", "https://")):
                _knock(uri)
            mlflow.set_tracking_uri(uri)
    except (OSError, sqlite3.Error, MlflowException) as error:
        raise UserError(
            f"tracking.uri={uri}: the store cannot be opened: {str(error).splitlines()[0]}; start it, name another "
            "one, or record nothing with tracking=off"
        ) from error
    return uri


@event.listens_for(Engine, "connect")
def _spare_the_disk(connection: Any, _: Any) -> None:
    """Wait for the disk at checkpoints, not at every commit, which was most of the cost of a short run's record.

    In WAL mode a crash of the machine may then cost the last commits; a killed process none, and neither the database.
    """
    if isinstance(connection, sqlite3.Connection):
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        if mode == "wal":
            connection.execute("PRAGMA synchronous=NORMAL")
            # Milliseconds that a writer waits for another one's turn to end.
            connection.execute("PRAGMA busy_timeout=30000")


def _create(database: Path) -> None:
    """Make and migrate the database once: two processes that do it at the same time would break each other."""
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_name(f"{database.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with sqlite3.connect(database) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
        mlflow.search_experiments(max_results=1)


def _knock(uri: str) -> None:
    """Fail at once where nothing listens; MLflow itself would go on trying for minutes."""
    import socket

    parts = urlsplit(uri)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    socket.create_connection((parts.hostname or "", port), timeout=5).close()


class Run:
    """A run in MLflow, as a context manager.

    Left in good order it is FINISHED, by an exception FAILED, by Ctrl-C or SIGTERM KILLED.

    Parameters
    ----------
    uri : str or None
        The tracking store; None records nothing.
    experiment, name : str
    tags : mapping of str to str
    folder : Path
        Its files become artifacts at the end, whatever the end is.
    parent : str or None
        Id of the run that this one belongs to.

    Attributes
    ----------
    id : str or None
        MLflow's run id; None where nothing is recorded.
    uri : str or None
        The store in use.
    """

    def __init__(
        self,
        uri: str | None,
        experiment: str,
        name: str,
        tags: Mapping[str, str],
        folder: Path,
        parent: str | None = None,
    ) -> None:
        self.uri = uri
        self.experiment = experiment
        self.name = name
        self.tags = dict(tags)
        self.folder = folder
        self.parent = parent
        self.id: str | None = None

    def __enter__(self) -> Self:
        if self.uri is not None:
            self.uri = connect(self.uri)
            mlflow.set_experiment(experiment_id=experiment_id(self.uri, self.experiment))
            try:
                with _uninterrupted():
                    self.id = mlflow.start_run(
                        run_name=self.name, tags=self.tags, parent_run_id=self.parent
                    ).info.run_id
            except BaseException as error:
                self.__exit__(type(error), error, error.__traceback__)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.id is None:
            return
        status = "FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED"
        with _uninterrupted():
            try:
                mlflow.log_artifacts(str(self.folder))
                if error is not None and kind is not None:
                    mlflow.set_tag("error", f"{kind.__name__}: {error}"[:MAX_TAG])
                    mlflow.log_text("".join(traceback.format_exception(error)), "traceback.txt")
            finally:
                mlflow.end_run(status)

    def log(
        self,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float | Sequence[float]] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Record parameters, metrics and tags, a sequence as one metric over steps, in as few requests as can be."""
        if self.id is None:
            return
        now = int(time.time() * 1000)
        parameters = [Param(key, str(value)) for key, value in (params or {}).items()]
        labels = [RunTag(key, value) for key, value in (tags or {}).items()]
        figures = [
            Metric(key, value, now, step)
            for key, values in (metrics or {}).items()
            for step, value in enumerate(values if isinstance(values, Sequence) else [values])
        ]
        client = mlflow.MlflowClient()
        for start in range(0, max(len(parameters), len(labels), len(figures)), BATCH):
            some = slice(start, start + BATCH)
            client.log_batch(self.id, metrics=figures[some], params=parameters[some], tags=labels[some])

    def log_dataset(self, problem: Problem, *, name: str) -> None:
        """Record the training rows, under the md5 of the files that they come from."""
        if self.id is None:
            return
        pins = problem.dataset.pins
        # MLflow's field for the digest holds 36 characters: one md5 whole, or the beginnings of several.
        digest = pins[0].md5 if len(pins) == 1 else "+".join(pin.md5[: 36 // len(pins) - 1] for pin in pins)
        source = pins[0].source_url or pins[0].name
        with warnings.catch_warnings():
            # MLflow warns that a whole-number column cannot hold missing values; the schema forbids them.
            warnings.filterwarnings("ignore", ".*integer column.*")
            dataset = from_pandas(problem.frame, source=source, targets=problem.target.column, name=name, digest=digest)
            mlflow.log_input(dataset, context="training", tags={"md5": problem.dataset.md5})

    def log_figure(self, name: str, figure: Figure) -> None:
        """Record a figure as `figures/<name>.png`."""
        if self.id is not None:
            mlflow.log_figure(figure, f"figures/{name}.png")

    def log_model(self, model: Pipeline, X: pd.DataFrame) -> None:
        """Store a fitted pipeline without pickle, with a signature inferred from X (n_samples, n_features).

        Raises
        ------
        UserError
            The model holds a type that is not in `TRUSTED_TYPES`.
        """
        if self.id is None:
            return
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*integer column.*")
            signature = infer_signature(X, model.predict(X))
        try:
            mlflow.sklearn.log_model(
                model,
                name="model",
                signature=signature,
                serialization_format="skops",
                skops_trusted_types=TRUSTED_TYPES,
                pip_requirements=[f"{library}=={version(library)}" for library in MODEL_LIBRARIES],
            )
        except MlflowException as error:
            if "untrusted" not in str(error).lower():
                raise
            raise UserError(
                f"the model holds types that wineexp.tracking.TRUSTED_TYPES does not list: {error}"
            ) from error


def experiment_id(uri: str, name: str) -> str:
    """Id of the experiment, made where it is missing."""
    found = mlflow.get_experiment_by_name(name)
    if found is None:
        # Beside the database, wherever the command was started; a server has a place of its own.
        database = Path(uri.removeprefix("sqlite:///"))
        location = (database.parent / "mlruns" / name).as_uri() if uri.startswith("sqlite:///") else None
        try:
            return str(mlflow.create_experiment(name, artifact_location=location))
        except MlflowException:
            # Another process was faster.
            found = mlflow.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise UserError(f"experiment {name} was deleted in MLflow; bring it back with `mlflow experiments restore`")
    return str(found.experiment_id)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put off Ctrl-C and SIGTERM until the end of the block; they never arrive in threads other than the main one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[int] = []
    previous = {
        number: signal.signal(number, lambda number, _: pending.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    for late in pending:
        signal.raise_signal(late)
