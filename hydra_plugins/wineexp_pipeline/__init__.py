"""Gives Hydra what conf/pipeline.yaml names, so that DVC can compose it.

DVC composes the config in its own process, where wineexp's programs are not imported; but Hydra finds this plugin in
the project's root and runs it first.
"""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from wineexp.core.config import GROUPS, Train

ConfigStore.instance().store("train_schema", Train, provider="wineexp")


class ChosenConfigSource(ConfigSource):
    """The groups `chosen/data`, `chosen/target`, ..., in which each choice of any name is a config with that name.

    Each stage needs the names of the choices, and a composed config holds their contents only. The choices themselves
    may lie in any folder, a user's own `--config-dir` too, so that they cannot be listed here.
    """

    @staticmethod
    def scheme() -> str:
        """The beginning of its path in the search path."""
        return "chosen"

    def load_config(self, config_path: str) -> ConfigResult:
        """The name of a choice, under its group."""
        _, group, name = config_path.split("/", 2)
        node = OmegaConf.create({group: name.removesuffix(".yaml")})
        return ConfigResult(provider=self.provider, path=self.full_path(), config=node, header={"package": "chosen"})

    def available(self) -> bool:
        """It needs no folder."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Whether the path is `chosen` or one of its groups."""
        return config_path.rstrip("/") in ("chosen", *(f"chosen/{group}" for group in GROUPS))

    def is_config(self, config_path: str) -> bool:
        """Whether the path is of a choice."""
        return config_path.startswith(tuple(f"chosen/{group}/" for group in GROUPS))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """No choice is listed: there is one of every name."""
        return []


class ChosenSearchPath(SearchPathPlugin):
    """Adds the source to the search path of every program."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append it, behind all folders."""
        search_path.append(provider="wineexp", path="chosen://")
