"""What a registry says of a version and its run, as it is kept beside the version's files."""

from wineexp.serving.model.cache import Kept
from wineexp.tracking.names import MODEL_FORM, MODEL_SHA256
from wineexp.tracking.registry import Registry, Version
from wineexp.tracking.runs import Runs


def described(registry: Registry, version: Version) -> Kept:
    """What the registry says of a version and its run."""
    record = Runs(registry.uri, version.name).get(version.run_id)
    return Kept(
        uri=registry.uri,
        name=version.name,
        number=version.number,
        run_id=version.run_id,
        digest=version.tags.get(MODEL_SHA256, ""),
        files=version.files,
        aliases=list(version.aliases),
        form=version.tags.get(MODEL_FORM, "it was registered without a compiled form"),
        run_name=record.name,
        params=record.params,
        metrics=record.metrics,
        tags=record.tags,
    )
