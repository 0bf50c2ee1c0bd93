"""The lookout over an alias: what it names is fetched, checked and kept for the servers to load."""

import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import structlog

from wineexp.core.config import Serve
from wineexp.core.errors import UserError
from wineexp.models import persistence
from wineexp.models.golden_rows import read_golden_rows
from wineexp.serving.model import export, pipeline
from wineexp.serving.model.cache import Cache, Kept
from wineexp.serving.model.loading import load
from wineexp.serving.model.metadata import described
from wineexp.serving.model.predictor import Served
from wineexp.serving.refresh.messages import Refusal, State, now, reason
from wineexp.tracking import store
from wineexp.tracking.names import MODEL_SHA256
from wineexp.tracking.registry import Registry, UnavailableError, Version
from wineexp.tracking.uri import resolve_uri

log = structlog.get_logger()


@dataclass(frozen=True)
class Verified:
    """A version that has passed every check.

    Attributes
    ----------
    kept : Kept
    served : Served
        As the servers load it.
    model : classifier
    golden : DataFrame of shape (n_golden, n_features)
        Training rows, from all over them.
    """

    kept: Kept
    served: Served
    model: Any
    golden: pd.DataFrame


class Lookout:
    """Follows one alias.

    Parameters
    ----------
    settings : Serve
    folder : Path
        Of the cache.

    Attributes
    ----------
    verified : Verified or None
        The last version that passed every check here.
    state : State
        What servers are told.
    """

    def __init__(self, settings: Serve, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.verified: Verified | None = None
        self.state = State()
        self._registry: Registry | None = None
        self._looking = threading.Lock()

    def look(self, state: State) -> State:
        """Ask the registry once, given what is known; a version that passes every check is kept, and told of."""
        with self._looking:
            self.state = state
            if (folder := export.chosen(self.settings)) is not None:
                self._exported(folder)
                return self.state
            try:
                version = self._ask().find(self.settings.serve.alias)
            except Exception as error:
                # Whatever a store fails with, what is served goes on.
                self._lost(error)
            else:
                self._found(version)
            return self.state

    def again(self, kept: Kept) -> Verified:
        """A version that was verified, here or by an examiner before this one; then it passes every check again.

        Raises
        ------
        UserError
            It is no longer to be had.
        """
        verified = self.verified
        if verified is None or verified.kept.identity != kept.identity:
            verified = self.verified = self._anew(kept)
        return verified

    def _anew(self, kept: Kept) -> Verified:
        if (folder := export.chosen(self.settings)) is not None:
            found, files = export.read(folder)
            return self._checked(files, found.kept)
        cached = self._cached(None)
        if cached is not None and cached.kept.identity == kept.identity:
            return cached
        version = self._ask().version(self.settings.serve.alias)
        if _identity(version) != kept.identity:
            raise UserError(f"version {kept.number} is neither in the cache nor behind the alias any more")
        return self._fetched(version)

    def _exported(self, folder: Path) -> None:
        """Verify an export, once, which stays what is served."""
        if self.state.kept is not None:
            return
        try:
            found, files = export.read(folder)
            self._hold(self._checked(files, found.kept))
        except Exception as error:
            # The server goes on with what it has loaded of it.
            self._say(refusal=self._refusal(0, reason(error), final=True))
        else:
            self._say()

    def _found(self, version: Version | None) -> None:
        if version is None:
            self._fall_back()
            told = f"the alias {self.settings.serve.alias} names nothing any more"
            refusal = self._refusal(0, (told,), final=True)
            self._say(unreachable=None, refusal=refusal, seen=None, faults=self._unknown())
        elif self.state.kept is not None and _identity(version) == self.state.kept.identity:
            self._say(unreachable=None, refusal=None, seen=_identity(version))
        elif self.state.seen != _identity(version) or not (self.state.refusal and self.state.refusal.final):
            self._try(version)
        else:
            self._say(unreachable=None)

    def _ask(self) -> Registry:
        if self._registry is None:
            self._registry = Registry(self.settings.tracking.uri or "", self.settings.registry.name)
        else:
            store.check_reachable(self._registry.uri)
        return self._registry

    def _try(self, version: Version) -> None:
        """Verify a version, or say why not."""
        try:
            self._hold(self._cached(version) or self._fetched(version))
        except Exception as error:
            # A version can be broken in any way.
            final = not isinstance(error, UnavailableError | OSError)
            self._fall_back()
            self._say(
                unreachable=None,
                refusal=self._refusal(version.number, reason(error), final=final),
                faults=[f"{self.settings.serve.alias}: {fault}" for fault in reason(error)],
                load_failures=self.state.load_failures + 1,
                refusals=self.state.refusals + final,
                seen=_identity(version),
            )
        else:
            self._say(unreachable=None, refusal=None, seen=_identity(version))

    def _hold(self, verified: Verified) -> None:
        self.verified = verified
        self.state = msgspec.structs.replace(self.state, kept=verified.kept)

    def _fetched(self, version: Version) -> Verified:
        """A version from the registry, verified, checked, and kept in the cache."""
        registry = self._ask()
        cache = self._cache()
        scratch = cache.scratch()
        try:
            files = registry.fetch(version, scratch)
            kept = described(registry, version)
            verified = self._checked(files, kept)
            return Verified(cache.keep(files, kept), verified.served, verified.model, verified.golden)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _cached(self, version: Version | None) -> Verified | None:
        """The version in the cache, if it is this one (any, where None), whole, and passes every check."""
        cache = self._cache()
        kept = cache.find()
        if kept is None or (version and (_identity(version), version.files) != (kept.identity, kept.files)):
            return None
        try:
            return self._checked(cache.files(kept), kept)
        except Exception as error:
            # As what comes from the registry, it can be broken in any way.
            log.warning("cache refused", why=list(reason(error)))
            return None

    def _checked(self, files: Path, kept: Kept) -> Verified:
        model = pipeline.checked(files)
        served = load(files, kept, self.settings.serve.alias, most=self.settings.serve.max_rows)
        return Verified(kept, served, model, persistence.golden_frame(read_golden_rows(files)))

    def _fall_back(self) -> None:
        """Where nothing was verified yet, go back to what the cache holds."""
        if self.state.kept is None and (cached := self._cached(None)) is not None:
            self._hold(cached)

    def _cache(self) -> Cache:
        uri = self._registry.uri if self._registry else resolve_uri(self.settings.tracking.uri or "")
        return Cache(self.folder, uri, self.settings.registry.name, self.settings.serve.alias)

    def _unknown(self) -> list[str]:
        """What is to be told of an alias that is not there."""
        try:
            self._ask().version(self.settings.serve.alias)
        except UserError as error:
            return list(error.faults)
        except Exception as error:
            return list(reason(error))
        return ["the alias has just been set; start again"]

    def _refusal(self, version: int, why: tuple[str, ...], *, final: bool) -> Refusal:
        known = self.state.refusal
        if known and (known.version, known.why, known.final) == (version, why, final):
            return known
        return Refusal(version, why, now(), final)

    def _lost(self, error: Exception) -> None:
        self._fall_back()
        why = reason(error)[0]
        name, alias = self.settings.registry.name, self.settings.serve.alias
        self._say(
            unreachable=self.state.unreachable or f"since {now()}: {why}",
            faults=[
                f"{why}; and serve.cache_folder={self.settings.serve.cache_folder} holds no version of {name} behind "
                f"{alias} to start from"
            ],
        )

    def _say(self, faults: list[str] | None = None, **changes: Any) -> None:
        """Tell of a new state; of faults only while there is nothing to serve."""
        told = [] if self.state.kept else faults or []
        self.state = msgspec.structs.replace(self.state, **changes, faults=told)


def _identity(version: Version) -> tuple[int, str, str]:
    return version.number, version.run_id, version.tags.get(MODEL_SHA256, "")
