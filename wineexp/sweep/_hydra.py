"""Private names of Hydra that the sweeper relies on; `tests/sweep/test_hydra_adapter.py` says what of each.

They are the same in Hydra 1.3.8 and 1.4.0rc3, unless a docstring says otherwise.
"""

from collections.abc import Sequence
from typing import Any

from hydra._internal import config_loader_impl
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.override_parser.types import Override, OverrideType, ValueType
from hydra.core.utils import _flush_loggers
from hydra.types import HydraContext
from omegaconf import DictConfig

from wineexp.sweep._omegaconf import set_value

# The `_target_` of Hydra's own launcher, which runs jobs one after another in this process.
BASIC_LAUNCHER = f"{BasicLauncher.__module__}.{BasicLauncher.__qualname__}"

# What `hydra.sweep.dir` is where the user has stated nothing.
DEFAULT_SWEEP_DIR = "multirun/${now:%Y-%m-%d}/${now:%H-%M-%S}"


def without_callbacks(context: HydraContext) -> HydraContext:
    """The context for a job that is not the user's, of which the callbacks in `hydra.callbacks` should not hear."""
    return HydraContext(context.config_loader, Callbacks())


def apply_overrides(overrides: Sequence[Override], config: DictConfig) -> None:
    """Change a composed config in place; raises ConfigCompositionException as Hydra does for its command line."""
    ConfigLoaderImpl._apply_overrides_to_config(list(overrides), config)


def make_override(key: str, text: str, value: Any, kind: OverrideType = OverrideType.CHANGE) -> Override:
    """The override that Hydra's parser gives for `key=text`, or for `~key`, without the time that parsing takes."""
    override = Override(type=kind, key_or_group=key, value_type=ValueType.ELEMENT, _value=value)
    is_deletion = kind is OverrideType.DEL
    override.input_line = override.get_key_element() + ("" if is_deletion else f"={text}")
    return override


def set_override_dirname(hydra_node: DictConfig, overrides: Sequence[Override]) -> None:
    """Write the name that Hydra makes of a job's overrides into its config.

    Hydra 1.4 has a resolver in its place, so that nothing is to be written.
    """
    compute = getattr(config_loader_impl, "get_overrides_dirname", None)
    if compute is not None:
        options = hydra_node.job.config.override_dirname
        dirname = compute(
            overrides=list(overrides),
            kv_sep=options.kv_sep,
            item_sep=options.item_sep,
            exclude_keys=options.exclude_keys,
        )
        set_value(hydra_node.job, "override_dirname", dirname)


def flush_loggers() -> None:
    """Write what log handlers hold back, as Hydra does at the end of a job."""
    _flush_loggers()
