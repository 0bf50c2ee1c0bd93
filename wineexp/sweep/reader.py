"""Reading a plan from the command line, `hydra.sweeper.params` and the search files, with every fault it has."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from wineexp.core.errors import UserError
from wineexp.sweep.compose import Composer, hydra_overrides
from wineexp.sweep.dry_run import dry_run
from wineexp.sweep.plan import Plan
from wineexp.sweep.space import Parameter, Space
from wineexp.sweep.sweep_syntax import format_value, override_key, quote, to_parameter


class PlanReader:
    """Reads a plan, and gathers every fault before it raises.

    Parameters
    ----------
    settings : mapping
        `hydra.sweeper` as a plain container.
    loader : ConfigLoader
        Hydra's.
    sweep_config : DictConfig
        The sweep's own config.

    """

    def __init__(self, settings: Mapping[str, Any], loader: ConfigLoader, sweep_config: DictConfig) -> None:
        self.settings, self.loader, self.sweep_config = settings, loader, sweep_config
        self.faults: list[str] = []
        self._cached_choices: dict[str, list[str]] = {}

    def read(self, arguments: Sequence[str]) -> Plan:
        """The plan for these overrides from the command line.

        Raises
        ------
        UserError
            With every fault of the plan; no trial has run yet.

        """
        from_settings = [f"{key}={format_value(value)}" for key, value in self.settings["params"].items()]
        from_command_line = list(self._parse(arguments))
        self.faults += _type_conflicts(from_command_line)
        # The command line wins over the settings, and both over the search files.
        overrides = {override_key(item): item for item in (*self._parse(from_settings), *from_command_line)}
        fixed = {key: item for key, item in overrides.items() if not item.is_sweep_override()}
        lines = tuple(str(item.input_line) for item in fixed.values())
        composer = Composer(self.loader, self.sweep_config, lines)
        candidates = [self._parameter(item) for key, item in overrides.items() if key not in fixed]
        parameters = [parameter for parameter in candidates if parameter is not None]
        for group, search_group in (self.settings["search"] or {}).items():
            parameters.extend(self._search_parameters(group, search_group, overrides, parameters, composer))
        parameters.sort(key=lambda parameter: not parameter.group)
        if self.faults:
            raise UserError(*self.faults)
        plan = Plan(lines, Space(tuple(parameters)), self._group_names(), composer, self._function("space"))
        self.faults += dry_run(plan, str(self.settings["space"]), self._function("check"))
        if self.faults:
            raise UserError(*dict.fromkeys(self.faults))
        return plan

    def choices(self, group: str) -> list[str]:
        """The choices of a config group, with those of the groups below it; empty if there is no such group."""
        if group not in self._cached_choices:
            nested = [f"{name}/{choice}" for name in self._options(group, ObjectType.GROUP)
                      for choice in self.choices(f"{group}/{name}")]  # fmt: skip
            self._cached_choices[group] = [*self._options(group, ObjectType.CONFIG), *nested]
        return self._cached_choices[group]

    def _options(self, group: str, kind: ObjectType) -> list[str]:
        return self.loader.get_group_options(
            group, kind, config_name=self.sweep_config.hydra.job.config_name, overrides=self._searchpath_overrides()
        )

    def _searchpath_overrides(self) -> list[str]:
        return [line for line in hydra_overrides(self.sweep_config) if line.startswith("hydra.searchpath=")]

    def _group_names(self) -> frozenset[str]:
        return frozenset(str(key).split("@")[0] for key in self.sweep_config.hydra.runtime.choices)

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
            return to_parameter(override, self.choices(override.key_or_group) or None, name)
        except (ValueError, HydraException) as error:
            self.faults.append(f"{override_key(override)}: {error}")
            return None

    def _search_parameters(
        self,
        group: str,
        search_group: str,
        overrides: Mapping[str, Override],
        parameters: Sequence[Parameter],
        composer: Composer,
    ) -> Iterator[Parameter]:
        """The parameters in the search files of a group's choices, except those that the user gives."""
        swept, choices = self._choices_by_value(group, overrides, parameters, composer)
        for value, choice in choices.items():
            suffix = "" if swept is None else f"@{value}"
            for parameter in self._read_search_file(search_group, choice, overrides, suffix):
                yield parameter if swept is None else replace(parameter, when=(swept.name, value))

    def _choices_by_value(
        self, group: str, overrides: Mapping[str, Override], parameters: Sequence[Parameter], composer: Composer
    ) -> tuple[Parameter | None, dict[Any, str]]:
        """The parameter that decides a group's choice, and the choice at each of its values.

        That is the group itself if it varies, or one whose files override it, as those of `experiment` override
        `model`. Without such a parameter, the only choice, whatever its key.
        """
        groups = [parameter for parameter in parameters if parameter.group]
        for parameter in groups:
            if parameter.key == group:
                return parameter, dict(zip(parameter.grid() or [], parameter.texts, strict=True))
        if group in overrides:
            return None, {None: str(overrides[group].value())}
        only_choice = str(self.sweep_config.hydra.runtime.choices.get(group))
        first = {parameter.name: (parameter.grid() or [None])[0] for parameter in groups}
        for parameter in groups:
            choices = {}
            for value in parameter.grid() or []:
                point = {**first, parameter.name: value}
                # The dry run reports what cannot be composed.
                with suppress(ConfigCompositionException):
                    config = composer.compose([item.override(point[item.name]) for item in groups], [])
                    choices[value] = str(config.hydra.runtime.choices.get(group))
            if len(set(choices.values())) > 1:
                return parameter, choices
            only_choice = next(iter(choices.values()), only_choice)
        return None, {None: only_choice}

    def _read_search_file(
        self, search_group: str, choice: str, overrides: Mapping[str, Override], name_suffix: str
    ) -> Iterator[Parameter]:
        if choice not in self.choices(search_group):
            return
        file = f"{search_group}/{choice}"
        # Without a primary config: it may need choices that this one has nothing to do with.
        search_path = [*self._searchpath_overrides(), *self._primary_searchpath()]
        config = self.loader.load_configuration(None, [*search_path, f"+{search_group}@space={choice}"], RunMode.RUN)
        for override in self._parse([f"{key!s}={format_value(value)}" for key, value in config.space.items()]):
            key = override_key(override)
            if key in overrides:
                continue
            if not override.is_sweep_override():
                self.faults.append(f"{file}: {override.input_line} varies nothing; put it in the model")
                continue
            parameter = self._parameter(override, f"{key}{name_suffix}")
            if parameter is not None:
                yield parameter

    def _primary_searchpath(self) -> list[str]:
        """The search path of the primary config, which Hydra does not read for another config, as an override."""
        paths = OmegaConf.select(self.sweep_config, "hydra.searchpath") or []
        if self._searchpath_overrides() or not paths:
            return []
        return [f"hydra.searchpath=[{','.join(map(quote, paths))}]"]

    def _function(self, setting: str) -> Callable[[Any], Any] | None:
        """The function that a setting names by its dotted path; None where it names none."""
        path = self.settings[setting]
        if path is None:
            return None
        try:
            function: Callable[[Any], Any] = get_method(path)
        except Exception as error:
            self.faults.append(f"{setting}={path}: no such callable ({error})")
            return None
        return function


def _type_conflicts(overrides: Sequence[Override]) -> list[str]:
    """The faults of keys that the command line gives sweeps of two types."""
    first: dict[str, Override] = {}
    faults = []
    for item in overrides:
        key = override_key(item)
        earlier = first.setdefault(key, item)
        if earlier.is_sweep_override() and item.is_sweep_override() and earlier.value_type is not item.value_type:
            faults.append(f"{key} is given two types: {earlier.input_line} and {item.input_line}; keep one")
    return faults
