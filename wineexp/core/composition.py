"""All faults of the overrides that a config cannot be composed with, where Hydra stops at the first."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
from hydra.errors import MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from wineexp.core.config import GROUPS
from wineexp.core.error_messages import error_chain, explain
from wineexp.core.errors import UserError
from wineexp.core.paths import CONF


def compose_or_explain(compose: Callable[[Sequence[str]], DictConfig], overrides: Sequence[str]) -> DictConfig:
    """Compose a config with overrides.

    Parameters
    ----------
    compose : callable
        Composes a config with the overrides that it is given.
    overrides : sequence of str

    Raises
    ------
    UserError
        With every fault: an override that fails is left out, and the others are tried again.
    """
    faults: list[str] = []
    remaining = list(overrides)
    while True:
        try:
            composed = compose(remaining)
        except Exception as error:
            message = explain(error)
            if message is None and not faults:
                raise
            faults += [message] if message else []
            rest = _without_failing(error, remaining)
            if rest is None:
                raise UserError(*dict.fromkeys(faults)) from error
            remaining = rest
            continue
        if faults:
            raise UserError(*dict.fromkeys(faults))
        return composed


def explain_command_line(program: str, arguments: Sequence[str], error: BaseException | None) -> str | None:
    """As `explain`, with all faults of the overrides on a command line that could not be composed."""
    if _failing_key(error) is None:
        return explain(error)
    overrides, folders = [], []
    remaining = iter(arguments)
    for argument in remaining:
        if match := re.fullmatch("(?:--config-dir|-cd)(?:=(.*))?", argument):
            folders.append(match[1] or next(remaining, ""))
        elif argument.startswith("-"):
            # Other options may change what is composed, or for which purpose.
            return explain(error)
        else:
            overrides.append(argument)
    search_path = [f"hydra.searchpath=[{Path(folder).absolute().as_uri()}]" for folder in folders]
    try:
        with hydra.initialize_config_dir(str(CONF), job_name=program, version_base="1.3"):
            compose_or_explain(
                lambda some: hydra.compose(program, [*search_path, *some], return_hydra_config=True), overrides
            )
    except UserError as all_faults:
        return str(all_faults)
    except Exception:
        return explain(error)
    return explain(error)


def _without_failing(error: BaseException, overrides: list[str]) -> list[str] | None:
    """The overrides without the one that failed, and without those of its choice; None where it cannot be told."""
    key = _failing_key(error)
    rest = [
        override
        for override in overrides
        if key is None or not (_key(override) == key or _key(override).startswith(f"{key}."))
    ]
    return rest if key is not None and len(rest) < len(overrides) else None


def _failing_key(error: BaseException | None) -> str | None:
    """The key, or the group, of the override that failed; None where others may depend on it."""
    for link in error_chain(error):
        if isinstance(link, MissingConfigException) and link.options is not None:
            group = str(link.missing_cfg_file).rpartition("/")[0]
            return group if group in GROUPS else None
        if isinstance(link, ConfigKeyError | ConfigAttributeError):
            return str(link.full_key)
    return None


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0].partition("@")[0]
