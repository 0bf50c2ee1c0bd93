"""Reading a plan: from the command line, `params` and the search files, with every fault before any trial."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import CategoricalDistribution
from optuna.samplers import RandomSampler
from optuna.study import create_study
from optuna.trial import Trial

from wineexp.core.errors import UserError, did_you_mean
from wineexp.sweep.compose import Composer, leaf_keys
from wineexp.sweep.plan import Plan, quoted, spelt
from wineexp.sweep.space import Parameter, Point, Space, parameter_of

# Values of one parameter that are tried on the config before the sweep begins.
TRIED = 200


class Reader:
    """Reads a plan, gathering every fault before it raises.

    Parameters
    ----------
    settings : mapping
        `hydra.sweeper` as a plain container.
    loader : ConfigLoader
        Hydra's.
    master : DictConfig
        The sweep's own config.

    """

    def __init__(self, settings: Mapping[str, Any], loader: ConfigLoader, master: DictConfig) -> None:
        self.settings, self.loader, self.master = settings, loader, master
        self.faults: list[str] = []
        self._options: dict[str, list[str]] = {}

    def read(self, arguments: Sequence[str]) -> Plan:
        """The plan for these command-line overrides.

        Raises
        ------
        UserError
            With every fault of the space: nothing has run by then.

        """
        written = [f"{key}={spelt(value)}" for key, value in self.settings["params"].items()]
        told = list(self._parse(arguments))
        self.faults += _twice(told)
        stated = {_key(item): item for item in (*self._parse(written), *told)}
        fixed = {key: item for key, item in stated.items() if not item.is_sweep_override()}
        parameters = [self._parameter(item) for key, item in stated.items() if key not in fixed]
        found = [parameter for parameter in parameters if parameter is not None]
        for group, space_group in (self.settings["search"] or {}).items():
            found.extend(self._searched(group, space_group, stated, found))
        found.sort(key=lambda parameter: not parameter.group)
        if self.faults:
            raise UserError(*self.faults)
        lines = tuple(str(item.input_line) for item in fixed.values())
        plan = Plan(lines, Space(tuple(found)), self._groups(), self._function())
        self._try(plan)
        if self.faults:
            raise UserError(*dict.fromkeys(self.faults))
        return plan

    def choices(self, group: str) -> list[str]:
        """The choices of a config group; empty for what is no group."""
        if group not in self._options:
            self._options[group] = self.loader.get_group_options(
                group, config_name=self.master.hydra.job.config_name, overrides=self._searchpath()
            )
        return self._options[group]

    def _searchpath(self) -> list[str]:
        return [line for line in self.master.hydra.overrides.hydra if line.startswith("hydra.searchpath=")]

    def _groups(self) -> frozenset[str]:
        return frozenset(str(key).split("@")[0] for key in self.master.hydra.runtime.choices)

    def _parse(self, lines: Sequence[str]) -> Iterator[Override]:
        parser = OverridesParser.create(config_loader=self.loader)
        for line in lines:
            try:
                yield parser.parse_override(line)
            except (HydraException, ValueError) as error:
                reason = str(error).splitlines()[0]
                self.faults.append(f"{line}: not in Hydra's sweep syntax ({reason})")

    def _parameter(self, override: Override, name: str | None = None) -> Parameter | None:
        try:
            return parameter_of(override, self.choices(override.key_or_group) or None, name)
        except (ValueError, HydraException) as error:
            self.faults.append(f"{_key(override)}: {error}")
            return None

    def _searched(
        self, group: str, space_group: str, stated: Mapping[str, Override], found: Sequence[Parameter]
    ) -> Iterator[Parameter]:
        """The parameters that come with a group's choices, but for those the user states."""
        chosen = next((parameter for parameter in found if parameter.key == group), None)
        if chosen is None:
            override = stated.get(group)
            choice = override.value() if override else self.master.hydra.runtime.choices.get(group)
            for _, parameter in self._space_file(space_group, str(choice), stated, ""):
                yield parameter
            return
        for text in chosen.texts:
            for _, parameter in self._space_file(space_group, text, stated, f"@{text}"):
                yield replace(parameter, when=(group, text))

    def _space_file(
        self, space_group: str, choice: str, stated: Mapping[str, Override], suffix: str
    ) -> Iterator[tuple[str, Parameter]]:
        if choice not in self.choices(space_group):
            return
        node = space_group.replace("/", ".")
        config = self.loader.load_configuration(
            f"{space_group}/{choice}", [*self._searchpath(), *self._primary_searchpath()], RunMode.RUN
        )
        lines = [f"{key!s}={spelt(value)}" for key, value in OmegaConf.select(config, node).items()]
        for override in self._parse(lines):
            key = _key(override)
            if key in stated:
                continue
            if not override.is_sweep_override():
                self.faults.append(f"{space_group}/{choice}: {override.input_line} varies nothing; put it in the model")
                continue
            parameter = self._parameter(override, f"{key}{suffix}")
            if parameter is not None:
                yield key, parameter

    def _primary_searchpath(self) -> list[str]:
        paths = OmegaConf.select(self.master, "hydra.searchpath") or []
        return [] if self._searchpath() or not paths else [f"hydra.searchpath=[{','.join(map(quoted, paths))}]"]

    def _function(self) -> Callable[[Trial], Any] | None:
        path = self.settings["space"]
        if path is None:
            return None
        try:
            function: Callable[[Trial], Any] = get_method(path)
        except Exception as error:
            self.faults.append(f"space={path}: no such callable ({error})")
            return None
        return function

    def _try(self, plan: Plan) -> None:
        """Lay the ends and choices of every parameter on the config it will meet."""
        composer = Composer(self.loader, self.master, plan.fixed)
        for branch in _branches(plan.space):
            try:
                config = composer.compose(plan.space.groups(branch), [])
            except ConfigCompositionException as error:
                self.faults.append(" ".join(str(error).split()))
                continue
            for parameter in plan.space.active(branch):
                if not parameter.group:
                    self._try_values(config, [parameter.override(value) for value in _ends(parameter)])
            if plan.function is not None:
                self._try_function(plan, composer)

    def _try_values(self, config: DictConfig, overrides: Sequence[Override]) -> None:
        for override in overrides:
            try:
                ConfigLoaderImpl._apply_overrides_to_config([override], config)
            except ConfigCompositionException as error:
                known = leaf_keys(config)
                if override.key_or_group not in known and not override.is_add():
                    self.faults.append(_unknown(override.key_or_group, known))
                    return
                self.faults.append(f"{override.input_line}: {error.__cause__ or error}".splitlines()[0])

    def _try_function(self, plan: Plan, composer: Composer) -> None:
        study = create_study(sampler=RandomSampler(seed=0))
        try:
            groups, leaves = plan.suggest(study.ask())
            config = composer.compose(groups, [])
        except Exception as error:
            self.faults.append(f"space={self.settings['space']}: {type(error).__name__}: {error}")
            return
        self._try_values(config, leaves)


def _branches(space: Space) -> Iterator[Point]:
    """Points that together meet every group choice which has parameters of its own."""
    groups = [parameter for parameter in space.parameters if parameter.group]
    start: Point = {parameter.name: (parameter.grid() or [None])[0] for parameter in groups}
    owners = {parameter.when[0] for parameter in space.parameters if parameter.when is not None}
    yield start
    for parameter in groups:
        if parameter.name in owners:
            for value in (parameter.grid() or [])[1:]:
                yield {**start, parameter.name: value}


def _ends(parameter: Parameter) -> list[Any]:
    dist = parameter.distribution
    if isinstance(dist, CategoricalDistribution):
        return list(dist.choices)[:TRIED]
    return [dist.low, dist.high]


def _unknown(key: str, known: Sequence[str]) -> str:
    """The fault of a key the config has not, with its nearest neighbours' names."""
    parent = key
    while "." in parent:
        parent = parent.rpartition(".")[0]
        if parent in known:
            near = [name for name in known if name.startswith(f"{parent}.")]
            return f"{key}: no such key in the config; {did_you_mean(key, near)}"
    return f"{key}: no such key in the config; {did_you_mean(key, [name for name in known if '.' not in name])}"


def _twice(overrides: Sequence[Override]) -> list[str]:
    """The faults of parameters that the command line gives two types."""
    seen: dict[str, Override] = {}
    faults = []
    for item in overrides:
        before = seen.setdefault(_key(item), item)
        if before.is_sweep_override() and item.is_sweep_override() and before.value_type is not item.value_type:
            faults.append(f"{_key(item)} is given two types: {before.input_line} and {item.input_line}; keep one")
    return faults


def _key(override: Override) -> str:
    """What an override is about, whatever its prefix."""
    return override.key_or_group if override.package is None else f"{override.key_or_group}@{override.package}"
