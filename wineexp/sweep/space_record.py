"""The space that a study was created with, stored in its user attributes and compared at every later call."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, check_distribution_compatibility, json_to_distribution
from optuna.study import Study

from wineexp.core.errors import UserError
from wineexp.sweep.plan import Plan

log = logging.getLogger(__name__)

# The key of a space function's dotted path, among those of the parameters.
SPACE_FUNCTION_KEY = "(callable)"


def check_or_record_space(study: Study, plan: Plan, settings: Mapping[str, Any]) -> None:
    """Store a new study's space and fixed overrides, or compare them with those that are stored.

    Raises UserError if the space has changed, unless the settings allow to extend it and Optuna can.
    """
    _check_or_record_parameters(study, plan, settings)
    _compare_or_record_fixed_overrides(study, list(plan.fixed_overrides))


def _check_or_record_parameters(study: Study, plan: Plan, settings: Mapping[str, Any]) -> None:
    current = plan.space.describe()
    if plan.space_function:
        current[SPACE_FUNCTION_KEY] = settings["space"]
    stored = study.user_attrs.get("space")
    if stored == current:
        return
    if stored is not None:
        changes = _changes(stored, current)
        if not settings["extend"]:
            raise UserError(
                *(f"study {study.study_name!r}: {change}" for change in changes),
                "A study keeps its space: name another hydra.sweeper.study_name, or say hydra.sweeper.extend=true",
            )
        if conflicts := _conflicts(stored, current):
            raise UserError(
                *(f"study {study.study_name!r}: {conflict}; name another study_name" for conflict in conflicts)
            )
        log.warning("study %r goes on with another space: %s", study.study_name, "; ".join(changes))
    study.set_user_attr("space", current)
    # A sampler that has visited every point of the stored space may find more in this one.
    if study.user_attrs.get("exhausted"):
        study.set_user_attr("exhausted", False)


def _compare_or_record_fixed_overrides(study: Study, current: list[str]) -> None:
    stored = study.user_attrs.get("fixed")
    if stored is None:
        study.set_user_attr("fixed", current)
    elif stored != current:
        log.warning(
            "study %r was begun with %s and goes on with %s: its trials may not compare",
            study.study_name,
            " ".join(stored) or "no overrides",
            " ".join(current) or "none",
        )


def _changes(stored: Mapping[str, str], current: Mapping[str, str]) -> list[str]:
    changes = [f"{name} is no longer in its space" for name in stored if name not in current]
    changes += [f"{name} is new to its space" for name in current if name not in stored]
    for name in stored:
        if name in current and stored[name] != current[name]:
            changes.append(f"{name} was {_in_words(stored[name])}, now it is {_in_words(current[name])}")
    return changes


def _conflicts(stored: Mapping[str, str], current: Mapping[str, str]) -> list[str]:
    """The parameters that Optuna refuses in one study: two types, or two sets of choices, under one name."""
    conflicts = []
    for name in stored:
        if name in current and name != SPACE_FUNCTION_KEY:
            try:
                check_distribution_compatibility(_distribution(stored[name]), _distribution(current[name]))
            except ValueError:
                both = f"{_in_words(stored[name])} and {_in_words(current[name])}"
                conflicts.append(f"{name} cannot be {both} in one study, extended or not")
    return conflicts


def _distribution(description: str) -> BaseDistribution:
    """The distribution in a parameter's description; see `Parameter.describe`."""
    return json_to_distribution(json.dumps(json.loads(description)[0]))


def _in_words(description: str) -> str:
    """A parameter's description in words: `int 2 to 12`, `a choice of a, b`."""
    try:
        distribution, texts, _, _ = json.loads(description)
    except (ValueError, TypeError):
        # A space function's dotted path.
        return description
    attributes = distribution["attributes"]
    if texts:
        return f"a choice of {', '.join(texts)}"
    kind = "int" if distribution["name"].startswith("Int") else "float"
    step = attributes.get("step")
    steps = f" by {step}" if step not in (None, 1) else ""
    log_scale = ", log" if attributes.get("log") else ""
    return f"{kind} {attributes['low']} to {attributes['high']}{steps}{log_scale}"
