"""The record of a study in MLflow: a parent run, and the runs of its trials below it."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

# Who, with which program, from which commit: what `mlflow.start_run` adds, and a client does not.
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE

from wineexp.tracking import store

# What MLflow holds of a tag's and a parameter's value.
LONGEST = 5000


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

    def open(self, study: str, tags: Mapping[str, str], run_id: str | None = None) -> str:
        """Begin the study's own run, or go on with it; gives its id.

        A run of that id is taken up again, or else one with the same name and tags.
        """
        found = run_id if run_id is not None and self.exists(run_id) else self._search(study, tags)
        if found is not None:
            self._client.set_terminated(found, "RUNNING")
            return found
        labels = resolve_tags({"study": study, **tags})
        run = self._client.create_run(self.experiment_id, tags=labels, run_name=study)
        return str(run.info.run_id)

    def _search(self, study: str, tags: Mapping[str, str]) -> str | None:
        quoted = {key: value.replace("'", "\\'") for key, value in {"study": study, **tags}.items()}
        condition = " and ".join(f"tags.`{key}` = '{value}'" for key, value in quoted.items())
        runs = self._client.search_runs([self.experiment_id], condition, max_results=1)
        return str(runs[0].info.run_id) if runs else None

    def exists(self, run_id: str) -> bool:
        """Whether the store knows the run and has not deleted it."""
        try:
            return bool(self._client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException:
            return False

    def child(self, parent: str, name: str, tags: Mapping[str, Any], began: float | None = None) -> str:
        """Begin a run below a study's; `began` is in seconds since the epoch. Gives its id."""
        start = int(began * 1000) if began is not None else None
        labels = {key: str(value)[:LONGEST] for key, value in tags.items()} | {MLFLOW_PARENT_RUN_ID: parent}
        run = self._client.create_run(self.experiment_id, start_time=start, tags=resolve_tags(labels), run_name=name)
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
        now = int(time.time() * 1000)
        figures = []
        for key, told in (metrics or {}).items():
            points = told.items() if isinstance(told, Mapping) else [(told[1], told[0])]
            figures += [Metric(key, value, now, step) for step, value in points]
        self._client.log_batch(
            run_id,
            metrics=figures,
            params=[Param(key, str(value)[:LONGEST]) for key, value in (params or {}).items()],
            tags=[RunTag(key, str(value)[:LONGEST]) for key, value in (tags or {}).items()],
        )

    def describe(self, run_id: str, text: str) -> None:
        """Say in Markdown what a run is; MLflow shows it above everything else."""
        self._client.set_tag(run_id, MLFLOW_RUN_NOTE, text)

    def attach(self, run_id: str, file: Path, folder: str | None = None) -> None:
        """Store a file among the run's artifacts."""
        self._client.log_artifact(run_id, str(file), folder)

    def attach_text(self, run_id: str, text: str, name: str) -> None:
        """Store a text as a file among the run's artifacts."""
        self._client.log_text(run_id, text, name)

    def close(self, run_id: str, status: str) -> None:
        """End a run as FINISHED, FAILED or KILLED."""
        self._client.set_terminated(run_id, status)

    def is_open(self, run_id: str) -> bool:
        """Whether the run has no end yet."""
        return bool(self._client.get_run(run_id).info.status == "RUNNING")
