"""Composing a trial's config: what its config groups give is composed once, its values are laid on top."""

import copy
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf

from wineexp.sweep._hydra import apply_overrides, set_override_dirname
from wineexp.sweep._omegaconf import attach_hydra, detach_hydra, set_value

MAX_CACHED_CONFIGS = 64


class Composer:
    """Gives the config that Hydra's `load_sweep_config` gives, at a fraction of its cost for most trials.

    Parameters
    ----------
    loader : ConfigLoader
        Hydra's.
    sweep_config : DictConfig
        The sweep's own config: its overrides of `hydra.*` and its resolved values hold for every trial.
    fixed_overrides : sequence of str
        Overrides that every trial has, applied before its own.

    """

    def __init__(self, loader: ConfigLoader, sweep_config: DictConfig, fixed_overrides: Sequence[str]) -> None:
        self.loader = loader
        self.sweep_config = sweep_config
        self.fixed_overrides = list(fixed_overrides)
        # By the overrides that choose config groups or change a config's structure.
        self._cache: OrderedDict[tuple[str, ...], _ComposedGroups] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Without the cache, so that little is sent to another process."""
        return self.__dict__ | {"_cache": OrderedDict()}

    def compose(self, groups: Sequence[Override], values: Sequence[Override]) -> DictConfig:
        """The config of these choices of config groups and these values; its `hydra` node lasts until the next call.

        Raises ConfigCompositionException where Hydra would.
        """
        # Only a plain `key=value` can be laid on a composed config; others change what is composed.
        if not all(item.type is OverrideType.CHANGE and item.package is None for item in values):
            groups, values = [*groups, *values], []
        composed = self._composed(groups)
        config: DictConfig = copy.deepcopy(composed.task_config)
        apply_overrides(values, config)
        attach_hydra(config, composed.hydra_node)
        composed.record_overrides(values)
        return config

    def _composed(self, overrides: Sequence[Override]) -> "_ComposedGroups":
        lines = [str(override.input_line) for override in overrides]
        key = tuple(lines)
        if key not in self._cache:
            config = self.loader.load_sweep_config(self.sweep_config, [*self.fixed_overrides, *lines])
            parsed = OverridesParser.create().parse_overrides([*self.fixed_overrides, *lines])
            task_config, hydra_node = detach_hydra(config)
            # Overrides of `hydra.*` are not part of a job's name.
            task_overrides = [item for item in parsed if not item.is_hydra_override()]
            self._cache[key] = _ComposedGroups(task_config, hydra_node, task_overrides)
            if len(self._cache) > MAX_CACHED_CONFIGS:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]


class _ComposedGroups:
    """A composed config in two parts: the task's, to be copied for each trial, and the `hydra` node, which is shared.

    The `hydra` node is by far the larger one, and trials differ in a few of its values only.
    """

    def __init__(self, task_config: DictConfig, hydra_node: DictConfig, overrides: Sequence[Override]) -> None:
        self.task_config, self.hydra_node, self.overrides = task_config, hydra_node, overrides

    def record_overrides(self, values: Sequence[Override]) -> None:
        """Write the overrides that made a trial's config into the `hydra` node, as Hydra does."""
        overrides = [*self.overrides, *values]
        set_value(self.hydra_node.overrides, "task", [item.input_line for item in overrides])
        set_override_dirname(self.hydra_node, overrides)


def hydra_overrides(config: DictConfig) -> list[str]:
    """The overrides of Hydra's own config on the command line; an interpolation in one may not be resolved yet."""
    lines = OmegaConf.to_container(config.hydra.overrides.hydra, resolve=False)
    return [str(line) for line in lines or []]


def dotted_keys(config: DictConfig) -> list[str]:
    """The dotted keys of a config, of its values and its nodes, without resolving an interpolation."""
    container = OmegaConf.to_container(config, resolve=False)
    return list(_dotted_keys(container, ""))


def _dotted_keys(container: Any, prefix: str) -> Iterator[str]:
    items = container.items() if isinstance(container, dict) else enumerate(container)
    for key, value in items:
        yield f"{prefix}{key}"
        if isinstance(value, dict | list):
            yield from _dotted_keys(value, f"{prefix}{key}.")
