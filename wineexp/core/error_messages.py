"""Messages for errors that are a user's mistake, Hydra's and OmegaConf's own errors among them."""

import yaml
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from wineexp.core.errors import UserError, did_you_mean


def explain(error: BaseException | None) -> str | None:
    """A message that says what the user can correct, or None for an error that is wineexp's own fault."""
    chain = []
    while error is not None:
        chain.append(error)
        error = error.__cause__
    for link in chain:
        if isinstance(link, UserError):
            return str(link)
    for link in chain:
        if isinstance(link, MissingConfigException) and link.options is not None:
            group, _, choice = str(link.missing_cfg_file).rpartition("/")
            return f"{group}={choice}: no such choice; {did_you_mean(choice, link.options)}"
        if isinstance(link, ConfigKeyError | ConfigAttributeError) and isinstance(link.parent_node, DictConfig):
            keys = [str(key) for key in link.parent_node]
            return f"{link.full_key}: no such key; {did_you_mean(str(link.key), keys)}"
        if isinstance(link, OmegaConfBaseException) and link.full_key:
            return f"{link.full_key}: {str(link.msg).splitlines()[0]}"
    if isinstance(chain[0], HydraException | OmegaConfBaseException | yaml.YAMLError):
        return " ".join(str(chain[-1]).split())
    return None
