"""Private names of OmegaConf that the sweeper relies on; `tests/sweep/test_hydra_adapter.py` says what of each."""

import copy
from collections.abc import Collection
from enum import Enum
from typing import Any

import yaml
from omegaconf import Container, DictConfig, OmegaConf
from omegaconf._utils import get_omega_conf_dumper


def detach_hydra(config: DictConfig) -> tuple[DictConfig, DictConfig]:
    """A copy of the config without its `hydra` node, and that node itself, not copied."""
    content = config.__dict__["_content"]
    config.__dict__["_content"] = {key: node for key, node in content.items() if key != "hydra"}
    try:
        return copy.deepcopy(config), content["hydra"]
    finally:
        config.__dict__["_content"] = content


def attach_hydra(config: DictConfig, hydra_node: DictConfig) -> None:
    """Put a `hydra` node into a config without copying it; its interpolations then look there."""
    config.__dict__["_content"] = {"hydra": hydra_node, **config.__dict__["_content"]}
    set_parent(hydra_node, config)


def set_parent(node: DictConfig, parent: DictConfig) -> None:
    """Make a node's interpolations look in this parent, which may hold the node or not."""
    node._set_parent(parent)


def to_yaml(node: Any) -> str:
    """What `OmegaConf.to_yaml` gives, unresolved, written by libyaml if it is installed: in a tenth of the time."""
    return _dump(OmegaConf.to_container(node, resolve=False, enum_to_str=True))


class HydraYaml:
    """Gives what `to_yaml` gives of a config that has a `hydra` node alone, and keeps the text of what stays the same.

    Parameters
    ----------
    changing : collection of str
        The keys of the `hydra` node that differ from trial to trial. What is below another key may be another node,
        but the same node has the same content.
    """

    def __init__(self, changing: Collection[str]) -> None:
        self.changing = changing
        self._kept: dict[str, tuple[Any, str]] = {}

    def text(self, hydra_config: DictConfig) -> str:
        """The YAML of a config."""
        content = hydra_config.hydra.__dict__["_content"]
        return "hydra:\n" + "".join(self._part(str(key), node) for key, node in content.items())

    def _part(self, key: str, node: Any) -> str:
        known, text = self._kept.get(key, (None, ""))
        if known is node and key not in self.changing:
            return text
        is_value = not isinstance(node, Container) or node._is_none() or node._is_interpolation() or node._is_missing()
        value = node._value() if is_value else OmegaConf.to_container(node, resolve=False, enum_to_str=True)
        value = value.name if isinstance(value, Enum) else value
        text = _dump({"hydra": {key: value}}).removeprefix("hydra:\n")
        self._kept[key] = (node, text)
        return text


def _dump(container: Any) -> str:
    text: str = yaml.dump(container, default_flow_style=False, allow_unicode=True, sort_keys=False, Dumper=_Dumper)
    return text


class _Dumper(getattr(yaml, "CDumper", yaml.Dumper)):  # type: ignore[misc]
    """PyYAML's fastest dumper with OmegaConf's representers, which quote a string that looks like a number."""


_Dumper.yaml_representers = get_omega_conf_dumper().yaml_representers
