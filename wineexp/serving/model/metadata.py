"""What a registry records about a version and its run."""

import numpy as np

from wineexp.evaluation.comparison import ALPHA, mean_interval
from wineexp.evaluation.metrics import METRICS
from wineexp.serving.model.cache import CachedVersion
from wineexp.tracking.names import MODEL_FORM, MODEL_SHA256, SPLIT_TEST_TO_TRAIN
from wineexp.tracking.recorded_run import RecordedRun
from wineexp.tracking.registry import Registry, Version
from wineexp.tracking.runs import Runs


def describe_version(registry: Registry, version: Version) -> CachedVersion:
    """A version with its run's name, parameters, metrics and tags, as it is recorded beside its files."""
    record = Runs(registry.uri, version.name).registered(version.run_id)
    return CachedVersion(
        uri=registry.uri,
        name=version.name,
        number=version.number,
        run_id=version.run_id,
        digest=version.tags.get(MODEL_SHA256, ""),
        files=version.files,
        aliases=list(version.aliases),
        form=version.tags.get(MODEL_FORM, "it was registered without a compiled model"),
        run_name=record.name,
        params=record.params,
        metrics=record.metrics | _interval(record),
        tags=record.tags,
    )


def _interval(record: RecordedRun) -> dict[str, float]:
    """The 95 % interval of the deciding metric over the folds; empty where fewer than two folds have a score."""
    name = record.metric
    if name is None or SPLIT_TEST_TO_TRAIN not in record.tags:
        return {}
    scores = record.fold_scores(name)
    scores = scores[~np.isnan(scores)]
    if len(scores) < 2:
        return {}
    low, high = mean_interval(scores, test_to_train=float(record.tags[SPLIT_TEST_TO_TRAIN]), alpha=ALPHA)
    # No score is better than that of a model that is always right, which is 1 or 0. Of a metric of the user's own,
    # whose module a server does not import, it is not known.
    if name in METRICS:
        low, high = (low, min(high, 1.0)) if METRICS[name].direction == "maximize" else (max(low, 0.0), high)
    return {f"cv/{name}_low": low, f"cv/{name}_high": high}
