"""Composing a trial's config: what the group choices give is composed once, the leaf values are laid on top."""

import copy
from collections import OrderedDict
from collections.abc import Sequence

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, flag_override

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
        self._bases: OrderedDict[tuple[str, ...], tuple[DictConfig, list[Override]]] = OrderedDict()

    def compose(self, groups: Sequence[Override], leaves: Sequence[Override]) -> DictConfig:
        """The config for these group choices and, after them, these values.

        Raises ConfigCompositionException where Hydra would.
        """
        # Only a plain `key=value` can be laid on a finished config: the rest changes what is composed.
        plain = [leaf for leaf in leaves if not (leaf.is_add() or leaf.is_force_add() or leaf.is_delete())]
        plain = [leaf for leaf in plain if leaf.package is None]
        if len(plain) < len(leaves):
            base, _ = self._base([*groups, *leaves])
            return copy.deepcopy(base)
        base, overrides = self._base(groups)
        config: DictConfig = copy.deepcopy(base)
        ConfigLoaderImpl._apply_overrides_to_config(list(leaves), config)
        self._record(config, overrides, leaves)
        return config

    def _base(self, overrides: Sequence[Override]) -> tuple[DictConfig, list[Override]]:
        lines = [str(override.input_line) for override in overrides]
        key = tuple(lines)
        if key in self._bases:
            self._bases.move_to_end(key)
            return self._bases[key]
        config = self.loader.load_sweep_config(self.master, [*self.fixed, *lines])
        # Hydra's own overrides are not part of a job's name.
        parsed = OverridesParser.create().parse_overrides([*self.fixed, *lines])
        task = [override for override in parsed if not override.is_hydra_override()]
        self._bases[key] = config, task
        if len(self._bases) > KEPT:
            self._bases.popitem(last=False)
        return config, task

    def _record(self, config: DictConfig, before: list[Override], leaves: Sequence[Override]) -> None:
        """Write into the config which overrides made it, as Hydra does."""
        hydra = config.hydra
        hydra.overrides.task.extend([leaf.input_line for leaf in leaves])
        names = hydra.job.config.override_dirname
        with flag_override(hydra, "struct", False):
            hydra.job.override_dirname = get_overrides_dirname(
                overrides=[*before, *leaves],
                kv_sep=names.kv_sep,
                item_sep=names.item_sep,
                exclude_keys=names.exclude_keys,
            )


def leaf_keys(config: DictConfig, prefix: str = "") -> list[str]:
    """The dotted keys of a config, values and nodes, without resolving any."""
    keys = []
    for raw, value in config.items_ex(resolve=False):
        key = str(raw)
        keys.append(f"{prefix}{key}")
        if OmegaConf.is_dict(value) and not value._is_none() and not value._is_missing():
            keys.extend(leaf_keys(value, f"{prefix}{key}."))
    return keys
