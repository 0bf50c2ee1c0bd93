"""Messages for errors that are a user's mistake, Hydra's and OmegaConf's own errors among them."""

import errno
import os
from collections.abc import Iterator

import yaml
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from wineexp.core._omegaconf import root_of
from wineexp.core.errors import UserError, did_you_mean

# What the user can do about a failure of the file system; others are a fault of wineexp's until the opposite is shown.
ELSEWHERE = "write elsewhere with hydra.run.dir=FOLDER, or hydra.sweep.dir=FOLDER for a sweep"
FILE_SYSTEM_REMEDIES = {
    errno.ENOSPC: f"make room, or {ELSEWHERE}",
    errno.EDQUOT: f"make room, or {ELSEWHERE}",
    errno.EROFS: ELSEWHERE,
    errno.EACCES: f"give the rights, or {ELSEWHERE}",
    errno.EPERM: f"give the rights, or {ELSEWHERE}",
    errno.ENAMETOOLONG: "choose a shorter name",
}

# The packages of Hydra's launchers that are not installed with it.
LAUNCHER_PACKAGES = {
    "joblib": "hydra-joblib-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
}
# What the keys of Hydra's own Optuna plugin are called here.
KEYS_OF_OTHERS = {
    "hydra.sweeper.n_jobs": "several workers at once are hydra/launcher=joblib hydra.sweeper.n_workers=4",
    "hydra.sweeper.search_space": "the space is hydra.sweeper.params, a file of conf/search, or the command line",
    "hydra.sweeper.custom_search_space": "a function that suggests is named by hydra.sweeper.space",
    "hydra.sweeper.max_failure_rate": "hydra.sweeper.max_failures is a number of trials",
    "hydra.sweeper.sampler.seed": "hydra.sweeper.seed is the seed of every sampler",
}


def error_chain(error: BaseException | None) -> list[BaseException]:
    """An error and its causes, the last first."""
    chain = []
    while error is not None:
        chain.append(error)
        error = error.__cause__
    return chain


def explain(error: BaseException | None) -> str | None:
    """A message that says what the user can correct, or None for an error that is wineexp's own fault."""
    chain = error_chain(error)
    for link in chain:
        if isinstance(link, UserError):
            return str(link)
    for link in chain:
        if isinstance(link, MissingConfigException) and link.options is not None:
            group, _, choice = str(link.missing_cfg_file).rpartition("/")
            if group == "hydra/launcher" and choice in LAUNCHER_PACKAGES:
                return f"{group}={choice}: its package is missing: pip install {LAUNCHER_PACKAGES[choice]}"
            return f"{group}={choice}: no such choice; {did_you_mean(choice, link.options)}"
        if isinstance(link, ConfigKeyError | ConfigAttributeError) and isinstance(link.parent_node, DictConfig):
            if str(link.full_key) in KEYS_OF_OTHERS:
                return f"{link.full_key}: no such key; {KEYS_OF_OTHERS[str(link.full_key)]}"
            keys = [str(key) for key in link.parent_node]
            elsewhere = _same_key_elsewhere(link.parent_node, str(link.full_key))
            hint = f"did you mean {elsewhere}?" if elsewhere else did_you_mean(str(link.key), keys)
            return f"{link.full_key}: no such key; {hint}"
        if isinstance(link, OmegaConfBaseException) and link.full_key:
            return f"{link.full_key}: {str(link.msg).splitlines()[0]}"
    for link in chain:
        if isinstance(link, OSError) and link.errno in FILE_SYSTEM_REMEDIES:
            place = f"{link.filename}: " if link.filename else ""
            return f"{place}{os.strerror(link.errno)}; {FILE_SYSTEM_REMEDIES[link.errno]}"
    if chain and isinstance(chain[0], HydraException | OmegaConfBaseException | yaml.YAMLError):
        return " ".join(str(chain[-1]).split())
    return None


def _same_key_elsewhere(node: DictConfig, full_key: str) -> str | None:
    """The nearest place of a key that a node lacks; None where there is none.

    It is in one of the nodes around that node; a key without a dot may be anywhere.
    """
    above, _, key = full_key.rpartition(".")
    places = list(_places_of(key, root_of(node)))
    if not above:
        return min(places, key=lambda place: place.count("."), default=None)
    return max((place for place in places if f"{above}.".startswith(_folder(place))), key=len, default=None)


def _folder(full_key: str) -> str:
    return full_key[: full_key.rfind(".") + 1]


def _places_of(key: str, node: DictConfig, prefix: str = "") -> Iterator[str]:
    """The full names of all keys of this name below a node."""
    for name in map(str, node):
        if name == key:
            yield f"{prefix}{name}"
        child = None if OmegaConf.is_missing(node, name) or OmegaConf.is_interpolation(node, name) else node[name]
        if isinstance(child, DictConfig):
            yield from _places_of(key, child, f"{prefix}{name}.")
