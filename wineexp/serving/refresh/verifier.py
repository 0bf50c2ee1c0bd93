"""Verifies versions, from the registry, the cache or an export, before any server loads them."""

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import structlog

from wineexp.core.config import Serve
from wineexp.core.error_messages import FILE_SYSTEM_REMEDIES, error_chain
from wineexp.models.background import read_background
from wineexp.models.golden_rows import read_golden_rows
from wineexp.serving.model import export, pipeline
from wineexp.serving.model.cache import Cache, CachedVersion
from wineexp.serving.model.loading import load
from wineexp.serving.model.metadata import describe_version
from wineexp.serving.model.predictor import Predictor
from wineexp.serving.refresh.messages import CACHE_NOT_USABLE, describe_error
from wineexp.tracking import store
from wineexp.tracking.names import MODEL_SHA256
from wineexp.tracking.registry import Registry, Version

log = structlog.get_logger()


@dataclass(frozen=True)
class VerifiedVersion:
    """A version that has passed every check.

    Attributes
    ----------
    version : CachedVersion
    predictor : Predictor
        As the servers load it.
    pipeline : Pipeline
        The scikit-learn pipeline, for explanations.
    background : list of tuple
        Training rows that stand for all of them; the golden rows of a version that was stored without.
    """

    version: CachedVersion
    predictor: Predictor
    pipeline: Any
    background: list[tuple[Any, ...]]


class Verifier:
    """Verifies versions of one registered model and stores them in the cache.

    Parameters
    ----------
    settings : Serve
    cache, fallback : Cache
        Of the alias; the second is used where the first cannot be written, and may be the same.
    """

    def __init__(self, settings: Serve, cache: Cache, fallback: Cache) -> None:
        self.settings = settings
        self._cache = cache
        self._fallback = fallback

    def from_registry(self, registry: Registry, registered: Version) -> VerifiedVersion:
        """A version that is fetched from the registry, verified and stored in the cache.

        Raises
        ------
        UnavailableError
            Its files cannot be had at the moment.
        UserError
            A check fails.
        """
        try:
            return self._fetch(registry, registered, self._cache)
        except (store.UnavailableError, OSError) as error:
            if self._fallback.folder == self._cache.folder or not _is_of_the_disk(error):
                raise
            # The disk may be full, or the folder another user's.
            verified = self._fetch(registry, registered, self._fallback)
            log.warning(CACHE_NOT_USABLE, folder=str(self._cache.folder), why=list(describe_error(error)))
        version = verified.version
        return replace(verified, version=msgspec.structs.replace(version, folder=str(self._fallback.files(version))))

    def _fetch(self, registry: Registry, registered: Version, cache: Cache) -> VerifiedVersion:
        scratch = cache.make_scratch_folder()
        try:
            files = registry.fetch(registered, scratch)
            version = describe_version(registry, registered)
            verified = self._verify(files, version)
            stored = cache.store(files, version)
            return VerifiedVersion(stored, verified.predictor, verified.pipeline, verified.background)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def from_cache(self, registered: Version | None = None) -> VerifiedVersion | None:
        """The cached version, if it passes every check and is the registered one; None otherwise."""
        cache = self._cache
        version = cache.read()
        if version is None:
            return None
        if registered and (identity(registered), registered.files) != (version.identity, version.files):
            return None
        try:
            return self._verify(cache.files(version), version)
        except Exception as error:
            # Like files from the registry, cached files can be broken in any way.
            log.warning("cache refused", why=list(describe_error(error)))
            return None

    def from_export(self, folder: Path) -> VerifiedVersion:
        """An exported version.

        Raises
        ------
        UserError
            The export is not whole, or a check fails.
        """
        exported, files = export.read(folder)
        return self._verify(files, exported.version)

    def _verify(self, files: Path, version: CachedVersion) -> VerifiedVersion:
        fitted = pipeline.load_verified(files)
        predictor = load(files, version, self.settings.serve.alias, max_rows=self.settings.serve.max_rows)
        background = read_background(files) or read_golden_rows(files).rows
        return VerifiedVersion(version, predictor, fitted, background)


def _is_of_the_disk(error: Exception) -> bool:
    """Whether a version could not be fetched because its files could not be written."""
    # Of the files that it cannot write, MLflow passes on what their errors say, not the errors.
    texts = [str(link) for link in error_chain(error)]
    return isinstance(error, OSError) or any(
        os.strerror(number) in text for number in FILE_SYSTEM_REMEDIES for text in texts
    )


def identity(registered: Version) -> tuple[int, str, str]:
    """The identity of a registered version, as `CachedVersion.identity` has it."""
    return registered.number, registered.run_id, registered.tags.get(MODEL_SHA256, "")
