"""What a sweep varies and what it holds fixed."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from hydra.core.override_parser.types import Override, Transformer
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FixedTrial, FrozenTrial, Trial

from wineexp.sweep._hydra import make_override
from wineexp.sweep.compose import Composer
from wineexp.sweep.space import Space
from wineexp.sweep.sweep_syntax import parse_value, quote


@dataclass(frozen=True)
class Plan:
    """What a sweep varies and what it holds fixed.

    Attributes
    ----------
    fixed_overrides : tuple of str
        Overrides that hold for every trial.
    space : Space
        The parameters written in Hydra's sweep syntax.
    group_names : frozenset of str
        All config groups of the program.
    composer : Composer
        Composes the configs of the fixed overrides and any choices and values.
    space_function : callable or None
        A function of the user's that suggests more parameters: of the trial, or of the trial and its config.

    """

    fixed_overrides: tuple[str, ...]
    space: Space
    group_names: frozenset[str]
    composer: Composer
    space_function: Callable[..., Any] | None = None

    def suggest(self, trial: Trial) -> tuple[list[Override], list[Override]]:
        """Let Optuna suggest a trial's parameters; gives its choices of config groups, and its values."""
        point = self.space.suggest(trial)
        groups, values = self.space.group_overrides(point), self.space.value_overrides(point)
        if self.space_function is None:
            return groups, values
        seen = [self._config(groups, values)] if _takes_config(self.space_function) else []
        derived = self.space_function(trial, *seen) or {}
        suggested = {name: value for name, value in trial.params.items() if name not in point}
        for key, value in {**suggested, **derived}.items():
            (groups if key in self.group_names else values).append(_override(key, value))
        return groups, values

    def _config(self, groups: list[Override], values: list[Override]) -> DictConfig:
        """The config that a space function sees, which is not to be changed: without what it is about to suggest."""
        config = self.composer.compose(groups, values)
        OmegaConf.set_readonly(config, True)
        return config

    def texts_of(self, trial: FrozenTrial) -> dict[str, str]:
        """A trial's own overrides: key to text in Hydra's grammar."""
        try:
            groups, values = self.suggest(cast(Trial, FixedTrial(trial.params, trial.number)))
        except ValueError:
            # It was interrupted, or its worker died, before all of its parameters had been suggested.
            return {name: str(value) for name, value in trial.params.items()}
        return {item.key_or_group: value_text(item) for item in (*groups, *values)}

    def values_of(self, trial: FrozenTrial) -> dict[str, Any]:
        """A trial's own overrides: key to value; None for a deletion."""
        groups, values = self.suggest(cast(Trial, FixedTrial(trial.params, trial.number)))
        return {item.key_or_group: item.value() for item in (*groups, *values)}

    def overrides_of(self, trial: FrozenTrial) -> list[str]:
        """The overrides that made a trial: the fixed ones, then its own."""
        groups, values = self.suggest(cast(Trial, FixedTrial(trial.params, trial.number)))
        return [*self.fixed_overrides, *(str(item.input_line) for item in (*groups, *values))]


def _takes_config(space_function: Callable[..., Any]) -> bool:
    """Whether a space function wants the trial's config beside the trial: whether it takes two arguments."""
    try:
        parameters = inspect.signature(space_function).parameters.values()
    except ValueError:
        # Of a function in C, which does not tell.
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in positional and one.default is inspect.Parameter.empty for one in parameters) == 2


def value_text(override: Override) -> str:
    """The value of an override as it was written; "" for a deletion."""
    return str(override.input_line).partition("=")[2]


def _override(key: str, value: Any) -> Override:
    """The override that sets a key to a value of Python's; a string that Hydra would read as another type is quoted."""
    text = str(Transformer.str(value))
    if isinstance(value, str) and parse_value(key, text) != value:
        text = quote(value)
    return make_override(key, text, value)
