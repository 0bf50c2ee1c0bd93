"""Finding or founding a study: its name and folder, its directions, and the space it was begun with."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution, check_distribution_compatibility, json_to_distribution
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection

from wineexp.core.errors import UserError, did_you_mean
from wineexp.sweep.ledger import Budget, Ledger
from wineexp.sweep.plan import Plan
from wineexp.sweep.samplers import make_pruner
from wineexp.sweep.space import Point
from wineexp.sweep.storage import open_storage

log = logging.getLogger(__name__)

# Under which a study's record has the name of a space written in Python.
CALLABLE = "(callable)"
# Trials of a study that says neither how many nor how long.
TRIALS = 50


@dataclass
class Setup:
    """What every worker needs to know of the sweep.

    `settings` is `hydra.sweeper`, `config` the sweep's own config, `placed` the overrides that put a trial into the
    study's folder, `program` the command that was started, `defaults` the fixed parameters of the first trials.
    """

    settings: Mapping[str, Any]
    config: DictConfig
    name: str
    folder: Path
    n_trials: int | None
    program: str
    placed: Sequence[str] = ()
    defaults: Sequence[Point] = field(default_factory=list)

    @property
    def directions(self) -> list[str]:
        """One direction for each objective."""
        return list(self.settings["directions"] or [self.settings["direction"]])


def study_name(settings: Mapping[str, Any], config: DictConfig, plan: Plan) -> str:
    """The study's name: the one given, or the choices that make it what it is."""
    if settings["study_name"]:
        return str(settings["study_name"])
    swept = {parameter.key: "+".join(parameter.texts) for parameter in plan.space.parameters if parameter.group}
    fixed = dict(line.lstrip("+").split("=", 1) for line in plan.fixed if "=" in line)
    choices = {**config.hydra.runtime.choices, **fixed, **swept}
    named = [str(choices[group]) for group in settings["name_from"] if choices.get(group) not in (None, "null")]
    return "-".join(named) or str(config.hydra.job.name)


def check_directions(directions: Sequence[str]) -> list[str]:
    """The faults of the directions."""
    known = ["maximize", "minimize"]
    faults = [f"direction {name!r} is none; {did_you_mean(name, known)}" for name in directions if name not in known]
    return faults if directions else ["directions is empty: name one for each value that the task returns"]


def found(setup: Setup, storage: BaseStorage, plan: Plan) -> Study:
    """Create the study, or find it and hold it to what it was.

    Raises
    ------
    UserError
        Where its directions or its space are not those it was begun with, or its folder is another study's.

    """
    names = [study.study_name for study in storage.get_all_studies()]
    if setup.name not in names:
        taken = [path.name for path in setup.folder.glob("*") if path.name.isdigit()]
        if taken:
            raise UserError(
                f"{setup.folder} holds {len(taken)} trials, but the storage knows no study {setup.name!r}: a new one "
                "would overwrite them. Move the folder away, or name another hydra.sweeper.study_name"
            )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=storage,
        study_name=setup.name,
        directions=[StudyDirection[name.upper()] for name in setup.directions],
        load_if_exists=True,
    )
    was = [direction.name.lower() for direction in study.directions]
    if was != setup.directions:
        raise UserError(
            f"study {setup.name!r} was begun with directions {was}, now they are {setup.directions}: "
            "name another hydra.sweeper.study_name"
        )
    _hold(study, setup, plan)
    return study


def _hold(study: Study, setup: Setup, plan: Plan) -> None:
    now = {**plan.space.describe(), **({CALLABLE: setup.settings["space"]} if plan.function else {})}
    attrs = study.user_attrs
    was = attrs.get("space")
    if was is not None and was != now:
        faults = _changes(was, now)
        if not setup.settings["extend"]:
            raise UserError(
                *(f"study {setup.name!r}: {fault}" for fault in faults),
                "A study keeps its space: name another hydra.sweeper.study_name, or say hydra.sweeper.extend=true",
            )
        if clashes := _clashes(was, now):
            raise UserError(*(f"study {setup.name!r}: {clash}; name another study_name" for clash in clashes))
        log.warning("study %r goes on with another space: %s", setup.name, "; ".join(faults))
    if was != now:
        study.set_user_attr("space", now)
        # A wider space has points that the old one had not.
        if attrs.get("exhausted"):
            study.set_user_attr("exhausted", False)
    fixed = list(plan.fixed)
    if "fixed" not in attrs:
        study.set_user_attr("fixed", fixed)
    elif attrs["fixed"] != fixed:
        log.warning(
            "study %r was begun with %s and goes on with %s: its trials may not compare",
            setup.name,
            " ".join(attrs["fixed"]) or "no overrides",
            " ".join(fixed) or "none",
        )


def _changes(was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    faults = [f"{name} is no longer in its space" for name in was if name not in now]
    faults += [f"{name} is new to its space" for name in now if name not in was]
    for name in was:
        if name in now and was[name] != now[name]:
            faults.append(f"{name} was {_shown(was[name])}, now it is {_shown(now[name])}")
    return faults


def _clashes(was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The parameters that Optuna cannot hold in one study: two types, or other choices, under one name."""
    clashes = []
    for name in was:
        if name in now and name != CALLABLE:
            try:
                check_distribution_compatibility(_distribution(was[name]), _distribution(now[name]))
            except ValueError:
                kinds = f"{_shown(was[name])} and {_shown(now[name])}"
                clashes.append(f"{name} cannot be {kinds} in one study, extended or not")
    return clashes


def _distribution(described: str) -> BaseDistribution:
    return json_to_distribution(json.dumps(json.loads(described)[0]))


def _shown(described: str) -> str:
    """A distribution in words: `int 2 to 12`, `choice of a, b`."""
    try:
        told, texts, _, _ = json.loads(described)
    except (ValueError, TypeError):
        return described
    attributes = told["attributes"]
    if texts:
        return f"a choice of {', '.join(texts)}"
    kind = "int" if told["name"].startswith("Int") else "float"
    step = attributes.get("step")
    log_scale = ", log" if attributes.get("log") else ""
    steps = f" by {step}" if step not in (None, 1) else ""
    return f"{kind} {attributes['low']} to {attributes['high']}{steps}{log_scale}"


def open_ledger(setup: Setup, plan: Plan, storage: BaseStorage | None = None) -> Ledger:
    """The book of a study that exists, in this process."""
    storage = storage or open_storage(setup.settings["storage"], setup.folder)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.load_study(study_name=setup.name, storage=storage, pruner=make_pruner(setup.settings["pruner"]))
    budget = Budget(setup.n_trials, setup.settings["max_failures"], setup.settings["retries"])
    complete = bool if plan.function else plan.space.complete
    return Ledger(study, study._storage, setup.folder, budget, setup.defaults, complete)
