"""Follows the alias in a serving process: loads verified versions and swaps them in, while requests go on."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import numpy as np
import structlog
from litestar import Litestar

from wineexp.core.config import Serve
from wineexp.core.errors import UserError
from wineexp.serving.background import running
from wineexp.serving.metrics import Metrics
from wineexp.serving.model import export
from wineexp.serving.model.cache import Cache, CachedVersion
from wineexp.serving.model.export import Export
from wineexp.serving.model.loading import load
from wineexp.serving.model.predictor import Predictor
from wineexp.serving.refresh.messages import (
    AliasState,
    ExplanationReply,
    RefreshPaths,
    RefreshRequest,
    Refusal,
    describe_error,
    encode_line,
    utc_now,
)
from wineexp.tracking.uri import resolve_uri

log = structlog.get_logger()

# The longest message that the monitor may send.
MAX_MESSAGE_BYTES = 2**26

# Between two attempts to connect to the monitor.
RECONNECT_PAUSE_SECONDS = 0.1

# Why it is not known, at the start from a cache, whether the registry can be reached.
NOT_ASKED = "the registry has not been asked yet"

# What a conversation with a monitor, or with a refresh process behind it, fails with when either ends.
CONNECTION_ERRORS = (OSError, asyncio.IncompleteReadError, msgspec.MsgspecError)


async def alias_states(socket: Path) -> AsyncIterator[AliasState]:
    """The states of an alias, as the refresh monitor behind a socket sends them, without end."""
    while True:
        with suppress(*CONNECTION_ERRORS):
            reader, writer = await asyncio.open_unix_connection(str(socket), limit=MAX_MESSAGE_BYTES)
            try:
                writer.write(encode_line(RefreshRequest("follow")))
                while True:
                    yield msgspec.json.decode(await reader.readuntil(b"\n"), type=AliasState)
            finally:
                writer.close()
        await asyncio.sleep(RECONNECT_PAUSE_SECONDS)


class AliasFollower:
    """Follows one alias through the refresh monitor.

    Parameters
    ----------
    settings : Serve
    metrics : Metrics
    paths : RefreshPaths

    Attributes
    ----------
    predictor : Predictor
        The version that is served. A swap changes this reference and nothing else.
    refusal : Refusal or None
        Of the version that the alias names now.
    unreachable : str or None
        Since when, and why, the registry cannot be reached.
    exported : Export or None
        The export that is served instead of an alias.
    """

    predictor: Predictor

    def __init__(self, settings: Serve, metrics: Metrics, paths: RefreshPaths) -> None:
        self.settings = settings
        self.metrics = metrics
        self.paths = paths
        self.refusal: Refusal | None = None
        self.unreachable: str | None = None
        self.exported: Export | None = None
        self._state = AliasState()
        self._applying = asyncio.Lock()
        # The version that this process failed to load, which is not tried again.
        self._failed: tuple[int, str, str] | None = None
        # For this thread and those that it starts: results that are not finite are found and refused at the end.
        np.seterr(all="ignore")
        uri = resolve_uri(settings.tracking.uri or "")
        self._cache = Cache(paths.cache, uri, settings.registry.name, settings.serve.alias)

    def start(self) -> None:
        """Load the configured export, else the cached version, else the one that the refresh process verifies.

        Raises
        ------
        UserError
            There is no such alias or its version fails a check; or there is neither a registry nor a cached version;
            or the export is not whole.
        """
        if (folder := export.configured_folder(self.settings)) is not None:
            self.exported, files = export.read(folder)
            # No registry is needed, so none is up or down.
            self.metrics.registry_up.set(float("nan"))
            version, alias = self.exported.version, self.exported.alias
            self._swap(load(files, version, alias, max_rows=self.settings.serve.max_rows))
            return
        cached = self._cache.read()
        if cached is not None:
            try:
                predictor = self._load(cached)
            except Exception as error:
                log.warning("cache refused", why=list(describe_error(error)))
            else:
                self.metrics.registry_up.set(0)
                self.unreachable = f"since {utc_now()}: {NOT_ASKED}"
                self._swap(predictor)
                return
        state = self._first_state()
        if state.version is None:
            raise UserError(*state.faults)
        predictor = self._load(state.version)
        self._record(state)
        self._swap(predictor)
        self._record_refusal(state)

    @asynccontextmanager
    async def follow(self, _: Litestar) -> AsyncIterator[None]:
        """Apply the monitor's states as long as the application runs."""
        async with running(self._follow()):
            yield

    async def refresh(self) -> None:
        """Have the registry asked at once, and return when the version that the alias names is served or refused."""
        with suppress(*CONNECTION_ERRORS):
            await self._apply(msgspec.json.decode(await self._request(RefreshRequest("check")), type=AliasState))

    async def explain(self, request: RefreshRequest) -> ExplanationReply | None:
        """The refresh process's reply; None where it ended before it replied."""
        try:
            return msgspec.json.decode(await self._request(request), type=ExplanationReply)
        except CONNECTION_ERRORS:
            return None

    async def _request(self, request: RefreshRequest) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(self.paths.socket), limit=MAX_MESSAGE_BYTES)
        try:
            writer.write(encode_line(request))
            return await reader.readuntil(b"\n")
        finally:
            writer.close()

    async def _follow(self) -> None:
        async for state in alias_states(self.paths.socket):
            await self._apply(state)

    async def _apply(self, state: AliasState) -> None:
        """Load and swap in the version of a state, unless a later state was applied already."""
        async with self._applying:
            if state.serial < self._state.serial:
                return
            version = state.version
            if version is not None and version.identity not in (self.predictor.version.identity, self._failed):
                try:
                    self._swap(await asyncio.to_thread(self._load, version))
                except Exception as error:
                    # The refresh process could load it. This process lacks memory, say, or the next version has
                    # replaced these files already.
                    self._failed = version.identity
                    refusal = Refusal(version.number, describe_error(error), utc_now(), final=False)
                    state = msgspec.structs.replace(state, refusal=refusal)
            self._record(state)
            self._record_refusal(state)

    def _first_state(self) -> AliasState:
        """The first state that the monitor sends, which takes as long as the registry and the checks take."""
        while True:
            with suppress(OSError, msgspec.MsgspecError), socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(self.paths.socket))
                connection.sendall(encode_line(RefreshRequest("follow")))
                with connection.makefile("rb") as stream:
                    return msgspec.json.decode(stream.readline(), type=AliasState)
            time.sleep(RECONNECT_PAUSE_SECONDS)

    def _load(self, version: CachedVersion) -> Predictor:
        files = self._cache.files(version)
        return load(files, version, self.settings.serve.alias, max_rows=self.settings.serve.max_rows)

    def _swap(self, predictor: Predictor) -> None:
        previous: Predictor | None = getattr(self, "predictor", None)
        self.metrics.set_model(predictor, previous)
        self.predictor, self._failed = predictor, None
        log.info(
            "serving",
            model=predictor.lineage.name,
            version=predictor.lineage.version,
            previous=previous and previous.lineage.version,
            run_id=predictor.lineage.run_id,
            form=predictor.form,
            golden_max_difference=predictor.golden_max_difference,
            row_milliseconds=round(1000 * predictor.row_seconds, 3),
            stale=self.unreachable is not None,
        )

    def _record(self, state: AliasState) -> None:
        """Log a registry that can no longer be reached, or can again, and count failures."""
        self.metrics.load_failures.inc(max(0, state.load_failures - self._state.load_failures))
        self.metrics.refusals.inc(max(0, state.refusals - self._state.refusals))
        self._state = state
        if state.unreachable is not None:
            self._set_unreachable(state.unreachable)
            return
        if self.unreachable is not None:
            log.info("registry reachable")
        self.unreachable = None
        if self.exported is None:
            self.metrics.registry_up.set(1)

    def _record_refusal(self, state: AliasState) -> None:
        refusal = state.refusal
        if refusal is not None and (self.refusal is None or self.refusal.why != refusal.why):
            served = self.predictor.lineage.version
            log.error("version refused", version=refusal.version, why=list(refusal.why), served=served)
        self.refusal = refusal

    def _set_unreachable(self, reason: str) -> None:
        self.metrics.registry_up.set(0)
        since = reason if reason.startswith("since ") else f"since {utc_now()}: {reason}"
        if self.unreachable is None or self.unreachable.endswith(NOT_ASKED):
            log.error("registry unreachable", why=since)
        self.unreachable = since
