"""Before the first trial: every fault of the sweep's settings and space, then what its workers need to know."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from wineexp.core.errors import UserError
from wineexp.sweep.callbacks import Callbacks
from wineexp.sweep.compose import Composer
from wineexp.sweep.plan import Plan
from wineexp.sweep.reader import Reader
from wineexp.sweep.samplers import SamplerMaker, make_pruner, reject_unfit
from wineexp.sweep.space import Point, Space
from wineexp.sweep.storage import check_storage
from wineexp.sweep.study import TRIALS, Setup, check_directions, study_name

BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


def check(settings: Mapping[str, Any], config: DictConfig) -> None:
    """Raise UserError with every fault that shows in the settings alone."""
    faults = check_directions(list(settings["directions"] or [settings["direction"]]))
    for make in (
        lambda: SamplerMaker(settings["sampler"], settings["seed"], Space(())),
        lambda: make_pruner(settings["pruner"]),
        lambda: Callbacks(settings["callbacks"]),
        lambda: check_storage(settings["storage"]),
    ):
        try:
            make()
        except UserError as error:
            faults += error.faults
    if in_memory(settings) and config.hydra.launcher._target_ != BASIC_LAUNCHER:
        faults.append("a study in memory cannot be shared by processes: use hydra/sweeper/storage=journal")
    if settings["n_workers"] < 1:
        faults.append(f"n_workers must be 1 or more, but got {settings['n_workers']}")
    if settings["n_trials"] is not None and settings["n_trials"] < 0:
        faults.append(f"n_trials must be 0 or more, or null for the default, but got {settings['n_trials']}")
    if faults:
        raise UserError(*faults)


def read(settings: Mapping[str, Any], context: HydraContext, config: DictConfig, arguments: Sequence[str]) -> Plan:
    """The sweep's plan; raises UserError with the faults of the settings and of the space together."""
    faults: list[str] = []
    plan = None
    try:
        check(settings, config)
    except UserError as error:
        faults += error.faults
    try:
        plan = Reader(settings, context.config_loader, config).read(arguments)
    except UserError as error:
        faults += error.faults
    if faults or plan is None:
        raise UserError(*faults)
    return plan


def prepare(settings: Mapping[str, Any], context: HydraContext, config: DictConfig, plan: Plan) -> Setup:
    """Decide the study's name, folder, budget and first trials; raises UserError where plan and settings clash."""
    maker = SamplerMaker(settings["sampler"], settings["seed"], plan.space)
    points = plan.space.grid()
    faults = [
        *reject_unfit(
            maker, plan.space, points is not None, len(settings["directions"] or [1]), plan.function is not None
        )
    ]
    if not plan.space.parameters and plan.function is None:
        faults.append("nothing varies: give a parameter several values, say model.max_depth=3,5,7 or a search file")
    if faults:
        raise UserError(*faults)
    name = study_name(settings, config, plan)
    folder = _folder(settings, config, name)
    folder.mkdir(parents=True, exist_ok=True)
    with open_dict(config):
        config.hydra.sweep.dir = str(folder)
    placed = [f"hydra.sweep.dir={QuotedString(str(folder), Quote.single).with_quotes()}"]
    enqueues = settings["enqueue_defaults"] and not maker.exhaustive
    defaults = _defaults(plan.space, context, config, plan.fixed) if enqueues else []
    n_trials = settings["n_trials"]
    if maker.exhaustive and points is not None and plan.function is None:
        size = sum(1 for _ in points)
        n_trials = size if n_trials is None else min(n_trials, size)
    elif n_trials is None and settings["timeout"] is None and not maker.exhaustive:
        n_trials = TRIALS
    return Setup(settings, config, name, folder, n_trials, _program(), placed, defaults)


def in_memory(settings: Mapping[str, Any]) -> bool:
    """Whether the study is gone with the process."""
    return bool(settings["storage"].get("_target_") == "wineexp.sweep.storage.memory")


def _folder(settings: Mapping[str, Any], config: DictConfig, name: str) -> Path:
    stated = any(line.startswith("hydra.sweep.dir=") for line in config.hydra.overrides.hydra)
    if settings["folder"]:
        return Path(settings["folder"])
    return Path(config.hydra.sweep.dir) if stated or in_memory(settings) else Path("multirun") / name


def _defaults(space: Space, context: HydraContext, config: DictConfig, fixed: Sequence[str]) -> list[Point]:
    """What the config says where nothing varies, once for each choice that has parameters of its own."""
    composer = Composer(context.config_loader, config, fixed)
    groups = [parameter for parameter in space.parameters if parameter.group]
    start: Point = {}
    for group in groups:
        chosen = config.hydra.runtime.choices.get(group.key)
        start[group.name] = chosen if chosen in group.values else group.values[0]
    owners = {parameter.when[0] for parameter in space.parameters if parameter.when is not None}
    points = [start]
    for group in groups:
        if group.name in owners:
            points += [{**start, group.name: value} for value in group.values if value != start[group.name]]
    for point in points:
        composed = composer.compose(space.groups(point), [])
        for parameter in space.active(dict(point)):
            if parameter.group:
                continue
            try:
                point[parameter.name] = parameter.encode(OmegaConf.select(composed, parameter.key))
            except ValueError:
                continue
    return [point for point in points if point]


def _program() -> str:
    """How the running program is started: `python -m package.module`, or by its file."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name}" if spec is not None and spec.name else f"python {sys.argv[0]}"
