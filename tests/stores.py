"""Changes of a tracking store that take a training otherwise."""

from collections.abc import Mapping

import mlflow
from mlflow.entities import Metric, Param, Run, RunTag


def copy_run(
    client: mlflow.MlflowClient,
    run: Run,
    *,
    tags: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
    shift: float = 0.0,
    status: str = "FINISHED",
    name: str | None = None,
) -> Run:
    """Record a copy of a run without its artifacts.

    Parameters
    ----------
    client, run
        The run to copy, of the client's store.
    tags, params, metrics
        Values instead of those of the run. An empty tag is left out.
    shift
        Is added to each metric of a fold, and of the folds' means.
    status, name
        Of the copy; the name is by default that of the run.
    """
    merged = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")} | dict(tags or {})
    # The history of a metric of the folds has one value a fold.
    history = [
        Metric(
            key, point.value + (shift if key.startswith("fold/") or is_mean(key) else 0), point.timestamp, point.step
        )
        for key in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, key)
        if key not in (metrics or {})
    ]
    history += [Metric(key, value, 0, 0) for key, value in (metrics or {}).items()]
    copied = client.create_run(run.info.experiment_id, run_name=name or run.info.run_name).info.run_id
    client.log_batch(
        copied,
        history,
        [Param(key, value) for key, value in (run.data.params | dict(params or {})).items()],
        [RunTag(key, value) for key, value in merged.items() if value],
    )
    client.set_terminated(copied, status)
    return client.get_run(copied)


def is_mean(metric: str) -> bool:
    return metric.startswith("cv/") and not metric.endswith(("_std", "_seconds"))
