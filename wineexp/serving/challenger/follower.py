"""Follows the challenger's alias: loads what it names, and does without where it names nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog

from wineexp.core.config import Serve
from wineexp.serving.background import running
from wineexp.serving.model.cache import Cache, CachedVersion
from wineexp.serving.model.loading import load
from wineexp.serving.model.predictor import Predictor
from wineexp.serving.refresh.follower import alias_states
from wineexp.serving.refresh.messages import AliasState, RefreshPaths, describe_error
from wineexp.tracking.uri import resolve_uri

log = structlog.get_logger()


class ChallengerFollower:
    """Follows one alias through a refresh monitor of its own; nothing waits for it, and nothing fails without it.

    Parameters
    ----------
    settings : Serve
        Whose alias is the challenger's.
    paths : RefreshPaths

    Attributes
    ----------
    predictor : Predictor or None
        What the alias names; None where it names nothing yet, or nothing any more, or what could not be loaded.
    absent : str or None
        Why there is none.
    """

    def __init__(self, settings: Serve, paths: RefreshPaths) -> None:
        self.predictor: Predictor | None = None
        self.absent: str | None = "the registry has not been asked yet"
        self._settings = settings
        self._paths = paths
        self._failed: tuple[int, str, str] | None = None
        uri = resolve_uri(settings.tracking.uri or "")
        self._cache = Cache(paths.cache, uri, settings.registry.name, settings.serve.alias)

    @asynccontextmanager
    async def follow(self, _: Any) -> AsyncIterator[None]:
        """Apply the monitor's states as long as the context lasts."""
        async with running(self._follow()):
            yield

    async def _follow(self) -> None:
        async for state in alias_states(self._paths.socket):
            await self._apply(state)

    async def _apply(self, state: AliasState) -> None:
        version, refusal = state.version, state.refusal
        # The monitor keeps what a champion's alias named last; a challenger whose alias is gone is none any more.
        if version is None or (refusal is not None and refusal.version == 0):
            reasons = refusal.why if refusal is not None else (*state.faults, state.unreachable or "")
            self._swap(None, "; ".join(filter(None, reasons)))
        elif version.identity != self._failed and (
            self.predictor is None or version.identity != self.predictor.version.identity
        ):
            try:
                self._swap(await asyncio.to_thread(self._load, version), None)
            except Exception as error:
                # A version can be broken in any way, and must not harm the champion.
                self._failed = version.identity
                self._swap(None, "; ".join(describe_error(error)))

    def _load(self, version: CachedVersion) -> Predictor:
        serve = self._settings.serve
        return load(self._cache.files(version), version, serve.alias, max_rows=serve.max_rows)

    def _swap(self, predictor: Predictor | None, absent: str | None) -> None:
        if predictor is not None or absent != self.absent:
            log.info("challenger", version=predictor and predictor.lineage.version, why=absent)
        self.predictor, self.absent = predictor, absent
