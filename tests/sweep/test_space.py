"""Spaces go from Hydra's syntax to Optuna's distributions and back to overrides."""

import math

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString, Transformer
from hypothesis import given
from hypothesis import strategies as st

from wineexp.sweep.compose import Composer
from wineexp.sweep.plan import Plan
from wineexp.sweep.space import Space
from wineexp.sweep.sweep_syntax import to_parameter

WORDS = st.text("abc xyz,'\"\\:[]{}()=$1e", min_size=1, max_size=8)
NUMBERS = st.floats(-1e6, 1e6, allow_subnormal=False)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-99, 99), NUMBERS, WORDS)
CHOICES = st.one_of(SCALARS, st.lists(st.integers(0, 9), max_size=3), st.dictionaries(st.just("k"), st.integers()))


def parsed(text: str):
    return OverridesParser.create().parse_override(f"key={text}")


def format_choice(value: object) -> str:
    return QuotedString(value, Quote.single).with_quotes() if isinstance(value, str) else Transformer.str(value)


def suggest(parameter, seed: int):
    """A value that Optuna suggests, and the value of its override, which Hydra's parser must read alike."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    value = parameter.suggest(study.ask())
    override = parameter.override(value)
    parsed_override = OverridesParser.create().parse_override(override.input_line)
    assert parsed_override.value() == override.value() or (parsed_override.value() != parsed_override.value())
    assert type(parsed_override.value()) is type(override.value())
    return value, override.value()


@given(st.lists(CHOICES, min_size=2, max_size=6), st.integers(0, 99))
def test_suggested_choices_are_those_that_hydra_reads(choices: list, seed: int) -> None:
    override = parsed(",".join(map(format_choice, choices)))
    parameter = to_parameter(override, None)
    expected = [parsed(format_choice(choice)).value() for choice in choices]
    _, value = suggest(parameter, seed)
    assert any(value == item and type(value) is type(item) for item in expected)
    assert [repr(item) for item in parameter.values] == list(dict.fromkeys(map(repr, expected)))
    for choice in parameter.values:
        assert parameter.override(parameter.encode(choice)).value() == choice


@given(NUMBERS, NUMBERS, st.integers(0, 99))
def test_an_interval_keeps_its_ends(first_end: float, second_end: float, seed: int) -> None:
    low, high = sorted((first_end, second_end))
    parameter = to_parameter(parsed(f"interval({low!r}, {high!r})"), None)
    assert (parameter.distribution.low, parameter.distribution.high) == (low, high)
    suggested, value = suggest(parameter, seed)
    assert low <= value <= high
    assert value == suggested, "the override has lost digits"
    assert parameter.encode(value) == suggested


@given(st.integers(1, 999), st.integers(0, 999), st.booleans(), st.integers(0, 99))
def test_an_interval_of_whole_numbers_gives_whole_numbers(low: int, width: int, log: bool, seed: int) -> None:
    text = f"int(interval({low}, {low + width}))"
    parameter = to_parameter(parsed(f"tag(log, {text})" if log else text), None)
    _, value = suggest(parameter, seed)
    assert type(value) is int
    assert low <= value <= low + width
    assert parameter.distribution.log is log


@given(st.integers(-50, 50), st.integers(1, 50), st.integers(1, 9), st.booleans(), st.integers(0, 99))
def test_a_range_of_whole_numbers_has_the_values_of_pythons_range(
    start: int, width: int, step: int, down: bool, seed: int
) -> None:
    ends = (start + width, start, -step) if down else (start, start + width, step)
    parameter = to_parameter(parsed(f"range({ends[0]}, {ends[1]}, {ends[2]})"), None)
    _, value = suggest(parameter, seed)
    assert value in range(*ends)
    assert parameter.grid() == sorted(range(*ends))


@given(st.integers(-20, 20), st.integers(1, 20), st.sampled_from([0.1, 0.25, 0.5]), st.integers(0, 99))
def test_a_range_of_fractions_gives_multiples_of_its_step(start: int, count: int, step: float, seed: int) -> None:
    low = start / 10
    # The stop lies half a step beyond the last value, clear of any rounding.
    parameter = to_parameter(parsed(f"range({low}, {low + (count - 0.5) * step!r}, {step})"), None)
    grid = parameter.grid()
    assert len(grid) == count
    assert all(math.isclose(value, low + k * step, abs_tol=1e-9) for k, value in enumerate(grid))
    _, value = suggest(parameter, seed)
    assert value in grid
    assert len(repr(value)) <= 6, "0.3, not 0.30000000000000004"


def test_one_and_true_are_two_choices() -> None:
    parameter = to_parameter(parsed("1,true,1.0"), None)
    assert [parameter.override(value).value() for value in parameter.grid()] == [1, True, 1.0]
    assert [type(parameter.override(value).value()) for value in parameter.grid()] == [int, bool, float]


def test_glob_chooses_among_the_files_of_a_group() -> None:
    parameter = to_parameter(parsed("glob(*, exclude=b*)"), ["ash", "beech", "cedar"])
    assert parameter.grid() == ["ash", "cedar"]


def test_a_grid_has_the_order_of_hydras_basic_sweeper() -> None:
    one, two = (to_parameter(OverridesParser.create().parse_override(line), None) for line in ("a=1,2", "b=3,4"))
    points = list(Space((one, two)).grid())
    assert points == [{"a": 1, "b": 3}, {"a": 1, "b": 4}, {"a": 2, "b": 3}, {"a": 2, "b": 4}]


def test_a_trial_that_ended_before_all_its_parameters_were_suggested_is_told_with_those_that_were() -> None:
    parameters = [to_parameter(OverridesParser.create().parse_override(f"{key}=interval(0, 1)"), None) for key in "xy"]
    plan = Plan((), Space(tuple(parameters)), frozenset(), Composer(None, None, ()))
    study = optuna.create_study()
    for names in ("xy", "x", ""):
        trial = study.ask()
        for name in names:
            trial.suggest_float(name, 0, 1)
    assert [set(plan.texts_of(trial)) for trial in study.trials] == [{"x", "y"}, {"x"}, set()]
