"""The record of a run in MLflow: opened, filled and closed with an honest status."""

import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import mlflow
import mlflow.sklearn
import pandas as pd
from matplotlib.figure import Figure
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import LoggedModelStatus, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE
from mlflow.utils.validation import MAX_PARAMS_TAGS_PER_BATCH as BATCH
from sklearn.pipeline import Pipeline

from wineexp.core.errors import UserError
from wineexp.core.signals import received_signals, uninterrupted
from wineexp.data.task import Task
from wineexp.models import persistence
from wineexp.tracking import store
from wineexp.tracking.provenance import LIBRARIES, OPTIONAL

MAX_TAG = 1000


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
            self.uri = store.connect(self.uri)
            mlflow.set_experiment(experiment_id=store.experiment_id(self.uri, self.experiment))
            try:
                with uninterrupted():
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
        status = (
            "FINISHED"
            if kind is None
            else "FAILED"
            if issubclass(kind, Exception) and not received_signals
            else "KILLED"
        )
        with uninterrupted():
            try:
                mlflow.log_artifacts(str(self.folder))
                if error is not None and kind is not None:
                    mlflow.set_tag("error", f"{kind.__name__}: {error}"[:MAX_TAG])
                    mlflow.log_text("".join(traceback.format_exception(error)), "traceback.txt")
                    self._fail_models()
            except Exception:
                # Its record is not whole.
                status = "FAILED" if status == "FINISHED" else status
                raise
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

    def describe(self, text: str) -> None:
        """Say in Markdown what the run is; MLflow shows it above everything else."""
        self.log(tags={MLFLOW_RUN_NOTE: text})

    def log_dataset(self, task: Task, *, name: str) -> None:
        """Record the training rows, under the md5 of the files that they come from."""
        if self.id is None:
            return
        pins = task.dataset.pins
        # MLflow's field for the digest holds 36 characters: one md5 whole, or the beginnings of several.
        digest = pins[0].md5 if len(pins) == 1 else "+".join(pin.md5[: 36 // len(pins) - 1] for pin in pins)
        source = pins[0].source_url or pins[0].name
        with warnings.catch_warnings():
            # MLflow warns that a whole-number column cannot hold missing values; the schema forbids them.
            warnings.filterwarnings("ignore", ".*integer column.*")
            dataset = from_pandas(task.frame, source=source, targets=task.target.column, name=name, digest=digest)
            for again in (True, False):
                try:
                    mlflow.log_input(dataset, context="training", tags={"md5": task.dataset.md5})
                    break
                except MlflowException as error:
                    # MLflow looks whether it knows the data, and then inserts them: of two runs at once one may fail,
                    # and the next time finds them there.
                    if not again or "unique" not in str(error).lower():
                        raise

    def log_figure(self, name: str, figure: Figure) -> None:
        """Record a figure as `figures/<name>.png`."""
        if self.id is not None:
            mlflow.log_figure(figure, f"figures/{name}.png")

    def log_model(self, model: Pipeline, X: pd.DataFrame, files: Mapping[str, str | bytes] | None = None) -> str | None:
        """Store a fitted pipeline without pickle, with a signature inferred from X (n_samples, n_features).

        Parameters
        ----------
        model : Pipeline
        X : DataFrame
        files : mapping of str to str or bytes, optional
            What to store with it, by name, below `seal.EXTRA`.

        Returns
        -------
        str or None
            The id of MLflow's logged model; None where nothing is recorded.

        Raises
        ------
        UserError
            The model holds a type that is not in `artifact.TRUSTED_TYPES`.
        """
        if self.id is None:
            return None
        with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
            extra = [Path(name) / file for file in files or {}]
            for path in extra:
                content = (files or {})[path.name]
                path.write_bytes(content.encode() if isinstance(content, str) else content)
            warnings.filterwarnings("ignore", ".*integer column.*")
            used = [*LIBRARIES, *(library for library in OPTIONAL if library in sys.modules)]
            try:
                stored = mlflow.sklearn.log_model(
                    model,
                    name="model",
                    signature=infer_signature(X, model.predict(X)),
                    serialization_format="skops",
                    skops_trusted_types=persistence.TRUSTED_TYPES,
                    pip_requirements=[f"{library}=={version(library)}" for library in used],
                    extra_files=[str(path) for path in extra],
                )
            except MlflowException as error:
                if (told := persistence.untrusted(str(error))) is None:
                    raise
                raise UserError(told) from error
        kept = mlflow.MlflowClient().list_logged_model_artifacts(stored.model_id)
        self.log(
            metrics={"model/bytes": sum(file.file_size or 0 for file in kept if file.path == persistence.MODEL_FILE)}
        )
        return str(stored.model_id)

    def _fail_models(self) -> None:
        """Mark models as failed that were being stored: MLflow leaves them pending for good after Ctrl-C."""
        client = mlflow.MlflowClient()
        experiment = client.get_run(str(self.id)).info.experiment_id
        for model in client.search_logged_models([experiment], f"source_run_id = '{self.id}'"):
            if model.status == LoggedModelStatus.PENDING:
                client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)
