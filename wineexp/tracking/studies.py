"""The record of a study in MLflow: a parent run, and the runs of its trials below it."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from wineexp.core.addresses import without_credentials
from wineexp.tracking import _mlflow, names, store

# What MLflow stores of a tag's and of a parameter's value.
MAX_VALUE_CHARS = 5000


class StudyRuns:
    """The runs of one study.

    Parameters
    ----------
    uri : str
        The tracking store; `MLFLOW_TRACKING_URI` wins.
    experiment : str
        Where a study's own run is made.

    Raises
    ------
    UserError
        The store cannot be opened.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self.uri = store.connect(uri)
        self.experiment_id = store.experiment_id(self.uri, experiment)
        self._client = mlflow.MlflowClient()

    def how_to_view(self) -> str:
        """How to see the runs of the study's experiment; see `store.how_to_view`."""
        return store.how_to_view(self.uri, self.experiment_id)

    def open(self, study: str, tags: Mapping[str, str], run_id: str | None = None) -> str:
        """Start the study's own run, or resume it; gives its id.

        The run of that id is resumed, or else one with the same name and tags.
        """
        existing = run_id if run_id is not None and self.exists(run_id) else self._search(study, tags)
        if existing is not None:
            self._client.set_terminated(existing, "RUNNING")
            return existing
        # The user, the program and the commit, which `mlflow.start_run` adds and a client does not.
        all_tags = _mlflow.resolve_tags({names.STUDY: study, **tags})
        run = self._client.create_run(self.experiment_id, tags=all_tags, run_name=study)
        return str(run.info.run_id)

    def _search(self, study: str, tags: Mapping[str, str]) -> str | None:
        quoted = {key: value.replace("'", "\\'") for key, value in {names.STUDY: study, **tags}.items()}
        condition = " and ".join(f"tags.`{key}` = '{value}'" for key, value in quoted.items())
        runs = self._client.search_runs([self.experiment_id], condition, max_results=1)
        return str(runs[0].info.run_id) if runs else None

    def exists(self, run_id: str) -> bool:
        """Whether the store knows the run and has not deleted it."""
        try:
            return bool(self._client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException:
            return False

    def is_away(self, run_id: str) -> bool:
        """Whether the store's server cannot be reached, asked for a run, after all the tries of MLflow's client."""
        try:
            self._client.get_run(run_id)
        except MlflowException as error:
            return _mlflow.is_unreachable(error)
        return False

    def children(self, parent: str) -> list[Run]:
        """The runs below a study's that are not deleted, in whichever experiment they were made."""
        experiments = [experiment.experiment_id for experiment in self._client.search_experiments()]
        condition = f"tags.`{_mlflow.PARENT_RUN_ID}` = '{parent}'"
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self._client.search_runs(experiments, condition, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs

    def child(self, parent: str, name: str, tags: Mapping[str, Any], began: float | None = None) -> str:
        """Start a run below a study's; `began` is in seconds since the epoch. Gives its id."""
        start_ms = int(began * 1000) if began is not None else None
        texts = {key: _recorded(value) for key, value in tags.items()}
        all_tags = _mlflow.resolve_tags(texts | {_mlflow.PARENT_RUN_ID: parent})
        run = self._client.create_run(self.experiment_id, start_time=start_ms, tags=all_tags, run_name=name)
        return str(run.info.run_id)

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, tuple[float, int] | Mapping[int, float]] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Record in one request; a metric is a value and its step, or values by step."""
        now_ms = int(time.time() * 1000)
        points = []
        for key, values in (metrics or {}).items():
            by_step = values.items() if isinstance(values, Mapping) else [(values[1], values[0])]
            points += [Metric(key, value, now_ms, step) for step, value in by_step]
        self._client.log_batch(
            run_id,
            metrics=points,
            params=[Param(key, _recorded(value)) for key, value in (params or {}).items()],
            tags=[RunTag(key, _recorded(value)) for key, value in (tags or {}).items()],
        )

    def describe(self, run_id: str, text: str) -> None:
        """Describe a run in Markdown; MLflow shows the text above everything else."""
        self._client.set_tag(run_id, _mlflow.NOTE, text)

    def attach(self, run_id: str, file: Path, folder: str | None = None) -> None:
        """Store a file among the run's artifacts."""
        self._client.log_artifact(run_id, str(file), folder)

    def attach_text(self, run_id: str, text: str, name: str) -> None:
        """Store a text as a file among the run's artifacts."""
        self._client.log_text(run_id, without_credentials(text), name)

    def close(self, run_id: str, status: str) -> None:
        """End a run as FINISHED, FAILED or KILLED."""
        self._client.set_terminated(run_id, status)

    def is_open(self, run_id: str) -> bool:
        """Whether the run has no end yet."""
        return bool(self._client.get_run(run_id).info.status == "RUNNING")


def _recorded(value: Any) -> str:
    """A value as it is recorded: as a text that is not too long for the store and holds no credentials."""
    return without_credentials(str(value))[:MAX_VALUE_CHARS]
