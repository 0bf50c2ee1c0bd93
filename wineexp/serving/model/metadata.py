"""What a registry records about a version and its run."""

from wineexp.serving.model.cache import CachedVersion
from wineexp.tracking.names import MODEL_FORM, MODEL_SHA256
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
        metrics=record.metrics,
        tags=record.tags,
    )
