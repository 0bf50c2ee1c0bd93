"""Composing a program's config: with choices of the working folder, and all faults, where Hydra stops at the first."""

import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.errors import MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from wineexp.core.addresses import keep_credentials
from wineexp.core.config import GROUPS
from wineexp.core.error_messages import error_chain, explain
from wineexp.core.errors import UserError
from wineexp.core.paths import CONF

# By program, words of its command line and the keys of its config that they mean: each word is the name of a config
# group, too, of which Hydra would look a choice up.
ALIASES = {"add": {"target": "column"}}

# The files that a warning names.
MAX_SHOWN_FILES = 3

# Folders of which nothing was logged yet, since a program's log begins after its config is composed.
_unlogged_folders: list[Path] = []

log = logging.getLogger(__name__)


def find_config_folder() -> Path | None:
    """`conf` in the working folder, where it has choices of config groups and is not that of a clone of wineexp.

    `log_found_folder` says so when there is a log.
    """
    folder = Path("conf")
    groups = {path.name for path in CONF.iterdir() if path.is_dir()}
    if (folder / "train.yaml").exists() or not any((folder / group).is_dir() for group in groups):
        return None
    _unlogged_folders[:] = [folder.absolute()]
    return folder


def log_found_folder() -> None:
    """Say once that choices of a folder can be used that no option names, and which of them cannot."""
    if not _unlogged_folders:
        return
    folder = _unlogged_folders.pop()
    lines = [f"choices in the folder {folder.name} are used, too; --config-dir names another one"]
    files = sorted(path.relative_to(folder) for path in folder.rglob("*.yaml"))
    if hidden := [f"{folder.name}/{file}" for file in files if (CONF / file).exists()]:
        more = f" and {len(hidden) - MAX_SHOWN_FILES} more" if len(hidden) > MAX_SHOWN_FILES else ""
        shown = ", ".join(hidden[:MAX_SHOWN_FILES])
        lines.append(f"not read, since wineexp has choices of the same name: {shown}{more}; rename what is yours")
    # The standard output of a server, which has no such log, has lines of JSON alone.
    is_server = HydraConfig.initialized() and HydraConfig.get().job_logging.get("root") is None
    for line in lines:
        if is_server:
            print(line, file=sys.stderr)
        else:
            log.info(line)


def refuse_hidden_choices(hydra_settings: HydraConf | DictConfig) -> None:
    """Refuse choices of a folder of the user's own that have the name of one of wineexp's, which is read instead.

    Parameters
    ----------
    hydra_settings : HydraConf or DictConfig
        Of a composed config.

    Raises
    ------
    UserError
        With each such choice whose two files differ.
    """
    runtime = hydra_settings.runtime
    folders = [Path(source.path) for source in runtime.config_sources if source.schema == "file"]
    faults = []
    for key, choice in runtime.choices.items():
        name = f"{key.partition('@')[0]}/{choice}.yaml"
        if not (CONF / name).is_file():
            continue
        read = (CONF / name).read_bytes()
        faults += [
            f"{key}={choice}: {folder / name} is not read, since wineexp has a choice of this name; rename the file"
            for folder in folders
            if (folder / name).is_file() and (folder / name).read_bytes() != read
        ]
    if faults:
        raise UserError(*faults)


def resolve_aliases(program: str, arguments: Sequence[str]) -> list[str]:
    """The arguments of a program with the keys of its config for the words in `ALIASES`."""
    keys = ALIASES.get(program, {})
    split = [argument.partition("=") for argument in arguments]
    return [f"{keys.get(word, word)}{equals}{value}" for word, equals, value in split]


def compose_program(program: str, overrides: Sequence[str], config_dirs: Sequence[str | Path]) -> DictConfig:
    """Compose a program's config with overrides, Hydra's own settings included.

    Parameters
    ----------
    program : str
        Name of conf/<program>.yaml.
    overrides : sequence of str
    config_dirs : sequence of str or Path
        Folders with further choices of config groups.

    Raises
    ------
    UserError
        With every fault: an override that fails is left out, and the others are tried again.
    """
    search_path = [f"hydra.searchpath=[{Path(folder).absolute().as_uri()}]" for folder in config_dirs]
    faults: list[str] = []
    remaining = resolve_aliases(program, [keep_credentials(override) for override in overrides])
    with hydra.initialize_config_dir(str(CONF), job_name=program, version_base="1.3"):
        while True:
            try:
                composed = hydra.compose(program, [*search_path, *remaining], return_hydra_config=True)
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
    try:
        compose_program(program, overrides, folders)
    except UserError as all_faults:
        return str(all_faults)
    except Exception:
        return explain(error)
    return explain(error)


def _without_failing(error: BaseException, overrides: list[str]) -> list[str] | None:
    """The overrides without the one that failed, and without those of its choice; None where it is not known which."""
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
