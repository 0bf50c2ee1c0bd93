"""Recorded runs, found again by whatever names them, and read back."""

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
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from wineexp.core.config import config_sha256
from wineexp.core.errors import UserError, did_you_mean
from wineexp.tracking import store

# Runs a request.
PAGE = 1000

# Characters of a run's id that tables show, and that are enough to name it.
SHORT_ID = 8

# The tag of a promotion's run that names the run which it promotes.
SOURCE = "source.run_id"


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
        return self.tags.get(MLFLOW_PARENT_RUN_ID)

    @property
    def metric(self) -> str | None:
        """Name of the deciding metric; None of a run that scored nothing, a study's own say."""
        return self.tags.get("deciding_metric")

    def fold_scores(self, name: str) -> npt.NDArray[np.float64]:
        """The scores of one metric in the order of the folds: (n_folds,), empty where it was not recorded."""
        history = mlflow.MlflowClient().get_metric_history(self.id, f"fold/{name}")
        return np.array([point.value for point in sorted(history, key=lambda point: point.step)])

    def config(self) -> DictConfig:
        """The composed config, held against the digest that was recorded beside it.

        Raises
        ------
        UserError
            The run has no config, or another one than it was recorded with.
        """
        recorded = self.tags.get("config.sha256")
        text = self.read("config.yaml")
        if text is None or recorded is None:
            why = "it was not recorded by train" if recorded is None else "it was deleted"
            raise UserError(f"run {self.id} ({self.name}) has no config.yaml that can be verified; {why}")
        try:
            cfg: Any = OmegaConf.create(text.decode())
            found = config_sha256(cfg)
        # What is not even a config: no text, no YAML, a list.
        except (ValueError, TypeError, YAMLError, OmegaConfBaseException):
            found = None
        if found != recorded:
            raise UserError(
                f"config.yaml of run {self.id} is not the config that the run was recorded with: its digest differs "
                f"from the tag config.sha256={recorded}; nothing is built from it"
            )
        return cast(DictConfig, cfg)

    def predictions(self) -> pd.DataFrame | None:
        """The table that `Task.predictions_table` made; None where the run recorded none, as a sweep's trial.

        Raises
        ------
        UserError
            The artifact is no Parquet file, or not of that table.
        """
        content = self.read("predictions.parquet")
        if content is None:
            return None
        try:
            table = pd.read_parquet(io.BytesIO(content))
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"predictions.parquet of run {self.id} cannot be read: {reason}") from error
        if [str(table.dtypes.get(name)) for name in ("fold", "row")] != ["int64", "int64"]:
            raise UserError(f"predictions.parquet of run {self.id} has no whole-number columns fold and row")
        return table

    def importance(self) -> pd.DataFrame | None:
        """Drops of the deciding metric: one row a feature, one column a repeat; None where none were recorded."""
        content = self.read("importance.csv")
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
        self._experiments = {each.experiment_id: each.name for each in self._client.search_experiments()}

    def one(self, word: str) -> Record:
        """The run behind a run id, an alias, a version, or a study's name, whose winner it then is.

        Raises
        ------
        UserError
            The word names nothing, or a whole experiment.
        """
        if (record := self._named(word)) is not None:
            return record
        if study := self._study(word):
            return self.winner(study[0])
        raise self._unknown(word)

    def many(self, word: str) -> list[Record]:
        """The finished runs `behind` a word that scored something.

        Raises
        ------
        UserError
            The word names nothing.
        """
        return [
            record
            for record in self.behind(word)
            if record.status == "FINISHED" and f"cv/{record.metric}" in record.metrics
        ]

    def behind(self, word: str) -> list[Record]:
        """All runs behind a word, however they ended: as `one`, and of a study its trials, of an experiment all.

        Raises
        ------
        UserError
            The word names nothing.
        """
        if (record := self._named(word)) is not None:
            return [record]
        if study := self._study(word):
            return [run for each in study for run in self.children(each)]
        if word in self._experiments.values():
            return self._search([key for key, name in self._experiments.items() if name == word])
        raise self._unknown(word)

    def tagged(self, name: str) -> list[Record]:
        """The finished runs that have a tag of this name."""
        found = self._search(list(self._experiments), f"tags.`{name}` != ''")
        return [record for record in found if record.status == "FINISHED"]

    def children(self, study: Record) -> list[Record]:
        """The runs of a study's trials, the latest first."""
        return self._search(list(self._experiments), f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{study.id}'")

    def winner(self, study: Record) -> Record:
        """The run of a study's best trial.

        Raises
        ------
        UserError
            The study has none yet.
        """
        best = study.tags.get("best_trial")
        for record in self.children(study):
            if best is not None and record.tags.get("trial") == best:
                return record
        raise UserError(f"study {study.name} has no best trial that is recorded in {self.uri}")

    def experiments(self) -> list[str]:
        """Names of all experiments that hold runs."""
        return [name for key, name in self._experiments.items() if self._client.search_runs([key], max_results=1)]

    def _named(self, word: str) -> Record | None:
        """The run of this id, or behind this version or alias."""
        if re.fullmatch("[0-9a-f]{32}", word):
            return self._get(word, f"run={word}: {self.uri} has no run of this id")
        try:
            if word.isdecimal():
                version = self._client.get_model_version(self.registry, word)
            else:
                version = self._client.get_model_version_by_alias(self.registry, word)
        except MlflowException:
            return self._begun(word)
        if not version.run_id:
            return None
        return self._get(
            version.run_id,
            f"version {version.version} of {self.registry} is of run {version.run_id}, which {self.uri} has no more",
        )

    def _get(self, run_id: str, otherwise: str) -> Record:
        try:
            return self._read(self._client.get_run(run_id))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise UserError(otherwise) from error

    def _begun(self, word: str) -> Record | None:
        """The run whose id begins so; as many digits are wanted as a ranking shows."""
        if not re.fullmatch(f"[0-9a-f]{{{SHORT_ID},31}}", word):
            return None
        found = self._search(list(self._experiments), f"attributes.run_id LIKE '{word}%'")
        if len(found) > 1:
            raise UserError(f"run={word}: the ids of {len(found)} runs begin so: {', '.join(run.id for run in found)}")
        return found[0] if found else None

    def _study(self, name: str) -> list[Record]:
        quoted = name.replace("'", "\\'")
        return self._search(list(self._experiments), f"tags.study = '{quoted}'")

    def _search(self, experiments: list[str], condition: str = "") -> list[Record]:
        return [self._read(run) for run in self._pages(experiments, condition)]

    def _pages(self, experiments: list[str], condition: str) -> Iterator[MlflowRun]:
        token: str | None = None
        while True:
            page = self._client.search_runs(
                experiments, condition, ViewType.ACTIVE_ONLY, max_results=PAGE, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def _read(self, run: MlflowRun) -> Record:
        outputs: Any = run.outputs
        models = outputs.model_outputs if outputs else []
        return Record(
            id=run.info.run_id,
            name=run.info.run_name or "",
            # One that was deleted with its runs is not listed.
            experiment=self._experiments.get(run.info.experiment_id, ""),
            status=run.info.status,
            params=dict(run.data.params),
            tags=dict(run.data.tags),
            metrics=dict(run.data.metrics),
            began=run.info.start_time,
            ended=run.info.end_time,
            model_id=models[0].model_id if models else None,
        )

    def _unknown(self, word: str) -> UserError:
        try:
            registered = self._client.get_registered_model(self.registry)
            aliases = list(registered.aliases)
        except MlflowException:
            aliases = []
        studies = {run.data.tags["study"] for run in self._pages(list(self._experiments), "tags.study != ''")}
        known = [*aliases, *sorted(studies), *self.experiments()]
        return UserError(
            f"{word}: {self.uri} has no run id, version or alias of {self.registry}, study or experiment of this name; "
            f"{did_you_mean(word, known)}"
        )
