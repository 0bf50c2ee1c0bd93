"""Hydra's sweep syntax as parameters of a search space: `1,2`, `interval(0, 1)`, `range(1, 9)`, `glob(*)`, tags."""

import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    Glob,
    IntervalSweep,
    Override,
    Quote,
    QuotedString,
    RangeSweep,
    Sweep,
    Transformer,
)
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from wineexp.core.errors import did_you_mean
from wineexp.sweep.space import Distribution, Parameter


def to_parameter(override: Override, choices: Sequence[str] | None, name: str | None = None) -> Parameter:
    """The parameter that a sweep override describes.

    Parameters
    ----------
    override : Override
        As Hydra's parser gives it.
    choices : sequence of str or None
        The files of the config group that the key names; None if the key names a value.
    name : str or None
        Optuna's name, by default the override key.

    Raises
    ------
    ValueError
        With what is wrong, without the key.

    """
    key = override_key(override)
    name = name or key
    value = override.value()
    if isinstance(value, IntervalSweep | RangeSweep):
        if choices:
            raise ValueError(f"a config group takes choices, not numbers; {did_you_mean('', choices)}")
        distribution = _interval(value) if isinstance(value, IntervalSweep) else _range(value)
        return Parameter(name, key, distribution, override.type)
    texts = list(dict.fromkeys(Transformer.str(element) for element in _elements(override, choices)))
    if not texts:
        raise ValueError(f"{override.get_value_string()} leaves no choice; {did_you_mean('', choices or [])}")
    _check_tags(value, allowed=())
    values = tuple(parse_value(key, text) for text in texts)
    if choices is not None:
        _check_choices(key, values, choices)
    are_scalars = all(item is None or isinstance(item, str | int | float) for item in values)
    # Optuna compares choices with ==, for which 1, 1.0 and true are one choice, and nan is none.
    are_distinct = are_scalars and len(set(values)) == len(values) and not any(item != item for item in values)
    distribution = CategoricalDistribution(values if are_distinct else texts)
    return Parameter(name, key, distribution, override.type, choices is not None, None, tuple(texts), values)


def override_key(override: Override) -> str:
    """The key that an override sets, without a prefix such as `+`."""
    return override.key_or_group if override.package is None else f"{override.key_or_group}@{override.package}"


def parse_value(key: str, text: str) -> Any:
    """The value that Hydra's grammar makes of a text."""
    return OverridesParser.create().parse_override(f"{key}={text}").value()


def format_value(value: Any) -> str:
    """A value from YAML in Hydra's grammar; a string is taken to be in that grammar already."""
    return value if isinstance(value, str) else str(Transformer.str(value))


def quote(text: str) -> str:
    """A string in quotes, so that Hydra's grammar reads it as a string whatever it contains."""
    return QuotedString(text, Quote.single).with_quotes()


def _elements(override: Override, choices: Sequence[str] | None) -> Iterator[Any]:
    value = override.value()
    if isinstance(value, Glob):
        if choices is None:
            raise ValueError(f"glob chooses among a config group's files, and {override.key_or_group} is no group")
        # As in a shell, a star does not reach into a group below: `glob(below/*)` does.
        depths = {pattern.count("/") for pattern in value.include}
        return iter(value.filter([choice for choice in choices if choice.count("/") in depths]))
    return override.sweep_iterator()


def _check_choices(group: str, values: Sequence[Any], choices: Sequence[str]) -> None:
    """Raise ValueError if one of the values is neither a choice of the group, nor null, nor a list of choices."""
    names = [name for value in values for name in (value if isinstance(value, list) else [value])]
    known = {"None", *choices, *(f"{choice}.yaml" for choice in choices)}
    unknown = dict.fromkeys(str(name) for name in names if str(name) not in known)
    if unknown:
        raise ValueError("; ".join(f"no {group} {name!r}: {did_you_mean(name, choices)}" for name in unknown))


def _check_tags(sweep: Any, allowed: Sequence[str]) -> set[str]:
    """The tags of a sweep; raises ValueError if one is not allowed."""
    tags = set(sweep.tags) if isinstance(sweep, Sweep) else set()
    for tag in sorted(tags - set(allowed)):
        raise ValueError(f"tag {tag!r} means nothing here; {did_you_mean(tag, allowed)}")
    return tags


def _interval(sweep: IntervalSweep) -> Distribution:
    low, high = cast(float, sweep.start), cast(float, sweep.end)
    log = "log" in _check_tags(sweep, allowed=["log"])
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
    log = "log" in _check_tags(sweep, allowed=["log"])
    shown = f"range({start}, {stop}, {step})"
    if step == 0 or not all(math.isfinite(number) for number in (start or 0, stop or 0, step)):
        raise ValueError(f"{shown}: the step must not be 0, and all three must be finite")
    # Decimals, since 0.1 * 3 is not 0.3 in floating point.
    exact_start, exact_stop, exact_step = (Decimal(str(number)) for number in (start, stop, step))
    count = math.ceil((exact_stop - exact_start) / exact_step)
    if count < 1:
        raise ValueError(f"{shown} is empty: start < stop must hold for a step above 0")
    low, high = sorted((exact_start, exact_start + (count - 1) * exact_step))
    if log and abs(exact_step) != 1:
        raise ValueError(f"{shown}: a log range takes steps of 1, or write tag(log, interval({low}, {high}))")
    if log and low <= 0:
        raise ValueError(f"{shown}: a log range must start above 0")
    if all(isinstance(number, int) for number in (start, stop, step)):
        return IntDistribution(int(low), int(high), step=abs(int(exact_step)), log=log)
    if log:
        raise ValueError(f"{shown}: a log range takes whole numbers")
    return FloatDistribution(float(low), float(high), step=float(abs(exact_step)))
