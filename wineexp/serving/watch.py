"""The watch over an alias: what it names is fetched, checked and swapped in beside the requests, never in their way."""

import shutil
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from litestar import Litestar

from wineexp import artifact, store
from wineexp.config import Serve
from wineexp.errors import UserError
from wineexp.registry import DIGEST, Registry, UnavailableError, Version
from wineexp.runs import Runs
from wineexp.serving.cache import Cache
from wineexp.serving.metrics import Metrics
from wineexp.serving.served import Served, load

log = structlog.get_logger()


@dataclass(frozen=True)
class Refusal:
    """A version that the alias names and that is not served.

    Attributes
    ----------
    version : int
    why : tuple of str
    when : str
        UTC, ISO 8601.
    final : bool
        Whether it failed a check, so that asking again is of no use.
    """

    version: int
    why: tuple[str, ...]
    when: str
    final: bool


class Watch:
    """Follows one alias.

    Parameters
    ----------
    settings : Serve
    metrics : Metrics

    Attributes
    ----------
    served : Served
        The version that answers; the one reference that a swap changes.
    refusal : Refusal or None
        Of the version that the alias names now.
    unreachable : str or None
        Since when, and why, the registry cannot be asked.
    """

    served: Served

    def __init__(self, settings: Serve, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.refusal: Refusal | None = None
        self.unreachable: str | None = None
        self._registry: Registry | None = None
        self._seen: tuple[int, str, str] | None = None
        self._looking = threading.Lock()
        self._over = threading.Event()

    def start(self) -> None:
        """Load what the alias names; while the registry cannot be asked, the last version that was verified.

        Raises
        ------
        UserError
            There is no such alias or its version fails a check; or neither the registry nor a cache is there.
        """
        name, alias = self.settings.registry.name, self.settings.serve.alias
        try:
            version = self._ask().version(alias)
        except Exception as error:
            if self._registry is not None and isinstance(error, UserError):
                raise
            self._lost(error)
            found = self._cached(None)
            if found is None:
                raise UserError(
                    f"{_reason(error)[0]}; and serve.cache={self.settings.serve.cache} holds no version of {name} "
                    f"behind {alias} to start from"
                ) from error
            self._serve(found)
            return
        self.metrics.registry_up.set(1)
        try:
            self._serve(self._cached(version) or self._fetched(version))
        except UserError as error:
            found = self._cached(None)
            if found is None:
                raise UserError(*(f"{alias}: {fault}" for fault in error.faults)) from error
            self._serve(found)
            self._failed(version, error)

    def look(self) -> None:
        """Ask the registry once, and swap if the alias names another version that passes every check."""
        with self._looking:
            try:
                version = self._ask().find(self.settings.serve.alias)
            except Exception as error:
                # Whatever a store fails with, what is served goes on.
                self._lost(error)
                return
            if self.unreachable is not None:
                log.info("registry reachable again")
            self.unreachable = None
            self.metrics.registry_up.set(1)
            if version is None:
                self._refuse(0, (f"the alias {self.settings.serve.alias} names nothing any more",), final=True)
            elif _identity(version) == _identity(self.served.version):
                self.refusal, self._seen = None, _identity(version)
            elif self._seen != _identity(version) or not (self.refusal and self.refusal.final):
                self._try(version)

    @asynccontextmanager
    async def polling(self, _: Litestar) -> AsyncIterator[None]:
        """Look every `serve.poll_seconds`, in a thread of its own, as long as the application runs."""
        thread = threading.Thread(target=self._poll, name="watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()

    def _poll(self) -> None:
        while not self._over.wait(self.settings.serve.poll_seconds):
            self.look()

    def _ask(self) -> Registry:
        if self._registry is None:
            self._registry = Registry(self.settings.tracking.uri or "", self.settings.registry.name)
        else:
            store.knock(self._registry.uri)
        return self._registry

    def _try(self, version: Version) -> None:
        """Swap to a version, or say why not."""
        try:
            self._serve(self._fetched(version))
        except Exception as error:
            # A version can be broken in any way.
            self._failed(version, error)

    def _failed(self, version: Version, error: Exception) -> None:
        """Note why a version is not served: for good, or until its files can be had."""
        self.metrics.load_failures.inc()
        final = not isinstance(error, UnavailableError)
        if final:
            self.metrics.refusals.inc()
        self._refuse(version.number, _reason(error), final=final)
        self._seen = _identity(version)

    def _fetched(self, version: Version) -> Served:
        """A version from the registry, verified, checked, and kept in the cache."""
        registry, settings = self._ask(), self.settings
        cache = self._cache()
        scratch = cache.scratch() if cache else Path(tempfile.mkdtemp(prefix="wineexp-"))
        try:
            files = registry.fetch(version, scratch)
            record = Runs(registry.uri, version.name).one(version.run_id)
            served = load(files, version, record, settings.serve.alias, most=settings.serve.rows)
            if cache:
                try:
                    cache.keep(files, version, record)
                except OSError as error:
                    log.warning("cache not written", why=str(error))
            return served
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _cached(self, version: Version | None) -> Served | None:
        """The version in the cache, if it is this one (any, where None), whole, and passes every check."""
        cache = self._cache()
        found = cache.find() if cache else None
        if found is None:
            return None
        kept, files = found
        if version is not None and _identity(version) != _identity(kept.version):
            return None
        try:
            artifact.verify(files, (version or kept.version).files)
            return load(files, kept.version, kept.record, self.settings.serve.alias, most=self.settings.serve.rows)
        except UserError as error:
            log.warning("cache refused", why=list(error.faults))
            return None

    def _cache(self) -> Cache | None:
        folder, settings = self.settings.serve.cache, self.settings
        if folder is None:
            return None
        uri = self._registry.uri if self._registry else store.resolved(settings.tracking.uri or "")
        try:
            return Cache(Path(folder), uri, settings.registry.name, settings.serve.alias)
        except OSError as error:
            log.warning("cache not usable", why=str(error))
            return None

    def _serve(self, served: Served) -> None:
        before: Served | None = getattr(self, "served", None)
        self.metrics.serving(served, before)
        self.served, self.refusal, self._seen = served, None, _identity(served.version)
        log.info(
            "serving",
            model=served.lineage.name,
            version=served.lineage.version,
            before=before and before.lineage.version,
            run_id=served.lineage.run_id,
            golden_gap=served.gap,
            row_milliseconds=round(1000 * served.row_seconds, 3),
            stale=self.unreachable is not None,
        )

    def _refuse(self, version: int, why: tuple[str, ...], *, final: bool) -> None:
        if self.refusal is None or (self.refusal.version, self.refusal.why) != (version, why):
            log.error("version refused", version=version, why=list(why), still=self.served.lineage.version)
            self.refusal = Refusal(version, why, _now(), final)

    def _lost(self, error: Exception) -> None:
        self.metrics.registry_up.set(0)
        if self.unreachable is None:
            self.unreachable = f"since {_now()}: {_reason(error)[0]}"
            log.error("registry unreachable", why=_reason(error)[0])


def _identity(version: Version) -> tuple[int, str, str]:
    return version.number, version.run_id, version.tags.get(DIGEST, "")


def _reason(error: Exception) -> tuple[str, ...]:
    if isinstance(error, UserError):
        return error.faults
    return (f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}",)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
