"""One recorded run, and what is read back from it."""

import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from wineexp.core.config import config_sha256
from wineexp.core.errors import UserError
from wineexp.tracking import _mlflow, names, store


@dataclass(frozen=True)
class RecordedRun:
    """One recorded run.

    Attributes
    ----------
    id, name, experiment, status : str
    params, tags : dict of str to str
    metrics : dict of str to float
        The last value of each.
    began, ended : int or None
        Milliseconds since the epoch.
    model_id : str or None
        MLflow's id of the model that it stored.
    """

    id: str
    name: str
    experiment: str
    status: str
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]
    began: int | None
    ended: int | None
    model_id: str | None

    @property
    def parent(self) -> str | None:
        """The id of the study's run that this is a trial of."""
        return self.tags.get(_mlflow.PARENT_RUN_ID)

    @property
    def metric(self) -> str | None:
        """Name of the deciding metric; None of a run that scored nothing, such as a study's own."""
        return self.tags.get(names.DECIDING_METRIC)

    def fold_scores(self, name: str) -> npt.NDArray[np.float64]:
        """The scores of one metric in the order of the folds: (n_folds,), empty where it was not recorded."""
        history = mlflow.MlflowClient().get_metric_history(self.id, f"fold/{name}")
        return np.array([point.value for point in sorted(history, key=lambda point: point.step)])

    def config(self) -> DictConfig:
        """The composed config, verified by the digest that was recorded beside it.

        Raises
        ------
        UserError
            The run has no config, or another one than it was recorded with.
        """
        recorded = self.tags.get(names.CONFIG_SHA256)
        content = self.read(names.CONFIG_FILE)
        if content is None or recorded is None:
            why = "it was not recorded by train" if recorded is None else "it was deleted"
            raise UserError(f"run {self.id} ({self.name}) has no {names.CONFIG_FILE} that can be verified; {why}")
        try:
            cfg: Any = OmegaConf.create(content.decode())
            digest = config_sha256(cfg)
        # The file is no config at all: no text, no YAML, a list.
        except (ValueError, TypeError, YAMLError, OmegaConfBaseException):
            digest = None
        if digest != recorded:
            raise UserError(
                f"{names.CONFIG_FILE} of run {self.id} is not the config that the run was recorded with: its digest "
                f"differs from the tag {names.CONFIG_SHA256}={recorded}; nothing is built from it"
            )
        return cast(DictConfig, cfg)

    def predictions(self) -> pd.DataFrame | None:
        """The table that `Task.predictions_table` made; None where the run recorded none, like a sweep's trial.

        Raises
        ------
        UserError
            The artifact is no Parquet file, or not of that table.
        """
        content = self.read(names.PREDICTIONS_FILE)
        if content is None:
            return None
        try:
            table = pd.read_parquet(io.BytesIO(content))
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{names.PREDICTIONS_FILE} of run {self.id} cannot be read: {reason}") from error
        if [str(table.dtypes.get(name)) for name in ("fold", "row")] != ["int64", "int64"]:
            raise UserError(f"{names.PREDICTIONS_FILE} of run {self.id} has no whole-number columns fold and row")
        return table

    def importance(self) -> pd.DataFrame | None:
        """Drops of the deciding metric: one row a feature, one column a repeat; None where none were recorded."""
        content = self.read(names.IMPORTANCE_FILE)
        return None if content is None else pd.read_csv(io.BytesIO(content), index_col="feature")

    def read(self, name: str) -> bytes | None:
        """The bytes of one artifact; None where there is no such artifact.

        Raises
        ------
        UserError
            The folder with all artifacts of the run's experiment is gone.
        """
        client = mlflow.MlflowClient()
        folder, _, _ = name.rpartition("/")
        if name not in {file.path for file in client.list_artifacts(self.id, folder or None)}:
            # MLflow lists no artifacts where there is no folder, and a run that wrote none has no folder of its own.
            files = store.local_path(str(client.get_run(self.id).info.artifact_uri))
            if files is not None and not (experiment_files := files.parent.parent).exists():
                raise UserError(
                    f"run {self.id} keeps its files in {files}, but there is no {experiment_files}: it was deleted or "
                    "moved, or a disk is not mounted; bring it back, or move it beside the database, where it is found"
                )
            return None
        with tempfile.TemporaryDirectory() as scratch:
            return Path(client.download_artifacts(self.id, name, scratch)).read_bytes()
