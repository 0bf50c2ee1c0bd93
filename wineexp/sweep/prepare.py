"""Before the first trial: finding every fault of the settings and the space, and deciding what workers need to know."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from wineexp.core.errors import UserError
from wineexp.sweep._hydra import BASIC_LAUNCHER
from wineexp.sweep.callbacks import Callbacks
from wineexp.sweep.compose import Composer
from wineexp.sweep.plan import Plan
from wineexp.sweep.reader import PlanReader
from wineexp.sweep.samplers import SamplerFactory, make_pruner
from wineexp.sweep.space import Point, Space
from wineexp.sweep.storage import check_storage, is_in_memory
from wineexp.sweep.study import StudySpec, check_directions, directions_of, study_name
from wineexp.sweep.sweep_syntax import quote

# The budget of a study that states neither n_trials nor timeout.
DEFAULT_TRIALS = 50


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
    for make in (
        lambda: SamplerFactory(settings["sampler"], settings["seed"], Space(())),
        lambda: make_pruner(settings["pruner"]),
        lambda: Callbacks(settings["callbacks"]),
        lambda: check_storage(settings["storage"]),
    ):
        try:
            make()
        except UserError as error:
            faults += error.faults
    if is_in_memory(settings["storage"]) and config.hydra.launcher._target_ != BASIC_LAUNCHER:
        faults.append("a study in memory cannot be shared by processes: use hydra/sweeper/storage=journal")
    if settings["n_workers"] < 1:
        faults.append(f"n_workers must be 1 or more, but got {settings['n_workers']}")
    if settings["n_trials"] is not None and settings["n_trials"] < 0:
        faults.append(f"n_trials must be 0 or more, or null for the default, but got {settings['n_trials']}")
    return faults


def prepare(settings: Mapping[str, Any], context: HydraContext, config: DictConfig, plan: Plan) -> StudySpec:
    """Decide the study's name, folder, budget and first trials; raises UserError if plan and sampler do not fit."""
    samplers = SamplerFactory(settings["sampler"], settings["seed"], plan.space)
    has_space_function = plan.space_function is not None
    faults = samplers.faults_for(plan.space, len(directions_of(settings)), has_space_function)
    if not plan.space.parameters and not has_space_function:
        faults.append("nothing varies: give a parameter several values, say model.max_depth=3,5,7 or a search file")
    if faults:
        raise UserError(*faults)
    name = study_name(settings, config, plan)
    folder = _study_folder(settings, config, name)
    folder.mkdir(parents=True, exist_ok=True)
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.sweep.dir = str(folder)
    return StudySpec(
        settings,
        config,
        name,
        folder,
        n_trials=_n_trials(settings, samplers, plan),
        command=_program_command(),
        folder_overrides=[f"hydra.sweep.dir={quote(str(folder))}"],
        enqueued=(
            _default_points(plan.space, context, config, plan.fixed_overrides)
            if settings["enqueue_defaults"] and not samplers.is_exhaustive
            else []
        ),
    )


def _n_trials(settings: Mapping[str, Any], samplers: SamplerFactory, plan: Plan) -> int | None:
    """The budget: what the settings say, at most every point of a countable space, else the default."""
    n_trials: int | None = settings["n_trials"]
    if samplers.is_exhaustive:
        points = plan.space.grid()
        # How many points a space function has is not known before its trials have run.
        if points is not None and plan.space_function is None:
            size = sum(1 for _ in points)
            return size if n_trials is None else min(n_trials, size)
        return n_trials
    return DEFAULT_TRIALS if n_trials is None and settings["timeout"] is None else n_trials


def _study_folder(settings: Mapping[str, Any], config: DictConfig, name: str) -> Path:
    """The folder that the user states, else `multirun/<name>`; Hydra's own for a study in memory."""
    if settings["folder"]:
        return Path(settings["folder"])
    is_stated = any(line.startswith("hydra.sweep.dir=") for line in config.hydra.overrides.hydra)
    is_hydras = is_stated or is_in_memory(settings["storage"])
    return Path(config.hydra.sweep.dir) if is_hydras else Path("multirun") / name


def _default_points(
    space: Space, context: HydraContext, config: DictConfig, fixed_overrides: Sequence[str]
) -> list[Point]:
    """The values that the config has without a sweep, a point for each choice that has parameters of its own."""
    composer = Composer(context.config_loader, config, fixed_overrides)
    start: Point = {}
    for group in space.groups:
        choices = group.grid() or []
        chosen = config.hydra.runtime.choices.get(group.key)
        start[group.name] = chosen if chosen in choices else choices[0]
    points = space.points_of_each_choice(start)
    for point in points:
        composed = composer.compose(space.group_overrides(point), [])
        for parameter in space.active(dict(point)):
            if parameter.group:
                continue
            try:
                point[parameter.name] = parameter.encode(OmegaConf.select(composed, parameter.key))
            except ValueError:
                # The config's value is outside of the space: the sampler suggests one.
                continue
    return [point for point in points if point]


def _program_command() -> str:
    """How the running program was started: `python -m package.module`, or `python file.py`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name}" if spec is not None and spec.name else f"python {sys.argv[0]}"
