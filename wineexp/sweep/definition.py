"""What a study was begun with: its space, sampler, pruner and config, stored in it and compared at every later call.

Trials compare only if all of that stays the same. So a call that would change it is refused by name.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, check_distribution_compatibility, json_to_distribution
from optuna.storages import BaseStorage
from optuna.study import Study

from wineexp.core.addresses import without_credentials
from wineexp.core.errors import UserError
from wineexp.sweep.plan import Plan
from wineexp.sweep.space import Point
from wineexp.sweep.sweep_syntax import format_value

log = logging.getLogger(__name__)

# The system attribute of a study that holds its definition. Optuna's dashboard shows user attributes, so the user
# attribute `space` says in words what the parameters are.
DEFINITION = "wineexp:definition"
SPACE = "space"
# The key of a space function's dotted path, among those of the parameters.
SPACE_FUNCTION_KEY = "(callable)"
# The keys of `hydra.sweeper` that decide which trials a study has and how they are judged.
COMPARED_SETTINGS = ("sampler", "pruner", "seed", "constraints")

# Of each of `space`, `settings` and `config`: name to text.
Definition = dict[str, dict[str, str]]


def define(settings: Mapping[str, Any], plan: Plan) -> Definition:
    """The definition of a study.

    Parameters
    ----------
    settings : mapping
        `hydra.sweeper` as a plain container.
    plan : Plan
        What varies and what is fixed.

    """
    space = plan.space.describe()
    if plan.space_function is not None:
        space[SPACE_FUNCTION_KEY] = str(settings["space"])
    ignored = [*settings["may_change"], *(item.key for item in plan.space.parameters if not item.group)]
    compared = {name: _in_call_syntax(settings[name]) for name in COMPARED_SETTINGS}
    if settings["warm_start"]:
        compared["warm_start"] = without_credentials(_in_call_syntax(settings["warm_start"]))
    return {
        SPACE: space,
        "settings": compared,
        "config": _config_values(plan, ignored),
    }


def check_or_record(study: Study, storage: BaseStorage, current: Definition, *, extend: bool) -> None:
    """Store a new study's definition, or compare it with the one that is stored.

    Parameters
    ----------
    study : Study
    storage : BaseStorage
        That holds the study.
    current : dict
        From `define`.
    extend : bool
        Whether a study with another definition may go on, if Optuna can.

    Raises
    ------
    UserError
        The definition has changed.

    """
    study_id = storage.get_study_id_from_name(study.study_name)
    stored = stored_definition(study.user_attrs, storage.get_study_system_attrs(study_id))
    # A study of an earlier version of wineexp has stored its space only.
    changes = [change for part in current if part in stored for change in _changes(part, stored[part], current[part])]
    if changes and not extend:
        raise UserError(
            *(f"study {study.study_name!r}: {change}" for change in changes),
            "A study keeps its space, sampler, pruner and config, so that its trials compare: name another "
            "hydra.sweeper.study_name, or go on with the same study by hydra.sweeper.extend=true",
        )
    if conflicts := _conflicts(stored.get(SPACE, {}), current[SPACE]):
        raise UserError(*(f"study {study.study_name!r}: {conflict}; name another study_name" for conflict in conflicts))
    if changes:
        log.warning("study %r goes on otherwise than it began: %s", study.study_name, "; ".join(changes))
        # A sampler that has visited every point of the stored space may find more in this one.
        if study.user_attrs.get("exhausted"):
            study.set_user_attr("exhausted", False)
    if stored != current:
        storage.set_study_system_attr(study_id, DEFINITION, current)
        study.set_user_attr(SPACE, {name: in_words(text) for name, text in current[SPACE].items()})


def stored_definition(user_attrs: Mapping[str, Any], system_attrs: Mapping[str, Any]) -> Definition:
    """The definition in a study's attributes: the space alone where wineexp 0.2 began it, nothing where it did not."""
    if definition := system_attrs.get(DEFINITION):
        return dict(definition)
    return {SPACE: user_attrs[SPACE]} if SPACE in user_attrs else {}


def _config_values(plan: Plan, ignored: Sequence[str]) -> dict[str, str]:
    """Every value of the configs that trials are made from, unresolved, but for ignored keys and what is below them.

    Where several choices of config groups are tried, a value that one choice changes is stored as `key@choice`.
    """
    groups = plan.space.groups
    first: Point = {group.name: (group.grid() or [None])[0] for group in groups}
    values: dict[str, str] = {}
    for point in plan.space.points_of_each_choice(first, groups):
        choices = "".join(f"@{choice}" for name, choice in point.items() if choice != first[name])
        for key, text in _flatten(plan.composer.compose(plan.space.group_overrides(point), [])):
            if values.get(key) != text and not any(f"{key}.".startswith(f"{name}.") for name in ignored):
                values[f"{key}{choices}"] = without_credentials(text)
    return values


def _flatten(config: DictConfig) -> Iterator[tuple[str, str]]:
    """The dotted keys of a config's values, without Hydra's own, and the values in Hydra's grammar."""
    container = OmegaConf.to_container(config, resolve=False, enum_to_str=True)
    stack = [(str(key), value) for key, value in container.items() if key != "hydra"]  # type: ignore[union-attr]
    while stack:
        key, value = stack.pop()
        if isinstance(value, dict) and value:
            stack += [(f"{key}.{name}", item) for name, item in value.items()]
        else:
            yield key, format_value(value)


def _in_call_syntax(value: Any) -> str:
    """A node with a `_target_` as a call: `optuna.samplers.NSGAIISampler(population_size=50)`; else its value."""
    if not isinstance(value, Mapping) or "_target_" not in value:
        return format_value(value)
    options = ", ".join(f"{key}={_in_call_syntax(item)}" for key, item in value.items() if key != "_target_")
    return f"{value['_target_']}({options})"


def _changes(part: str, stored: Mapping[str, str], current: Mapping[str, str]) -> list[str]:
    to_words = in_words if part == SPACE else str
    place = "its space" if part == SPACE else "its config"
    changes = [f"{name} is no longer in {place}" for name in stored if name not in current]
    changes += [f"{name} is new to {place}" for name in current if name not in stored]
    for name in stored:
        if name in current and stored[name] != current[name]:
            changes.append(f"{name} was {to_words(stored[name])}, now it is {to_words(current[name])}")
    return changes


def _conflicts(stored: Mapping[str, str], current: Mapping[str, str]) -> list[str]:
    """The parameters that Optuna refuses in one study: two types, or two sets of choices, under one name."""
    conflicts = []
    for name in stored:
        if name in current and name != SPACE_FUNCTION_KEY:
            try:
                check_distribution_compatibility(_distribution(stored[name]), _distribution(current[name]))
            except ValueError:
                both = f"{in_words(stored[name])} and {in_words(current[name])}"
                conflicts.append(f"{name} cannot be {both} in one study, extended or not")
    return conflicts


def _distribution(description: str) -> BaseDistribution:
    """The distribution in a parameter's description; see `Parameter.describe`."""
    return json_to_distribution(json.dumps(json.loads(description)[0]))


def choice_text(description: str, index: int) -> str | None:
    """The text, in Hydra's grammar, of a choice in a parameter's description; None of a parameter without choices."""
    texts = json.loads(description)[1]
    return str(texts[index]) if texts else None


def in_words(description: str) -> str:
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
