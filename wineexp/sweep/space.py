"""A search space: parameters with Optuna's distributions, and Optuna's values as Hydra's overrides."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.types import Override, OverrideType
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.trial import Trial

from wineexp.sweep._hydra import make_override
from wineexp.sweep._optuna import contains

# Parameter name -> Optuna's value.
Point = dict[str, Any]
Distribution = CategoricalDistribution | IntDistribution | FloatDistribution


@dataclass(frozen=True)
class Parameter:
    """One parameter of a search space.

    Attributes
    ----------
    name : str
        Optuna's name: the override key, and in a study of several models `model.depth@xgb` for a model's parameter.
    key : str
        The override key.
    distribution : Distribution
        Optuna's.
    type : OverrideType
        The prefix of the override: none, `+` or `++`.
    group : bool
        Whether the key is a config group, so that its values are files.
    when : tuple of str and object, or None
        The name of the parameter, and Optuna's value of it, that this parameter depends on.
    texts : tuple of str
        The choices of a categorical distribution in Hydra's grammar.
    values : tuple
        The values that Hydra makes of `texts`.

    """

    name: str
    key: str
    distribution: Distribution
    type: OverrideType = OverrideType.CHANGE
    group: bool = False
    when: tuple[str, Any] | None = None
    texts: tuple[str, ...] = ()
    values: tuple[Any, ...] = ()

    def suggest(self, trial: Trial) -> Any:
        """Optuna's value for this parameter in this trial."""
        dist = self.distribution
        if isinstance(dist, CategoricalDistribution):
            return trial.suggest_categorical(self.name, dist.choices)
        if isinstance(dist, IntDistribution):
            return trial.suggest_int(self.name, dist.low, dist.high, step=dist.step, log=dist.log)
        return trial.suggest_float(self.name, dist.low, dist.high, step=dist.step, log=dist.log)

    def override(self, value: Any) -> Override:
        """The override that sets this parameter to one of Optuna's values."""
        text: str
        plain: Any
        if isinstance(self.distribution, CategoricalDistribution):
            index = int(self.distribution.to_internal_repr(value))
            text, plain = self.texts[index], self.values[index]
            if self.group and plain is None:
                # Hydra's word for no file of a group.
                return make_override(self.key, "", None, OverrideType.DEL)
        elif isinstance(self.distribution, IntDistribution):
            plain = int(value)
            text = str(plain)
        else:
            plain = float(value)
            if self.distribution.step is not None:
                plain = _rounded_to_step(plain, self.distribution.low, self.distribution.step)
            text = repr(plain)
        return make_override(self.key, text, plain, self.type)

    def encode(self, value: Any) -> Any:
        """Optuna's value for a config's value; raises ValueError if the value is outside of the distribution."""
        dist = self.distribution
        if isinstance(dist, CategoricalDistribution):
            for choice, config_value in zip(dist.choices, self.values, strict=True):
                if config_value == value and type(config_value) is type(value):
                    return choice
            raise ValueError(f"{value!r} is not a choice of {self.name}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{value!r} is no number")
        number = int(value) if isinstance(dist, IntDistribution) else float(value)
        if number != value or not contains(dist, number):
            raise ValueError(f"{value!r} is outside of {self.name}")
        return number

    def choice_of(self, text: str) -> Any:
        """Optuna's value for a choice in Hydra's grammar; raises ValueError if it is none of this parameter's."""
        dist = self.distribution
        if not isinstance(dist, CategoricalDistribution):
            raise ValueError(f"{text} is no choice: {self.name} is a number")
        return dist.choices[self.texts.index(text)]

    def grid(self) -> list[Any] | None:
        """All of Optuna's values in order; None if they cannot be counted."""
        dist = self.distribution
        if isinstance(dist, CategoricalDistribution):
            return list(dist.choices)
        if isinstance(dist, IntDistribution):
            return list(range(dist.low, dist.high + 1, dist.step))
        if dist.step is None:
            return [dist.low] if dist.low == dist.high else None
        count = round((dist.high - dist.low) / dist.step) + 1
        return [_rounded_to_step(dist.low + k * dist.step, dist.low, dist.step) for k in range(count)]

    def describe(self) -> str:
        """The parameter as JSON, stored with the study so that a later call sees whether its space has changed."""
        distribution = json.loads(distribution_to_json(self.distribution))
        return json.dumps([distribution, list(self.texts), self.type.name, self.when], sort_keys=True)


@dataclass(frozen=True)
class Space:
    """All parameters of a study: config groups first, and each parameter after the one it depends on."""

    parameters: tuple[Parameter, ...]

    @property
    def groups(self) -> list[Parameter]:
        """The parameters whose values are files of a config group."""
        return [parameter for parameter in self.parameters if parameter.group]

    def active(self, point: Mapping[str, Any]) -> Iterator[Parameter]:
        """The parameters that a point has; the point may be filled while the iterator is read."""
        for parameter in self.parameters:
            if parameter.when is None or _has_choice(parameter.when, point):
                yield parameter

    def suggest(self, trial: Trial) -> Point:
        """Let Optuna suggest the value of every parameter of one trial."""
        point: Point = {}
        for parameter in self.active(point):
            point[parameter.name] = parameter.suggest(trial)
        return point

    def is_complete(self, point: Mapping[str, Any]) -> bool:
        """Whether the point has a value for each of its parameters."""
        return all(parameter.name in point for parameter in self.active(point))

    def group_overrides(self, point: Mapping[str, Any]) -> list[Override]:
        """The overrides that choose a point's files of config groups."""
        return [item.override(point[item.name]) for item in self.active(point) if item.group]

    def value_overrides(self, point: Mapping[str, Any]) -> list[Override]:
        """The overrides that set a point's values."""
        return [item.override(point[item.name]) for item in self.active(point) if not item.group]

    @property
    def groups_with_own_parameters(self) -> list[Parameter]:
        """The groups whose choices have parameters of their own."""
        owners = {parameter.when[0] for parameter in self.parameters if parameter.when is not None}
        return [group for group in self.groups if group.name in owners]

    def points_of_each_choice(self, start: Mapping[str, Any], groups: Sequence[Parameter]) -> list[Point]:
        """The start, which has a value for each group, and a copy of it for each other choice of these groups."""
        others = [(group.name, value) for group in groups for value in group.grid() or [] if value != start[group.name]]
        return [dict(start), *({**start, name: value} for name, value in others)]

    def grid(self) -> Iterator[Point] | None:
        """Every point, the last parameter varying fastest; None if some parameter's values cannot be counted."""
        if any(parameter.grid() is None for parameter in self.parameters):
            return None
        return self._extend({}, 0)

    def _extend(self, point: Point, index: int) -> Iterator[Point]:
        """Every point that has these values of the parameters before the index."""
        if index == len(self.parameters):
            yield dict(point)
            return
        parameter = self.parameters[index]
        if parameter.when is not None and not _has_choice(parameter.when, point):
            yield from self._extend(point, index + 1)
            return
        for value in parameter.grid() or []:
            yield from self._extend({**point, parameter.name: value}, index + 1)

    def describe(self) -> dict[str, str]:
        """Each parameter's name and its description, to be stored with the study."""
        return {parameter.name: parameter.describe() for parameter in self.parameters}


def point_at(points: Iterator[Point], index: int) -> Point | None:
    """The point at this index; None after the last."""
    return next(itertools.islice(points, index, None), None)


def _has_choice(when: tuple[str, Any], point: Mapping[str, Any]) -> bool:
    name, choice = when
    return name in point and bool(point[name] == choice)


def _rounded_to_step(value: float, low: float, step: float) -> float:
    """The multiple of the step as it is written: 0.3, where low + 3 * step gives 0.30000000000000004."""
    count = round((value - low) / step)
    return float(Decimal(str(low)) + count * Decimal(str(step)))
