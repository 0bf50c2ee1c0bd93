"""Private names of OmegaConf that the sweeper relies on; `tests/sweep/test_hydra_adapter.py` says what of each."""

import copy
import functools
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any

import yaml
from omegaconf import Container, DictConfig, Node, OmegaConf, ValueNode, base, flag_override, open_dict, read_write
from omegaconf._utils import get_omega_conf_dumper

# A sweep's trials have the same interpolations.
MAX_PARSED_INTERPOLATIONS = 1024


@contextmanager
def parsing_interpolations_once() -> Iterator[None]:
    """Keep what OmegaConf's parser makes of an interpolation: it parses the same text again whenever it is resolved."""
    name = "parse"
    parse = getattr(base, name)
    setattr(base, name, functools.lru_cache(MAX_PARSED_INTERPOLATIONS)(parse))
    try:
        yield
    finally:
        setattr(base, name, parse)


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


def set_value(node: DictConfig, key: str, value: Any) -> None:
    """Set a value of a config that may be read-only.

    `read_write` and `open_dict` make all nodes below forget their flags, which they then look up again.
    """
    known = node._get_node(key)
    if isinstance(known, ValueNode):
        with flag_override(known, "readonly", False):
            known._set_value(value)
    else:
        with read_write(node), open_dict(node):
            node[key] = value


def set_parent(node: DictConfig, parent: DictConfig) -> None:
    """Make a node's interpolations look in this parent, which may hold the node or not."""
    node._set_parent(parent)


class JobYaml:
    """Writes the YAML of a trial's configs, and keeps the text of what is the same in the next trial.

    Parameters
    ----------
    changing : collection of str
        The dotted keys below `hydra` whose values differ from trial to trial. What is at another key may be another
        node, but the same node has the same content.
    """

    def __init__(self, changing: Collection[str]) -> None:
        self._changing = frozenset(changing)
        # Nodes that are partly new and partly kept.
        self._mixed = {key.rpartition(".")[0] for key in changing}
        self._kept: dict[str, tuple[Node, str]] = {}

    def texts(self, hydra_config: DictConfig, *nodes: Any) -> list[str]:
        """What `OmegaConf.to_yaml` gives, unresolved, of a config that has a `hydra` node alone, and of other nodes.

        All that is new is written at once, by libyaml if it is installed: that takes a tenth of the time.
        """
        parts = list(self._parts("hydra", hydra_config.hydra))
        new = [(key, node) for key, node in parts if self._is_new(key, node)]
        written = _dump([_unresolved(node) for node in nodes] + [_nested(key, _unresolved(node)) for key, node in new])
        for (key, node), text in zip(new, written[len(nodes) :], strict=True):
            # Without the lines of the nodes that it is in.
            self._kept[key] = node, text.split("\n", key.count("."))[-1]
        lines = (_heading(key) if key in self._mixed else self._kept[key][1] for key, _ in parts)
        return ["hydra:\n" + "".join(lines), *written[: len(nodes)]]

    def _is_new(self, key: str, node: Node) -> bool:
        return key not in self._mixed and (key in self._changing or self._kept.get(key, (None, ""))[0] is not node)

    def _parts(self, parent: str, node: DictConfig) -> Iterator[tuple[str, Node]]:
        """What is written or kept as a whole, and the nodes that are mixed of such, each before what is in it."""
        for name, child in node.__dict__["_content"].items():
            key = f"{parent}.{name}"
            yield key, child
            if key in self._mixed:
                yield from self._parts(key, child)


def _heading(key: str) -> str:
    """The line of a node that others are in."""
    return "  " * key.count(".") + key.rpartition(".")[2] + ":\n"


def _nested(key: str, value: Any) -> dict[str, Any]:
    for name in reversed(key.split(".")):
        value = {name: value}
    return dict(value)


def _unresolved(node: Any) -> Any:
    if isinstance(node, Container) and not (node._is_none() or node._is_interpolation() or node._is_missing()):
        return OmegaConf.to_container(node, resolve=False, enum_to_str=True)
    value = node._value()
    return value.name if isinstance(value, Enum) else value


def _dump(documents: Sequence[Any]) -> list[str]:
    """The YAML of each document."""
    text = yaml.dump_all(
        documents, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False, explicit_start=True
    )
    # No other line can begin with this: what is in a document is indented or quoted.
    return re.split(r"^---[ \n]", text, flags=re.MULTILINE)[1:]


class _Dumper(getattr(yaml, "CDumper", yaml.Dumper)):  # type: ignore[misc]
    """PyYAML's fastest dumper with OmegaConf's representers, which quote a string that looks like a number."""


_Dumper.yaml_representers = get_omega_conf_dumper().yaml_representers
