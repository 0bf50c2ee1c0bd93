"""Trying a plan on the config before any trial: every key must exist, and every value must be accepted."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig
from optuna.distributions import CategoricalDistribution
from optuna.samplers import RandomSampler
from optuna.study import create_study

from wineexp.core.errors import did_you_mean
from wineexp.sweep._hydra import apply_overrides
from wineexp.sweep.compose import dotted_keys
from wineexp.sweep.plan import Plan
from wineexp.sweep.space import Parameter, Point

# The values of a categorical parameter that are tried; a range or an interval is tried at both ends.
MAX_TRIED_VALUES = 200

# From a trial's config to what is wrong with it, in sentences.
Check = Callable[[DictConfig], list[str]]


def dry_run(plan: Plan, space_name: str, check: Check | None) -> list[str]:
    """The faults that show when a plan's values are laid on the configs that its trials will have.

    Parameters
    ----------
    plan : Plan
    space_name : str
        The dotted path of the plan's space function.
    check : callable or None
        Gives what is wrong with a trial's config; it gets those that can be composed.
    """
    first_choices = {group.name: (group.grid() or [None])[0] for group in plan.space.groups}
    faults: list[str] = []
    for point in plan.space.points_of_each_choice(first_choices, plan.space.groups):
        point_faults = _try_point(plan, point, space_name)
        # Only what can be composed can be checked.
        if check is not None and not point_faults:
            point_faults = [fault for config in _configs_to_check(plan, point) for fault in check(config)]
        faults += point_faults
    return list(dict.fromkeys(faults))


def _try_point(plan: Plan, point: Point, space_name: str) -> list[str]:
    """The faults of a point's choices, and of each value on the config that they give."""
    groups = plan.space.group_overrides(point)
    try:
        config = plan.composer.compose(groups, [])
    except ConfigCompositionException as error:
        return [" ".join(str(error).split())]
    faults: list[str] = []
    for parameter in plan.space.active(point):
        if parameter.group:
            continue
        for override in map(parameter.override, _values_to_try(parameter)):
            # What adds a key, or is merged into what is there, needs a config that no other value has changed.
            leaves_traces = override.is_add() or isinstance(override.value(), dict | list)
            faults += _try_override(plan.composer.compose(groups, []) if leaves_traces else config, override)
    if plan.space_function is not None:
        faults += _try_space_function(plan, space_name)
    return faults


def _configs_to_check(plan: Plan, point: Point) -> Iterator[DictConfig]:
    """The config of a point's choices with the first value of each parameter, and with one parameter's other values."""
    groups = plan.space.group_overrides(point)
    tried = [
        [parameter.override(value) for value in _values_to_try(parameter)]
        for parameter in plan.space.active(point)
        if not parameter.group
    ]
    first = [overrides[0] for overrides in tried]
    yield plan.composer.compose(groups, first)
    for position, overrides in enumerate(tried):
        for override in overrides[1:]:
            yield plan.composer.compose(groups, [*first[:position], override, *first[position + 1 :]])


def _try_override(config: DictConfig, override: Override) -> list[str]:
    """What is wrong with an override of this config, which it changes."""
    try:
        apply_overrides([override], config)
    except ConfigCompositionException as error:
        keys = dotted_keys(config)
        if override.key_or_group not in keys and not override.is_add():
            return [_unknown_key(override.key_or_group, keys)]
        return [f"{override.input_line}: {error.__cause__ or error}".splitlines()[0]]
    return []


def _try_space_function(plan: Plan, space_name: str) -> list[str]:
    study = create_study(sampler=RandomSampler(seed=0))
    try:
        groups, values = plan.suggest(study.ask())
        config = plan.composer.compose(groups, [])
    except Exception as error:
        return [f"space={space_name}: {type(error).__name__}: {error}"]
    return [fault for override in values for fault in _try_override(config, override)]


def _values_to_try(parameter: Parameter) -> list[Any]:
    dist = parameter.distribution
    if isinstance(dist, CategoricalDistribution):
        return list(dist.choices)[:MAX_TRIED_VALUES]
    return [dist.low, dist.high]


def _unknown_key(key: str, keys: Sequence[str]) -> str:
    """The fault of a key that the config does not have, with the keys beside it."""
    parent = key
    while "." in parent:
        parent = parent.rpartition(".")[0]
        if parent in keys:
            siblings = [name for name in keys if name.startswith(f"{parent}.")]
            return f"{key}: no such key in the config; {did_you_mean(key, siblings)}"
    return f"{key}: no such key in the config; {did_you_mean(key, [name for name in keys if '.' not in name])}"
