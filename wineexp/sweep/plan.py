"""What a sweep varies and what it holds fixed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString, Transformer
from optuna.trial import FixedTrial, FrozenTrial, Trial

from wineexp.sweep.space import Space, assign


@dataclass(frozen=True)
class Plan:
    """A sweep's space and its fixed overrides; `function` is the space written as a callable, if there is one."""

    fixed: tuple[str, ...]
    space: Space
    groups: frozenset[str]
    function: Callable[[Trial], Any] | None = None

    def suggest(self, trial: Trial) -> tuple[list[Override], list[Override]]:
        """Ask Optuna for one trial's values: its group choices and its leaf values."""
        point = self.space.suggest(trial)
        groups, leaves = self.space.groups(point), self.space.leaves(point)
        if self.function is None:
            return groups, leaves
        derived = self.function(trial) or {}
        own = {name: value for name, value in trial.params.items() if name not in point}
        for key, value in {**own, **derived}.items():
            (groups if key in self.groups else leaves).append(_assignment(key, value))
        return groups, leaves

    def revive(self, trial: FrozenTrial) -> tuple[list[Override], list[Override]]:
        """The group choices and leaf values of a trial that was asked before."""
        return self.suggest(cast(Trial, FixedTrial(trial.params, trial.number)))


def spelt(value: Any) -> str:
    """A value of YAML's as text in Hydra's grammar; a string is already such a text."""
    return value if isinstance(value, str) else str(Transformer.str(value))


def quoted(text: str) -> str:
    """A text as Hydra's grammar quotes it."""
    return QuotedString(text, Quote.single).with_quotes()


def _assignment(key: str, value: Any) -> Override:
    text = str(Transformer.str(value))
    if isinstance(value, str) and OverridesParser.create().parse_override(f"{key}={text}").value() != value:
        text = quoted(value)
    return assign(key, text, value)
