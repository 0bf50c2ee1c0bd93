"""Recorded runs: found by id, version, alias, study or experiment, and read back."""

import re
from collections.abc import Iterator

import mlflow
from mlflow.entities import Run as MlflowRun
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from wineexp.core.addresses import without_credentials
from wineexp.core.errors import UserError, did_you_mean
from wineexp.tracking import _mlflow, names, store
from wineexp.tracking.recorded_run import RecordedRun

MAX_RUNS_PER_REQUEST = 1000

# Characters of a run's id that tables show, and that are enough to name it.
SHORT_ID = 8


class Runs:
    """The runs of a tracking store.

    Parameters
    ----------
    uri : str
        `MLFLOW_TRACKING_URI` wins.
    registry : str
        Name of the registered model that aliases and versions belong to.
    access : store.Access, optional
        What the store is opened for, here and by whatever uses MLflow next.

    Raises
    ------
    UserError
        The store cannot be reached or opened.
    """

    def __init__(self, uri: str, registry: str, *, access: store.Access = store.Access.READ) -> None:
        self.uri = store.connect(uri, access)
        self.registry = registry
        self._client = mlflow.MlflowClient()
        self._experiments = {
            experiment.experiment_id: experiment.name for experiment in self._client.search_experiments()
        }

    def get(self, word: str) -> RecordedRun:
        """The run of an id, an alias or a version, or the best trial of a study of this name.

        Raises
        ------
        UserError
            There is none, it was deleted, or the word names a whole experiment.
        """
        if (record := self._single(word)) is not None:
            return record
        if studies := self._studies(word):
            return self.best_trial(studies[0])
        raise self._unknown(word)

    def select(self, word: str) -> list[RecordedRun]:
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

    def select_scored(self, word: str) -> list[RecordedRun]:
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

    def with_tag(self, name: str) -> list[RecordedRun]:
        """The finished runs that have a tag of this name."""
        records = self._search(list(self._experiments), f"tags.`{name}` != ''")
        return [record for record in records if record.status == "FINISHED"]

    def trials(self, study: RecordedRun) -> list[RecordedRun]:
        """The runs of a study's trials, the latest first."""
        return self._search(list(self._experiments), f"tags.`{_mlflow.PARENT_RUN_ID}` = '{study.id}'")

    def best_trial(self, study: RecordedRun) -> RecordedRun:
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

    def _single(self, word: str) -> RecordedRun | None:
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

    def registered(self, run_id: str) -> RecordedRun:
        """The run of a registered version, by its id; deleting the run in MLflow does not withdraw the version.

        Raises
        ------
        UserError
            The store no longer has it.
        """
        return self._read(self._find(run_id, f"run {run_id} is no longer in {self.uri}"))

    def _find(self, run_id: str, fault: str) -> MlflowRun:
        try:
            return self._client.get_run(run_id)
        except MlflowException as error:
            if not _mlflow.is_missing(error):
                raise
            raise UserError(fault) from error

    def _by_id(self, run_id: str, fault: str) -> RecordedRun:
        run = self._find(run_id, fault)
        if run.info.lifecycle_stage == "deleted":
            # Deleting an experiment deletes its runs.
            is_listed = run.info.experiment_id in self._experiments
            restore = (
                f"runs restore --run-id {run_id}" if is_listed else f"experiments restore -x {run.info.experiment_id}"
            )
            raise UserError(
                f"run {run_id} ({run.info.run_name}) was deleted in MLflow, and the next clean-up removes its record; "
                f"bring it back: MLFLOW_TRACKING_URI={self.uri} mlflow {restore}"
            )
        return self._read(run)

    def _by_id_prefix(self, word: str) -> RecordedRun | None:
        """The run whose id starts with at least as many digits as a ranking shows."""
        if not re.fullmatch(f"[0-9a-f]{{{SHORT_ID},31}}", word):
            return None
        records = self._search(list(self._experiments), f"attributes.run_id LIKE '{word}%'")
        if len(records) > 1:
            ids = ", ".join(record.id for record in records)
            raise UserError(f"run={word}: the ids of {len(records)} runs begin so: {ids}")
        return records[0] if records else None

    def _studies(self, name: str) -> list[RecordedRun]:
        quoted = name.replace("'", "\\'")
        return self._search(list(self._experiments), f"tags.{names.STUDY} = '{quoted}'")

    def _search(self, experiments: list[str], condition: str = "") -> list[RecordedRun]:
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

    def _read(self, run: MlflowRun) -> RecordedRun:
        return RecordedRun(
            id=run.info.run_id,
            name=run.info.run_name or "",
            # A deleted experiment is not listed, although its runs can still be read by their ids.
            experiment=self._experiments.get(run.info.experiment_id, ""),
            status=run.info.status,
            # An address was recorded with its credentials before wineexp 0.3.
            params={key: without_credentials(value) for key, value in run.data.params.items()},
            tags={key: without_credentials(value) for key, value in run.data.tags.items()},
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
