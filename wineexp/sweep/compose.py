"""Composing a trial's config: what the group choices give is composed once, the leaf values are laid on top."""

import copy
from collections import OrderedDict
from collections.abc import Sequence

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

# Bases kept: one for each combination of group choices, and what `+`, `~` and package overrides ask for.
KEPT = 64


class Composer:
    """Gives the config that Hydra's `load_sweep_config` would give, cheaper for every trial but the first.

    Parameters
    ----------
    loader : ConfigLoader
        Hydra's.
    master : DictConfig
        The sweep's own config: its overrides of `hydra.*` and its resolved values hold for every trial.
    fixed : sequence of str
        Overrides of every trial, applied before the others.

    """

    def __init__(self, loader: ConfigLoader, master: DictConfig, fixed: Sequence[str]) -> None:
        self.loader = loader
        self.master = master
        self.fixed = list(fixed)
        self._bases: OrderedDict[tuple[str, ...], _Base] = OrderedDict()

    def compose(self, groups: Sequence[Override], leaves: Sequence[Override]) -> DictConfig:
        """The config for these group choices and, after them, these values; its `hydra` node lasts until the next call.

        Raises ConfigCompositionException where Hydra would.
        """
        # Only a plain `key=value` can be laid on a finished config: the rest changes what is composed.
        if not all(leaf.type is OverrideType.CHANGE and leaf.package is None for leaf in leaves):
            groups, leaves = [*groups, *leaves], []
        base = self._base(groups)
        config: DictConfig = copy.deepcopy(base.task)
        ConfigLoaderImpl._apply_overrides_to_config(list(leaves), config)
        attach(config, base.hydra)
        base.record(leaves)
        return config

    def _base(self, overrides: Sequence[Override]) -> "_Base":
        lines = [str(override.input_line) for override in overrides]
        key = tuple(lines)
        if key not in self._bases:
            config = self.loader.load_sweep_config(self.master, [*self.fixed, *lines])
            parsed = OverridesParser.create().parse_overrides([*self.fixed, *lines])
            task, hydra = detach(config)
            # Hydra's own overrides are not part of a job's name.
            self._bases[key] = _Base(task, hydra, [item for item in parsed if not item.is_hydra_override()])
            if len(self._bases) > KEPT:
                self._bases.popitem(last=False)
        self._bases.move_to_end(key)
        return self._bases[key]


class _Base:
    """What a set of group choices gives: the task's part, copied for each trial, and the `hydra` node, shared.

    The `hydra` node is by far the larger, and a trial changes but a few of its values.
    """

    def __init__(self, task: DictConfig, hydra: DictConfig, overrides: Sequence[Override]) -> None:
        self.task, self.hydra, self.overrides = task, hydra, overrides

    def record(self, leaves: Sequence[Override]) -> None:
        """Write into the `hydra` node which overrides made the config, as Hydra does."""
        overrides = [*self.overrides, *leaves]
        names = self.hydra.job.config.override_dirname
        with read_write(self.hydra), open_dict(self.hydra):
            self.hydra.overrides.task = [item.input_line for item in overrides]
            self.hydra.job.override_dirname = get_overrides_dirname(
                overrides=overrides, kv_sep=names.kv_sep, item_sep=names.item_sep, exclude_keys=names.exclude_keys
            )


def detach(config: DictConfig) -> tuple[DictConfig, DictConfig]:
    """A copy of the config without its `hydra` node, and that node, not copied."""
    whole = config.__dict__["_content"]
    config.__dict__["_content"] = {key: node for key, node in whole.items() if key != "hydra"}
    try:
        return copy.deepcopy(config), whole["hydra"]
    finally:
        config.__dict__["_content"] = whole


def attach(config: DictConfig, hydra: DictConfig) -> None:
    """Put a `hydra` node into a config without copying it; its interpolations then look there."""
    config.__dict__["_content"] = {"hydra": hydra, **config.__dict__["_content"]}
    hydra._set_parent(config)


def leaf_keys(config: DictConfig, prefix: str = "") -> list[str]:
    """The dotted keys of a config, values and nodes, without resolving any."""
    keys = []
    for raw, value in config.items_ex(resolve=False):
        key = str(raw)
        keys.append(f"{prefix}{key}")
        if OmegaConf.is_dict(value) and not value._is_none() and not value._is_missing():
            keys.extend(leaf_keys(value, f"{prefix}{key}."))
    return keys
