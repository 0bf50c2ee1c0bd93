"""The record of a run in MLflow: opened, filled and closed with an honest status."""

import logging
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import mlflow
import mlflow.sklearn
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import LoggedModelStatus, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from sklearn.pipeline import Pipeline

from wineexp.core.addresses import without_credentials
from wineexp.core.errors import UserError
from wineexp.core.signals import never_interrupted, received_signals, uninterrupted
from wineexp.data.task import Task
from wineexp.models import persistence
from wineexp.tracking import _mlflow, names, store
from wineexp.tracking.provenance import LIBRARIES, OPTIONAL_LIBRARIES

log = logging.getLogger(__name__)

MAX_ERROR_CHARS = 1000

# Rows that are predicted to learn the type of what a model predicts.
SIGNATURE_ROWS = 100
# Rows that show the types of columns, beside those that lack a value.
TYPE_ROWS = 1000

# MLflow's field for the digest of a data set.
MAX_DIGEST_CHARS = 36


class Run:
    """A run in MLflow, as a context manager.

    Its status is FINISHED at the end of the block, FAILED after an exception, KILLED after Ctrl-C or SIGTERM.

    Parameters
    ----------
    uri : str or None
        The tracking store; None records nothing.
    experiment, name : str
    tags : mapping of str to str
    folder : Path
        For the files that the run writes; other files in it are none of the run's.
    parent : str or None
        Id of the study's run that this one is a trial of.
    files : iterable of Path
        Files that Hydra and the log write for it. They become artifacts at the end, however the run ends.

    Attributes
    ----------
    id : str or None
        MLflow's run id; None where nothing is recorded.
    uri : str or None
        The store that is used.
    """

    def __init__(
        self,
        uri: str | None,
        experiment: str,
        name: str,
        tags: Mapping[str, str],
        folder: Path,
        parent: str | None = None,
        files: Iterable[Path] = (),
    ) -> None:
        self.uri = uri
        self.experiment = experiment
        self.name = name
        self.tags = {key: without_credentials(value) for key, value in tags.items()}
        self.folder = folder
        self.parent = parent
        self.id: str | None = None
        self.experiment_id = ""
        self._files = list(files)

    def __enter__(self) -> Self:
        if self.uri is not None:
            self.uri = store.connect(self.uri)
            self.experiment_id = store.experiment_id(self.uri, self.experiment)
            mlflow.set_experiment(experiment_id=self.experiment_id)
            try:
                with uninterrupted():
                    self.id = mlflow.start_run(
                        run_name=self.name, tags=self.tags, parent_run_id=self.parent
                    ).info.run_id
            except BaseException as error:
                self.__exit__(type(error), error, error.__traceback__)
                raise
        return self

    @never_interrupted
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
                self._log_files()
                if error is not None and kind is not None:
                    message = without_credentials(f"{kind.__name__}: {error}")
                    mlflow.set_tag(names.ERROR, message[:MAX_ERROR_CHARS])
                    trace_text = "".join(traceback.format_exception(error))
                    mlflow.log_text(without_credentials(trace_text), "traceback.txt")
                    self._fail_models()
            except Exception:
                # The record is incomplete.
                status = "FAILED" if status == "FINISHED" else status
                raise
            finally:
                try:
                    mlflow.end_run(status)
                except Exception as failure:
                    log.error("run %s could not be closed as %s: %s", self.id, status, str(failure).splitlines()[0])
                    raise

    def file(self, name: str) -> Path:
        """Where the run writes a file of this name, which becomes an artifact at the end, however the run ends."""
        path = self.folder / name
        self._files.append(path)
        return path

    def _log_files(self) -> None:
        for path in filter(Path.is_file, self._files):
            folder = path.parent.relative_to(self.folder) if path.is_relative_to(self.folder) else Path()
            mlflow.log_artifact(str(path), folder.as_posix() if folder.parts else None)

    def log_file(self, name: str, content: str | bytes) -> None:
        """Record an artifact at once, by its path among the artifacts; nothing is written to the folder."""
        if self.id is None:
            return
        folder, _, file = name.rpartition("/")
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / file
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            mlflow.log_artifact(str(path), folder or None)

    def log_path(self, path: Path, folder: str) -> None:
        """Record a file, which may be large, at once, in a folder among the artifacts."""
        if self.id is not None:
            mlflow.log_artifact(str(path), folder)

    def how_to_view(self) -> str:
        """How to see the runs of its experiment; see `store.how_to_view`."""
        return store.how_to_view(str(self.uri), self.experiment_id)

    def log(
        self,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float | Sequence[float]] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Record parameters, metrics and tags in as few requests as possible; a sequence is one metric over steps."""
        if self.id is None:
            return
        now_ms = int(time.time() * 1000)
        mlflow_params = [Param(key, without_credentials(str(value))) for key, value in (params or {}).items()]
        mlflow_tags = [RunTag(key, without_credentials(value)) for key, value in (tags or {}).items()]
        mlflow_metrics = [
            Metric(key, value, now_ms, step)
            for key, values in (metrics or {}).items()
            for step, value in enumerate(values if isinstance(values, Sequence) else [values])
        ]
        client, size = mlflow.MlflowClient(), _mlflow.MAX_PARAMS_TAGS_PER_BATCH
        for start in range(0, max(len(mlflow_params), len(mlflow_tags), len(mlflow_metrics)), size):
            batch = slice(start, start + size)
            client.log_batch(
                self.id, metrics=mlflow_metrics[batch], params=mlflow_params[batch], tags=mlflow_tags[batch]
            )

    def describe(self, text: str) -> None:
        """Describe the run in Markdown; MLflow shows the text above everything else."""
        self.log(tags={_mlflow.NOTE: text})

    def log_dataset(self, task: Task, *, name: str) -> None:
        """Record the training rows, under the md5 of the files that they come from."""
        if self.id is None:
            return
        pins = task.dataset.pins
        # One md5 fits into MLflow's field, of several data files the beginnings do.
        digest = "+".join(pin.md5[: MAX_DIGEST_CHARS // len(pins) - 1] for pin in pins)
        source = pins[0].source_url or pins[0].name
        with _mlflow.ignore_harmless_hints():
            said = {"source": source, "targets": task.target.column, "name": name, "digest": digest}
            dataset = from_pandas(task.frame, **said)
            # MLflow looks at every value for what some rows show as well.
            dataset.schema = from_pandas(typical_rows(task.frame), **said).schema
            try:
                mlflow.log_input(dataset, context="training", tags={"md5": task.dataset.md5})
            except MlflowException as error:
                # MLflow looks whether it knows the data, and then inserts them: of two runs at once one may fail, and
                # finds them when it looks again.
                if not _mlflow.is_insertion_race(error):
                    raise
                mlflow.log_input(dataset, context="training", tags={"md5": task.dataset.md5})

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
            What to store with it, by name, in the folder `manifest.EXTRA_FOLDER`.

        Returns
        -------
        str or None
            The id of MLflow's logged model; None where nothing is recorded.

        Raises
        ------
        UserError
            The model holds a type that is not trusted; see `persistence.trusted_types`.
        """
        if self.id is None:
            return None
        with (
            tempfile.TemporaryDirectory() as scratch,
            _mlflow.ignore_harmless_hints(),
            _mlflow.without_environment_check(),
        ):
            extra_files = []
            for file, content in (files or {}).items():
                path = Path(scratch) / file
                path.write_bytes(content.encode() if isinstance(content, str) else content)
                extra_files.append(str(path))
            libraries = [*LIBRARIES, *(library for library in OPTIONAL_LIBRARIES if library in sys.modules)]
            try:
                stored = mlflow.sklearn.log_model(
                    model,
                    name="model",
                    signature=infer_signature(typical_rows(X), model.predict(X.head(SIGNATURE_ROWS))),
                    serialization_format="skops",
                    skops_trusted_types=persistence.trusted_types(),
                    pip_requirements=[f"{library}=={version(library)}" for library in libraries],
                    extra_files=extra_files,
                )
            except MlflowException as error:
                if (message := persistence.untrusted_types_message(str(error))) is None:
                    raise
                raise UserError(message) from error
        artifacts = mlflow.MlflowClient().list_logged_model_artifacts(stored.model_id)
        size = sum(file.file_size or 0 for file in artifacts if file.path == persistence.MODEL_FILE)
        self.log(metrics={names.MODEL_BYTES: size})
        return str(stored.model_id)

    def _fail_models(self) -> None:
        """Mark models that were being stored as failed: after Ctrl-C MLflow would leave them pending for good."""
        client = mlflow.MlflowClient()
        experiment = client.get_run(str(self.id)).info.experiment_id
        for model in client.search_logged_models([experiment], f"source_run_id = '{self.id}'"):
            if model.status == LoggedModelStatus.PENDING:
                client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)


def typical_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows that show the type of each column, and whether values are missing: the first ones, and one that lacks it."""
    missing = frame.isna().to_numpy()
    lacking = missing.argmax(axis=0)[missing.any(axis=0)]
    return frame.iloc[np.union1d(np.arange(min(TYPE_ROWS, len(frame))), lacking)]
