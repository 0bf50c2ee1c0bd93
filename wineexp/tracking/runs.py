"""Recorded runs: found by id, version, alias, study or experiment, and read back."""

import io
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.entities import Run as MlflowRun
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from wineexp.core.config import config_sha256
from wineexp.core.errors import UserError, did_you_mean
from wineexp.tracking import _mlflow, names, store

MAX_RUNS_PER_REQUEST = 1000

# Characters of a run's id that tables show, and that are enough to name it.
SHORT_ID = 8


@dataclass(frozen=True)
class Record:
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
        """The bytes of one artifact; None where there is no such artifact."""
        client = mlflow.MlflowClient()
        folder, _, _ = name.rpartition("/")
        if name not in {file.path for file in client.list_artifacts(self.id, folder or None)}:
            return None
        with tempfile.TemporaryDirectory() as scratch:
            return Path(client.download_artifacts(self.id, name, scratch)).read_bytes()


class Runs:
    """The runs of a tracking store.

    Parameters
    ----------
    uri : str
        `MLFLOW_TRACKING_URI` wins.
    registry : str
        Name of the registered model that aliases and versions belong to.

    Raises
    ------
    UserError
        The store cannot be reached or opened.
    """

    def __init__(self, uri: str, registry: str) -> None:
        self.uri = store.connect(uri)
        self.registry = registry
        self._client = mlflow.MlflowClient()
        self._experiments = {
            experiment.experiment_id: experiment.name for experiment in self._client.search_experiments()
        }

    def get(self, word: str) -> Record:
        """The run of an id, an alias or a version, or the best trial of a study of this name.

        Raises
        ------
        UserError
            There is none, or the word names a whole experiment.
        """
        if (record := self._single(word)) is not None:
            return record
        if studies := self._studies(word):
            return self.best_trial(studies[0])
        raise self._unknown(word)

    def select(self, word: str) -> list[Record]:
        """The run of an id, an alias or a version; all trials of a study; or all runs of an experiment.

        Raises
        ------
        UserError
            The word names nothing.
        """
        if (record := self._single(word)) is not None:
            return [record]
        if studies := self._studies(word):
            return [trial for study in studies for trial in self.trials(study)]
        if word in self._experiments.values():
            return self._search([key for key, name in self._experiments.items() if name == word])
        raise self._unknown(word)

    def select_scored(self, word: str) -> list[Record]:
        """Of the runs that `select` gives those that are finished and have the deciding metric.

        Raises
        ------
        UserError
            The word names nothing.
        """
        return [
            record
            for record in self.select(word)
            if record.status == "FINISHED" and f"cv/{record.metric}" in record.metrics
        ]

    def with_tag(self, name: str) -> list[Record]:
        """The finished runs that have a tag of this name."""
        records = self._search(list(self._experiments), f"tags.`{name}` != ''")
        return [record for record in records if record.status == "FINISHED"]

    def trials(self, study: Record) -> list[Record]:
        """The runs of a study's trials, the latest first."""
        return self._search(list(self._experiments), f"tags.`{_mlflow.PARENT_RUN_ID}` = '{study.id}'")

    def best_trial(self, study: Record) -> Record:
        """The run of a study's best trial.

        Raises
        ------
        UserError
            The study has none yet.
        """
        best = study.tags.get(names.BEST_TRIAL)
        for record in self.trials(study):
            if best is not None and record.tags.get(names.TRIAL) == best:
                return record
        raise UserError(f"study {study.name} has no best trial that is recorded in {self.uri}")

    def experiments(self) -> list[str]:
        """Names of all experiments that hold runs."""
        return [name for key, name in self._experiments.items() if self._client.search_runs([key], max_results=1)]

    def _single(self, word: str) -> Record | None:
        """The run of this id, version or alias."""
        if re.fullmatch("[0-9a-f]{32}", word):
            return self._by_id(word, f"run={word}: {self.uri} has no run of this id")
        try:
            if word.isdecimal():
                version = self._client.get_model_version(self.registry, word)
            else:
                version = self._client.get_model_version_by_alias(self.registry, word)
        except MlflowException:
            return self._by_id_prefix(word)
        if not version.run_id:
            return None
        return self._by_id(
            version.run_id,
            f"version {version.version} of {self.registry} is of run {version.run_id}, which {self.uri} no longer has",
        )

    def _by_id(self, run_id: str, fault: str) -> Record:
        try:
            return self._read(self._client.get_run(run_id))
        except MlflowException as error:
            if not _mlflow.is_missing(error):
                raise
            raise UserError(fault) from error

    def _by_id_prefix(self, word: str) -> Record | None:
        """The run whose id starts with at least as many digits as a ranking shows."""
        if not re.fullmatch(f"[0-9a-f]{{{SHORT_ID},31}}", word):
            return None
        records = self._search(list(self._experiments), f"attributes.run_id LIKE '{word}%'")
        if len(records) > 1:
            ids = ", ".join(record.id for record in records)
            raise UserError(f"run={word}: the ids of {len(records)} runs begin so: {ids}")
        return records[0] if records else None

    def _studies(self, name: str) -> list[Record]:
        quoted = name.replace("'", "\\'")
        return self._search(list(self._experiments), f"tags.{names.STUDY} = '{quoted}'")

    def _search(self, experiments: list[str], condition: str = "") -> list[Record]:
        return [self._read(run) for run in self._pages(experiments, condition)]

    def _pages(self, experiments: list[str], condition: str) -> Iterator[MlflowRun]:
        token: str | None = None
        while True:
            page = self._client.search_runs(
                experiments, condition, ViewType.ACTIVE_ONLY, max_results=MAX_RUNS_PER_REQUEST, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def _read(self, run: MlflowRun) -> Record:
        return Record(
            id=run.info.run_id,
            name=run.info.run_name or "",
            # A deleted experiment is not listed, although its runs can still be read by their ids.
            experiment=self._experiments.get(run.info.experiment_id, ""),
            status=run.info.status,
            params=dict(run.data.params),
            tags=dict(run.data.tags),
            metrics=dict(run.data.metrics),
            began=run.info.start_time,
            ended=run.info.end_time,
            model_id=_mlflow.stored_model_id(run),
        )

    def _unknown(self, word: str) -> UserError:
        try:
            registered = self._client.get_registered_model(self.registry)
            aliases = list(registered.aliases)
        except MlflowException:
            aliases = []
        runs = self._pages(list(self._experiments), f"tags.{names.STUDY} != ''")
        studies = {run.data.tags[names.STUDY] for run in runs}
        known = [*aliases, *sorted(studies), *self.experiments()]
        return UserError(
            f"{word}: {self.uri} has no run id, version or alias of {self.registry}, study or experiment of this name; "
            f"{did_you_mean(word, known)}"
        )
