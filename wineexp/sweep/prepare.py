"""Before the first trial: finding every fault of the settings and the space, and deciding what workers need to know."""

import argparse
import itertools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from wineexp.core.errors import UserError
from wineexp.sweep._hydra import BASIC_LAUNCHER, DEFAULT_SWEEP_DIR
from wineexp.sweep.callbacks import Callbacks
from wineexp.sweep.compose import hydra_overrides
from wineexp.sweep.definition import define
from wineexp.sweep.launching import DASK_LAUNCHER, missing_launcher_package
from wineexp.sweep.plan import Plan
from wineexp.sweep.reader import PlanReader
from wineexp.sweep.samplers import Grid, SamplerFactory, make_pruner
from wineexp.sweep.space import Point, Space
from wineexp.sweep.storage import absolute, check_storage, is_in_memory, is_sqlite, rdb
from wineexp.sweep.study import StudySpec, check_directions, directions_of, name_faults, study_name
from wineexp.sweep.sweep_syntax import quote
from wineexp.sweep.warm_start import read_sources


def with_absolute_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with a storage that means the same in a job's folder, which `hydra.job.chdir` makes the current one.

    A storage that is given as a URL becomes the node of `hydra/sweeper/storage=rdb`.
    """
    storage = settings["storage"]
    if isinstance(storage, str) and "://" in storage:
        storage = rdb_node(storage)
    return {**settings, "storage": absolute(storage) if isinstance(storage, Mapping) else storage}


def rdb_node(url: str) -> dict[str, Any]:
    """The node of `hydra/sweeper/storage=rdb` with this address."""
    return {"_target_": f"{rdb.__module__}.{rdb.__name__}", "url": url}


def read_plan(settings: Mapping[str, Any], context: HydraContext, config: DictConfig, arguments: Sequence[str]) -> Plan:
    """The sweep's plan; raises UserError with the faults of the settings and of the space together."""
    faults = check_settings(settings, config)
    plan = None
    try:
        plan = PlanReader(settings, context.config_loader, config).read(arguments)
    except UserError as error:
        faults += error.faults
    if faults or plan is None:
        raise UserError(*faults)
    return plan


def check_settings(settings: Mapping[str, Any], config: DictConfig) -> list[str]:
    """Every fault that the settings have by themselves."""
    faults = check_directions(directions_of(settings))
    for group in ("sampler", "pruner", "storage"):
        if not isinstance(settings[group], Mapping):
            faults.append(f"hydra.sweeper.{group}={settings[group]}: choose it by hydra/sweeper/{group}=name")
            settings = {**settings, group: None}
    checks: dict[str, Callable[[Any], Any]] = {
        "sampler": lambda conf: SamplerFactory(conf, settings["seed"], Space(())),
        "pruner": make_pruner,
        "storage": check_storage,
        "callbacks": Callbacks,
        "warm_start": read_sources,
    }
    for name, check in checks.items():
        try:
            if settings[name] is not None:
                check(settings[name])
        except UserError as error:
            faults += error.faults
    if is_in_memory(settings["storage"] or {}) and config.hydra.launcher._target_ != BASIC_LAUNCHER:
        faults.append("a study in memory cannot be shared by processes: use hydra/sweeper/storage=journal")
    faults += name_faults(str(settings["study_name"] or "default"))
    faults += _terminator_faults(settings)
    fewest = 1 if settings["wait"] else 0
    if settings["n_workers"] < fewest:
        faults.append(f"n_workers must be {fewest} or more, but got {settings['n_workers']}")
    url = str((settings["storage"] or {}).get("url") or "")
    if not url or is_sqlite(url):
        faults += [
            f"hydra.sweeper.{key}={str(settings[key]).lower()} needs a study in a database's server, such as "
            "PostgreSQL: add hydra/sweeper/storage=rdb hydra.sweeper.storage.url=..."
            for key, default in (("wait", True), ("joins", False))
            if settings[key] is not default
        ]
    faults += missing_launcher_package(config.hydra.launcher._target_)
    if config.hydra.launcher._target_ == DASK_LAUNCHER and OmegaConf.select(config, "data.engine") == "dask":
        faults.append(
            "data.engine=dask: a trial that is itself a task of a Dask cluster would wait for itself; leave out "
            "hydra/launcher=dask, so that the trials, one after the other, have the whole cluster"
        )
    for key in ("lease", "max_outage"):
        if settings[key] <= 0:
            faults.append(f"hydra.sweeper.{key} must be above 0 seconds, but got {settings[key]:g}")
    if settings["n_trials"] is not None and settings["n_trials"] < 0:
        faults.append(f"n_trials must be 0 or more, or null for default_n_trials, but got {settings['n_trials']}")
    return faults


def _terminator_faults(settings: Mapping[str, Any]) -> list[str]:
    """What is wrong with `hydra.sweeper.terminator`."""
    terminator, place, faults = settings["terminator"], "hydra.sweeper.terminator", []
    if terminator["patience"] is not None and terminator["patience"] < 1:
        faults.append(f"{place}.patience must be 1 trial or more, or null, but got {terminator['patience']}")
    if not 0 <= terminator["min_delta"] < math.inf:
        faults.append(f"{place}.min_delta must be a number, 0 or more, but got {terminator['min_delta']:g}")
    if terminator["patience"] is not None and len(directions_of(settings)) > 1:
        faults.append(f"{place} takes one direction, and {len(directions_of(settings))} are stated: leave it out")
    return faults


def prepare(settings: Mapping[str, Any], config: DictConfig, plan: Plan) -> StudySpec:
    """Decide the study's name, folder, budget and first trials; raises UserError if plan and sampler do not fit."""
    samplers = SamplerFactory(settings["sampler"], settings["seed"], plan.space)
    has_space_function = plan.space_function is not None
    faults = samplers.faults_for(plan.space, len(directions_of(settings)), has_space_function)
    if not plan.space.parameters and not has_space_function:
        faults.append("nothing varies: give a parameter several values, say model.max_depth=3,5,7 or a search file")
    n_trials = _n_trials(settings, samplers)
    visits_each_point = _visits_each_point(settings, samplers, plan, n_trials)
    if settings["warm_start"] and (visits_each_point or not samplers.learns_from_any_trial):
        why = (
            "the budget is enough for each point of the space"
            if visits_each_point
            else f"{samplers.sampler_class.__name__} does not learn from trials that it has not suggested"
        )
        faults.append(
            f"hydra.sweeper.warm_start would change nothing, since {why}: leave it out, or use "
            "hydra/sweeper/sampler=tpe or gp on a larger space"
        )
    if faults:
        raise UserError(*faults)
    name = study_name(settings, config, plan)
    if faults := name_faults(name):
        raise UserError(*faults)
    folder = _study_folder(settings, config, name).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.sweep.dir = str(folder)
    return StudySpec(
        settings,
        config,
        name,
        folder,
        n_trials=n_trials,
        visits_each_point=visits_each_point,
        command=_program_command(config),
        folder_overrides=[f"hydra.sweep.dir={quote(str(folder))}"],
        enqueued=_default_points(plan, config) if settings["enqueue_defaults"] and not samplers.is_exhaustive else [],
        definition=define(settings, plan),
    )


def _n_trials(settings: Mapping[str, Any], samplers: SamplerFactory) -> int | None:
    """The budget; None for no limit."""
    n_trials: int | None = settings["n_trials"]
    is_limited = n_trials is not None or settings["timeout"] is not None or samplers.is_exhaustive
    return n_trials if is_limited else int(settings["default_n_trials"])


def _visits_each_point(settings: Mapping[str, Any], samplers: SamplerFactory, plan: Plan, n_trials: int | None) -> bool:
    """Whether the budget is enough for a trial at each point of the space, so that no sampler has to choose.

    How many points a space function has is not known before its trials have run.
    """
    points = plan.space.grid()
    if points is None or plan.space_function is not None or not settings["dedupe"]:
        return False
    if issubclass(samplers.sampler_class, Grid):
        return True
    limit = settings["default_n_trials"] if n_trials is None else n_trials
    return not samplers.is_exhaustive and sum(1 for _ in itertools.islice(points, limit + 1)) <= limit


def _study_folder(settings: Mapping[str, Any], config: DictConfig, name: str) -> Path:
    """The folder that the user states, else `multirun/<name>`; Hydra's own for a study in memory."""
    if settings["folder"]:
        return Path(settings["folder"])
    sweep_node: Any = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    is_stated = sweep_node["dir"] != DEFAULT_SWEEP_DIR
    is_hydras = is_stated or is_in_memory(settings["storage"])
    return Path(config.hydra.sweep.dir) if is_hydras else Path("multirun") / name


def _default_points(plan: Plan, config: DictConfig) -> list[Point]:
    """The values that the config has without a sweep, a point for each choice that has parameters of its own."""
    space = plan.space
    start: Point = {}
    for group in space.groups:
        choices = group.grid() or []
        chosen = config.hydra.runtime.choices.get(group.key)
        start[group.name] = chosen if chosen in choices else choices[0]
    points = space.points_of_each_choice(start, space.groups_with_own_parameters)
    for point in points:
        composed = plan.composer.compose(space.group_overrides(point), [])
        for parameter in space.active(dict(point)):
            if parameter.group:
                continue
            try:
                point[parameter.name] = parameter.encode(OmegaConf.select(composed, parameter.key))
            except ValueError:
                # The config's value is outside of the space: the sampler suggests one.
                continue
    return [point for point in points if point]


def _program_command(config: DictConfig) -> list[str]:
    """How the running program was started, for a person to start it again without a sweep.

    That is `python -m package.module` or `python file.py`, the options that say where configs lie, and the overrides of
    Hydra's own config that are not about sweeping.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = ["-m", spec.name] if spec is not None and spec.name else [sys.argv[0]]
    parser = argparse.ArgumentParser(add_help=False)
    for option, short in (("--config-path", "-cp"), ("--config-name", "-cn"), ("--config-dir", "-cd")):
        parser.add_argument(option, short)
    stated = vars(parser.parse_known_args(sys.argv[1:])[0])
    options = [word for name, value in stated.items() if value for word in (f"--{name.replace('_', '-')}", value)]
    about_sweeping = ("hydra/sweeper", "hydra.sweep", "hydra/launcher", "hydra.launcher", "hydra.mode")
    kept = [line for line in hydra_overrides(config) if not line.lstrip("+~").startswith(about_sweeping)]
    return ["python", *program, *options, *kept]
