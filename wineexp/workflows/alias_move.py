"""Carrying a decision out: a version is registered and an alias moved, or a refusal written down."""

import logging
from collections.abc import Callable, Mapping

from wineexp.core.errors import UserError
from wineexp.tracking.history import History
from wineexp.tracking.registry import Registry, Version

log = logging.getLogger(__name__)


def promote(
    registry: Registry,
    alias: str,
    champion: Version | None,
    why: list[str],
    *,
    find: Callable[[], Version | None],
    run_id: str,
    model_id: str,
    tags: Mapping[str, str],
) -> Version | None:
    """Register a stored model, unless there is a version of it already, and move an alias to it.

    Parameters
    ----------
    registry : Registry
    alias : str
    champion : Version or None
        What the alias named when the decision was made; None where it named nothing.
    why : list of str
        For the history.
    find : callable
        Gives the version that was trained from the same, if there is one; called while no other process can make it.
    run_id, model_id : str
    tags : mapping of str to str
        Of the version.

    Returns
    -------
    Version or None
        None where the alias no longer names the champion: nothing was done.
    """
    return _move(registry, alias, champion, why, lambda: find() or registry.register(run_id, model_id, tags))


def point(registry: Registry, alias: str, champion: Version | None, why: list[str], version: Version) -> Version | None:
    """Move an alias to a version that is registered already; parameters and result as those of `promote`."""
    return _move(registry, alias, champion, why, lambda: version)


def _move(
    registry: Registry, alias: str, champion: Version | None, why: list[str], make_version: Callable[[], Version]
) -> Version | None:
    with registry.lock():
        history = History(registry)
        history.settle()
        aliases = registry.aliases()
        if aliases.get(alias) != (champion and champion.number):
            return None
        version = make_version()
        if aliases.get(alias) != version.number:
            history.append("promoted", alias, moves(alias, aliases, version.number), why, version.run_id)
            history.settle()
    log.info("%s names version %d of %s now.", alias, version.number, registry.name)
    return version


def refuse(registry: Registry, alias: str, why: list[str], run_id: str) -> None:
    """Write a refusal down; no version is made and no alias moved."""
    with registry.lock():
        history = History(registry)
        history.settle()
        history.append("refused", alias, {}, why, run_id)
        history.settle()


def roll_back(registry: Registry, alias: str, reason: str | None = None) -> Version:
    """Make an alias name again what it named before; the two versions change places.

    Parameters
    ----------
    registry : Registry
    alias : str
    reason : str, optional
        For the history.

    Raises
    ------
    UserError
        It named nothing before, or that version's files are damaged.
    """
    previous = previous_alias(alias)
    version = registry.find(previous)
    if version is None:
        raise UserError(
            f"alias={alias}: {registry.name} has no alias {previous}, so there is nothing to go back to; "
            f"aliases: {', '.join(registry.aliases()) or '(none)'}"
        )
    registry.load(version)
    with registry.lock():
        history = History(registry)
        history.settle()
        aliases = registry.aliases()
        if aliases.get(previous) != version.number:
            raise UserError(f"alias {previous} has moved meanwhile; look at history=true and roll back again")
        why = [reason] if reason else []
        history.append("rolled back", alias, moves(alias, aliases, version.number), why, version.run_id)
        history.settle()
    return version


def previous_alias(alias: str) -> str:
    """The alias that names what another one named before."""
    return "previous" if alias == "champion" else f"previous-{alias}"


def moves(alias: str, aliases: Mapping[str, int], to: int) -> dict[str, list[int | None]]:
    """From and to of each alias that moves when `alias` is to name version `to`."""
    current = aliases.get(alias)
    changes: dict[str, list[int | None]] = {alias: [current, to]}
    if current is not None:
        previous = previous_alias(alias)
        changes[previous] = [aliases.get(previous), current]
    return changes
