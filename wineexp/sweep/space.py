"""A search space: Hydra's sweep syntax as Optuna's distributions, and Optuna's values as Hydra's overrides."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    Glob,
    IntervalSweep,
    Override,
    OverrideType,
    RangeSweep,
    Sweep,
    Transformer,
    ValueType,
)
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.trial import Trial

from wineexp.core.errors import did_you_mean

Point = dict[str, Any]
Distribution = CategoricalDistribution | IntDistribution | FloatDistribution


@dataclass(frozen=True)
class Parameter:
    """One thing that varies.

    `name` is Optuna's and, but for a model's own parameter in a study of several models (`model.depth@xgb`), the
    override key. `when` is the parameter and choice this one belongs to. `texts` spells the choices of a
    categorical distribution in Hydra's grammar, `values` are what Hydra makes of them.
    """

    name: str
    key: str
    distribution: Distribution
    type: OverrideType = OverrideType.CHANGE
    group: bool = False
    when: tuple[str, str] | None = None
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
        elif isinstance(self.distribution, IntDistribution):
            plain = int(value)
            text = str(plain)
        else:
            plain = float(value)
            if self.distribution.step is not None:
                plain = _on_grid(plain, self.distribution.low, self.distribution.step)
            text = repr(plain)
        return assign(self.key, text, plain, self.type)

    def encode(self, value: Any) -> Any:
        """Optuna's value for a config's value; raises ValueError where the value is outside of the space."""
        dist = self.distribution
        if isinstance(dist, CategoricalDistribution):
            for choice, own in zip(dist.choices, self.values, strict=True):
                if own == value and type(own) is type(value):
                    return choice
            raise ValueError(f"{value!r} is not a choice of {self.name}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{value!r} is no number")
        if isinstance(dist, IntDistribution):
            if value != int(value) or not dist._contains(int(value)):
                raise ValueError(f"{value!r} is outside of {self.name}")
            return int(value)
        if not dist._contains(float(value)):
            raise ValueError(f"{value!r} is outside of {self.name}")
        return float(value)

    def grid(self) -> list[Any] | None:
        """All of Optuna's values in order, None if they cannot be counted."""
        dist = self.distribution
        if isinstance(dist, CategoricalDistribution):
            return list(dist.choices)
        if isinstance(dist, IntDistribution):
            return list(range(dist.low, dist.high + 1, dist.step))
        if dist.step is None:
            return [dist.low] if dist.low == dist.high else None
        count = round((dist.high - dist.low) / dist.step) + 1
        return [_on_grid(dist.low + k * dist.step, dist.low, dist.step) for k in range(count)]

    def describe(self) -> str:
        """What a later call compares, to see whether the space has changed."""
        told = json.loads(distribution_to_json(self.distribution))
        return json.dumps([told, list(self.texts), self.type.name, self.when], sort_keys=True)


@dataclass(frozen=True)
class Space:
    """All parameters of a study, groups first; a parameter comes after the one it depends on."""

    parameters: tuple[Parameter, ...]

    def active(self, point: Mapping[str, Any]) -> Iterator[Parameter]:
        """The parameters of this point, decided from the values known when each is reached."""
        for parameter in self.parameters:
            if parameter.when is None or self._chosen(parameter.when, point):
                yield parameter

    def _chosen(self, when: tuple[str, str], point: Mapping[str, Any]) -> bool:
        return when[0] in point and bool(point[when[0]] == when[1])

    def suggest(self, trial: Trial) -> Point:
        """Ask Optuna for every parameter of one trial."""
        point: Point = {}
        for parameter in self.active(point):
            point[parameter.name] = parameter.suggest(trial)
        return point

    def complete(self, point: Mapping[str, Any]) -> bool:
        """Whether every parameter that such a trial needs has its value."""
        return all(parameter.name in point for parameter in self.active(point))

    def groups(self, point: Mapping[str, Any]) -> list[Override]:
        """The group choices of a point."""
        return [item.override(point[item.name]) for item in self.active(point) if item.group]

    def leaves(self, point: Mapping[str, Any]) -> list[Override]:
        """The values of a point."""
        return [item.override(point[item.name]) for item in self.active(point) if not item.group]

    def grid(self) -> Iterator[Point] | None:
        """Every point, the last parameter fastest; None if some parameter cannot be counted."""
        if any(parameter.grid() is None for parameter in self.parameters):
            return None
        return self._walk({}, 0)

    def _walk(self, point: Point, at: int) -> Iterator[Point]:
        if at == len(self.parameters):
            yield dict(point)
            return
        parameter = self.parameters[at]
        if parameter.when is not None and not self._chosen(parameter.when, point):
            yield from self._walk(point, at + 1)
            return
        for value in parameter.grid() or []:
            yield from self._walk({**point, parameter.name: value}, at + 1)

    def describe(self) -> dict[str, str]:
        """Name to description, for the study's record."""
        return {parameter.name: parameter.describe() for parameter in self.parameters}


def assign(key: str, text: str, value: Any, kind: OverrideType = OverrideType.CHANGE) -> Override:
    """An override as Hydra's parser would give it, without the parser's price."""
    override = Override(type=kind, key_or_group=key, value_type=ValueType.ELEMENT, _value=value)
    override.input_line = f"{override.get_key_element()}={text}"
    return override


def parameter_of(override: Override, choices: Sequence[str] | None, name: str | None = None) -> Parameter:
    """The parameter that a sweep override describes.

    `choices` are the files of the group that the key names, None if it names a value. Raises ValueError with what
    is wrong, without the key.
    """
    key = override.key_or_group if override.package is None else f"{override.key_or_group}@{override.package}"
    name = name or key
    value = override.value()
    if isinstance(value, IntervalSweep | RangeSweep):
        if choices:
            raise ValueError(f"a config group takes choices, not numbers; {did_you_mean('', choices)}")
        dist = _interval(value) if isinstance(value, IntervalSweep) else _range(value)
        return Parameter(name, key, dist, override.type)
    elements = list(_elements(override, choices))
    texts = list(dict.fromkeys(Transformer.str(element) for element in elements))
    if not texts:
        raise ValueError(f"{override.get_value_string()} leaves no choice; {did_you_mean('', choices or [])}")
    unknown = [text for text in texts if choices is not None and text not in choices]
    if unknown:
        raise ValueError("; ".join(f"no {key} {text!r}: {did_you_mean(text, choices or [])}" for text in unknown))
    _tags(value, allowed=())
    values = tuple(_value(key, text) for text in texts)
    scalars = all(item is None or isinstance(item, str | int | float) for item in values)
    # Optuna tells choices apart by ==, for which 1, 1.0 and true are the same.
    distinct = scalars and len(set(values)) == len(values) and not any(item != item for item in values)
    dist = CategoricalDistribution(values if distinct else texts)
    return Parameter(name, key, dist, override.type, choices is not None, None, tuple(texts), values)


def _elements(override: Override, choices: Sequence[str] | None) -> Iterator[Any]:
    value = override.value()
    if isinstance(value, Glob):
        if choices is None:
            raise ValueError(f"glob chooses among a config group's files, and {override.key_or_group} is no group")
        return iter(value.filter(list(choices)))
    return override.sweep_iterator()


def _value(key: str, text: str) -> Any:
    return OverridesParser.create().parse_override(f"{key}={text}").value()


def _tags(sweep: Any, allowed: Sequence[str]) -> set[str]:
    tags = set(sweep.tags) if isinstance(sweep, Sweep) else set()
    for tag in sorted(tags - set(allowed)):
        raise ValueError(f"tag {tag!r} means nothing here; {did_you_mean(tag, allowed)}")
    return tags


def _interval(sweep: IntervalSweep) -> Distribution:
    low, high = cast(float, sweep.start), cast(float, sweep.end)
    log = "log" in _tags(sweep, allowed=["log"])
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"interval({low}, {high}): both ends must be finite")
    if low > high:
        raise ValueError(f"low <= high must hold, but got (low={low}, high={high})")
    if log and low <= 0:
        raise ValueError(f"a log interval must start above 0, but got (low={low}, high={high})")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)


def _range(sweep: RangeSweep) -> Distribution:
    start, stop, step = sweep.start, sweep.stop, sweep.step
    log = "log" in _tags(sweep, allowed=["log"])
    shown = f"range({start}, {stop}, {step})"
    if step == 0 or not all(math.isfinite(number) for number in (start or 0, stop or 0, step)):
        raise ValueError(f"{shown}: the step must not be 0, and all three must be finite")
    first, last_but, by = (Decimal(str(number)) for number in (start, stop, step))
    count = math.ceil((last_but - first) / by)
    if count < 1:
        raise ValueError(f"{shown} is empty: start < stop must hold for a step above 0")
    low, high = sorted((first, first + (count - 1) * by))
    if log and abs(by) != 1:
        raise ValueError(f"{shown}: a log range takes steps of 1, or write tag(log, interval({low}, {high}))")
    if log and low <= 0:
        raise ValueError(f"{shown}: a log range must start above 0")
    if all(isinstance(number, int) for number in (start, stop, step)):
        return IntDistribution(int(low), int(high), step=abs(int(by)), log=log)
    if log:
        raise ValueError(f"{shown}: a log range takes whole numbers")
    return FloatDistribution(float(low), float(high), step=float(abs(by)))


def _on_grid(value: float, low: float, step: float) -> float:
    """The grid's own spelling of a value: 0.3, where low + 3 * step gives 0.30000000000000004."""
    count = round((value - low) / step)
    return float(Decimal(str(low)) + count * Decimal(str(step)))


def first(points: Iterator[Point], index: int) -> Point | None:
    """The point at this index, None after the last."""
    return next(itertools.islice(points, index, None), None)
