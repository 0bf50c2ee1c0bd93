"""The watch of a server: what an examiner has verified is loaded and swapped in, never in a request's way."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec
import numpy as np
import structlog
from litestar import Litestar

from wineexp.core.config import Serve
from wineexp.core.errors import UserError
from wineexp.serving.metrics import Metrics
from wineexp.serving.model import export
from wineexp.serving.model.cache import Cache, Kept
from wineexp.serving.model.export import Export
from wineexp.serving.model.loading import load
from wineexp.serving.model.predictor import Served
from wineexp.serving.refresh.messages import Link, Question, Refusal, State, Told, line, now, reason
from wineexp.tracking.uri import resolve_uri

log = structlog.get_logger()

# Bytes that a message of the sentry's may have.
LONGEST = 2**26

# Seconds between two attempts to reach the sentry.
PAUSE = 0.1


class Watch:
    """Follows one alias through the sentry.

    Parameters
    ----------
    settings : Serve
    metrics : Metrics
    link : Link

    Attributes
    ----------
    served : Served
        The version that answers; the one reference that a swap changes.
    refusal : Refusal or None
        Of the version that the alias names now.
    unreachable : str or None
        Since when, and why, the registry cannot be asked.
    exported : Export or None
        What is served instead of an alias, for good.
    """

    served: Served

    def __init__(self, settings: Serve, metrics: Metrics, link: Link) -> None:
        self.settings = settings
        self.metrics = metrics
        self.link = link
        self.refusal: Refusal | None = None
        self.unreachable: str | None = None
        self.exported: Export | None = None
        self._state = State()
        self._turn = asyncio.Lock()
        # Here and in all that starts from here: what is no number is found at the end, and refused.
        np.seterr(all="ignore")
        self._unfit: tuple[int, str, str] | None = None
        uri = resolve_uri(settings.tracking.uri or "")
        self._cache = Cache(link.cache, uri, settings.registry.name, settings.serve.alias)

    def start(self) -> None:
        """Load the last version that was verified; where there is none, what an examiner verifies.

        Where an export is to be served, that and nothing else.

        Raises
        ------
        UserError
            There is no such alias or its version fails a check; or neither the registry nor a cache is there; or the
            export is not whole.
        """
        if (folder := export.chosen(self.settings)) is not None:
            self.exported, files = export.read(folder)
            # No registry is wanted, so none is missed.
            self.metrics.registry_up.set(float("nan"))
            self._serve(load(files, self.exported.kept, self.exported.alias, most=self.settings.serve.max_rows))
            return
        kept = self._cache.find()
        if kept is not None:
            try:
                served = self._load(kept)
            except Exception as error:
                log.warning("cache refused", why=list(reason(error)))
            else:
                self._lost("it has not been asked yet")
                self._serve(served)
                return
        state = self._first()
        if state.kept is None:
            raise UserError(*state.faults)
        served = self._load(state.kept)
        self._note(state)
        self._serve(served)
        self._refused(state)

    @asynccontextmanager
    async def polling(self, _: Litestar) -> AsyncIterator[None]:
        """Follow the sentry as long as the application runs."""
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def look(self) -> None:
        """Have the registry asked at once, and be done when what the alias names is served or refused."""
        with suppress(OSError, asyncio.IncompleteReadError, msgspec.MsgspecError):
            await self._take(msgspec.json.decode(await self._asked(Question("look")), type=State))

    async def told(self, question: Question) -> Told | None:
        """The examiner's answer; None where it cannot be had."""
        try:
            return msgspec.json.decode(await self._asked(question), type=Told)
        except (OSError, asyncio.IncompleteReadError, msgspec.MsgspecError):
            return None

    async def _asked(self, question: Question) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(self.link.socket), limit=LONGEST)
        try:
            writer.write(line(question))
            return await reader.readuntil(b"\n")
        finally:
            writer.close()

    async def _follow(self) -> None:
        while True:
            with suppress(OSError, asyncio.IncompleteReadError, msgspec.MsgspecError):
                reader, writer = await asyncio.open_unix_connection(str(self.link.socket), limit=LONGEST)
                try:
                    writer.write(line(Question("follow")))
                    while True:
                        await self._take(msgspec.json.decode(await reader.readuntil(b"\n"), type=State))
                finally:
                    writer.close()
            await asyncio.sleep(PAUSE)

    async def _take(self, state: State) -> None:
        """Come to what the sentry says."""
        async with self._turn:
            if state.serial < self._state.serial:
                return
            kept = state.kept
            if kept is not None and kept.identity not in (self.served.kept.identity, self._unfit):
                try:
                    self._serve(await asyncio.to_thread(self._load, kept))
                except Exception as error:
                    # The examiner could: this process is short of something, or the next version is there already.
                    self._unfit = kept.identity
                    refusal = Refusal(kept.number, reason(error), now(), final=False)
                    state = msgspec.structs.replace(state, refusal=refusal)
            self._note(state)
            self._refused(state)

    def _first(self) -> State:
        """The first that the sentry says; it may take as long as the registry."""
        while True:
            with suppress(OSError, msgspec.MsgspecError), socket.socket(socket.AF_UNIX) as asking:
                asking.connect(str(self.link.socket))
                asking.sendall(line(Question("follow")))
                with asking.makefile("rb") as told:
                    return msgspec.json.decode(told.readline(), type=State)
            time.sleep(PAUSE)

    def _load(self, kept: Kept) -> Served:
        return load(self._cache.files(kept), kept, self.settings.serve.alias, most=self.settings.serve.max_rows)

    def _serve(self, served: Served) -> None:
        before: Served | None = getattr(self, "served", None)
        self.metrics.set_model(served, before)
        self.served, self._unfit = served, None
        log.info(
            "serving",
            model=served.lineage.name,
            version=served.lineage.version,
            before=before and before.lineage.version,
            run_id=served.lineage.run_id,
            form=served.form,
            golden_gap=served.gap,
            row_milliseconds=round(1000 * served.row_seconds, 3),
            stale=self.unreachable is not None,
        )

    def _note(self, state: State) -> None:
        """Tell of a registry that came or went, and count."""
        self.metrics.load_failures.inc(max(0, state.load_failures - self._state.load_failures))
        self.metrics.refusals.inc(max(0, state.refusals - self._state.refusals))
        self._state = state
        if state.unreachable is not None:
            self._lost(state.unreachable)
            return
        if self.unreachable is not None:
            log.info("registry reachable")
        self.unreachable = None
        if self.exported is None:
            self.metrics.registry_up.set(1)

    def _refused(self, state: State) -> None:
        refusal = state.refusal
        if refusal is not None and (self.refusal is None or self.refusal.why != refusal.why):
            still = self.served.lineage.version
            log.error("version refused", version=refusal.version, why=list(refusal.why), still=still)
        self.refusal = refusal

    def _lost(self, why: str) -> None:
        self.metrics.registry_up.set(0)
        told = why if why.startswith("since ") else f"since {now()}: {why}"
        if self.unreachable is None:
            log.error("registry unreachable", why=told)
        self.unreachable = told
