"""Asks the registry which version the alias names, has it verified, and reports what is to be served."""

import threading
from pathlib import Path
from typing import Any

import msgspec

from wineexp.core.config import Serve
from wineexp.core.errors import UserError
from wineexp.serving.model import export
from wineexp.serving.model.cache import Cache, CachedVersion
from wineexp.serving.refresh.messages import AliasState, Refusal, describe_error, utc_now
from wineexp.serving.refresh.verifier import VerifiedVersion, Verifier, identity
from wineexp.tracking.registry import Registry, Version
from wineexp.tracking.store import Access, UnavailableError
from wineexp.tracking.uri import resolve_uri


class AliasChecker:
    """Checks one alias.

    Parameters
    ----------
    settings : Serve
    cache : Path
        The folder that holds the caches of all aliases.
    fallback : Path, optional
        The folder to use instead where that cannot be written.

    Attributes
    ----------
    state : AliasState
        The last that was reported.
    """

    def __init__(self, settings: Serve, cache: Path, fallback: Path | None = None) -> None:
        self.settings = settings
        self.state = AliasState()
        uri, name = resolve_uri(settings.tracking.uri or ""), settings.registry.name
        self._verifier = Verifier(
            settings, *(Cache(folder, uri, name, settings.serve.alias) for folder in (cache, fallback or cache))
        )
        self._verified: VerifiedVersion | None = None
        self._checking = threading.Lock()

    def check(self, state: AliasState) -> AliasState:
        """Ask the registry once and verify a new version.

        Parameters
        ----------
        state : AliasState
            What was known before.

        Returns
        -------
        AliasState
            With a new version where one passed every check; with a refusal where one did not.
        """
        with self._checking:
            self.state = state
            if (folder := export.configured_folder(self.settings)) is not None:
                self._check_export(folder)
                return self.state
            try:
                registered = self._open_registry().find(self.settings.serve.alias)
            except Exception as error:
                # Whatever a store fails with, the served version is kept.
                self._report_unreachable(error)
            else:
                self._check_registered(registered)
            return self.state

    def verified_version(self, version: CachedVersion) -> VerifiedVersion:
        """A version that was reported, by this process or by an earlier one; then it is verified again.

        Raises
        ------
        UserError
            It can no longer be loaded.
        """
        verified = self._verified
        if verified is None or verified.version.identity != version.identity:
            verified = self._verified = self._verify_again(version)
        return verified

    def _verify_again(self, version: CachedVersion) -> VerifiedVersion:
        if (folder := export.configured_folder(self.settings)) is not None:
            return self._verifier.from_export(folder)
        cached = self._verifier.from_cache()
        if cached is not None and cached.version.identity == version.identity:
            return cached
        registry = self._open_registry()
        registered = registry.version(self.settings.serve.alias)
        if identity(registered) != version.identity:
            raise UserError(f"version {version.number} is neither in the cache nor behind the alias any more")
        return self._verifier.from_registry(registry, registered)

    def _check_export(self, folder: Path) -> None:
        """Verify an export once; it does not change."""
        if self.state.version is not None:
            return
        try:
            self._accept(self._verifier.from_export(folder))
        except Exception as error:
            # The server goes on with what it has loaded from the export.
            self._report(refusal=self._refusal(0, describe_error(error), final=True))
        else:
            self._report()

    def _check_registered(self, registered: Version | None) -> None:
        state = self.state
        if registered is None:
            self._accept_cached()
            reason = f"the alias {self.settings.serve.alias} names nothing any more"
            refusal = self._refusal(0, (reason,), final=True)
            self._report(unreachable=None, refusal=refusal, last_tried=None, faults=self._faults_of_missing_alias())
        elif state.version is not None and identity(registered) == state.version.identity:
            self._report(unreachable=None, refusal=None, last_tried=identity(registered))
        elif state.last_tried != identity(registered) or not (state.refusal and state.refusal.final):
            self._try(registered)
        else:
            # It was refused for good.
            self._report(unreachable=None)

    def _open_registry(self) -> Registry:
        # Opened anew each time: a server may be down by now, and a database deleted, put back or written by others.
        settings = self.settings
        return Registry(settings.tracking.uri or "", settings.registry.name, access=Access.READ)

    def _try(self, registered: Version) -> None:
        """Verify a version and report it, or why it is refused."""
        try:
            verified = self._verifier.from_cache(registered)
            self._accept(verified or self._verifier.from_registry(self._open_registry(), registered))
        except Exception as error:
            # A version can be broken in any way.
            final = not isinstance(error, UnavailableError | OSError)
            reasons = describe_error(error)
            self._accept_cached()
            self._report(
                unreachable=None,
                refusal=self._refusal(registered.number, reasons, final=final),
                faults=[f"{self.settings.serve.alias}: {reason}" for reason in reasons],
                load_failures=self.state.load_failures + 1,
                refusals=self.state.refusals + final,
                last_tried=identity(registered),
            )
        else:
            self._report(unreachable=None, refusal=None, last_tried=identity(registered))

    def _accept(self, verified: VerifiedVersion) -> None:
        self._verified = verified
        self.state = msgspec.structs.replace(self.state, version=verified.version)

    def _accept_cached(self) -> None:
        """Where no version was accepted yet, accept the cached one."""
        if self.state.version is None and (cached := self._verifier.from_cache()) is not None:
            self._accept(cached)

    def _faults_of_missing_alias(self) -> list[str]:
        """What to tell an operator whose server cannot start since there is no such alias."""
        try:
            self._open_registry().version(self.settings.serve.alias)
        except UserError as error:
            return list(error.faults)
        except Exception as error:
            return list(describe_error(error))
        return ["the alias has just been set; start again"]

    def _refusal(self, version: int, reasons: tuple[str, ...], *, final: bool) -> Refusal:
        """A refusal; the known one, with its time, if it is for the same reasons."""
        known = self.state.refusal
        if known and (known.version, known.why, known.final) == (version, reasons, final):
            return known
        return Refusal(version, reasons, utc_now(), final)

    def _report_unreachable(self, error: Exception) -> None:
        self._accept_cached()
        reason = describe_error(error)[0]
        name, alias = self.settings.registry.name, self.settings.serve.alias
        self._report(
            unreachable=self.state.unreachable or f"since {utc_now()}: {reason}",
            faults=[
                f"{reason}; and serve.cache_folder={self.settings.serve.cache_folder} holds no version of {name} "
                f"behind {alias} to start from"
            ],
        )

    def _report(self, faults: list[str] | None = None, **changes: Any) -> None:
        """Change the state; faults are kept only while there is no version to serve."""
        kept_faults = [] if self.state.version else faults or []
        self.state = msgspec.structs.replace(self.state, **changes, faults=kept_faults)
