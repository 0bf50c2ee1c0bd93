"""A study: its name, its directions, and finding it again in its storage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import optuna
from omegaconf import DictConfig
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection

from wineexp.core.errors import UserError, brief, did_you_mean
from wineexp.sweep._optuna import storage_of
from wineexp.sweep.definition import Definition, check_or_record
from wineexp.sweep.leases import Leases
from wineexp.sweep.ledger import Budget, Ledger, Terminator
from wineexp.sweep.outages import PatientStorage, wait_out
from wineexp.sweep.plan import Plan
from wineexp.sweep.samplers import make_pruner
from wineexp.sweep.space import Point
from wineexp.sweep.storage import is_sqlite, open_storage

# What a study's name may have, which names a folder and a run in MLflow, and how much of a longer one an error shows.
MAX_NAME_BYTES = 250
SHOWN_NAME_CHARS = 60


@dataclass
class StudySpec:
    """What every worker needs to know of a study.

    Attributes
    ----------
    settings : mapping
        `hydra.sweeper` as a plain container.
    config : DictConfig
        The sweep's own config.
    name : str
        The study's name in its storage.
    folder : Path
        The folder of the study, which holds a folder for each trial.
    n_trials : int or None
        The budget of the whole study; None is no limit.
    visits_each_point : bool
        Whether each point of the space has one trial, in the order of a grid.
    command : sequence of str
        How the program was started, for a person to start it again: the words of a command line, without the overrides
        of its config.
    folder_overrides : sequence of str
        The overrides that put a trial's folder into the study's.
    enqueued : sequence of dict
        Fixed parameters of the first trials.
    definition : dict
        What the study has to have been begun with; see `definition.define`.

    """

    settings: Mapping[str, Any]
    config: DictConfig
    name: str
    folder: Path
    n_trials: int | None
    visits_each_point: bool
    command: Sequence[str]
    folder_overrides: Sequence[str] = ()
    enqueued: Sequence[Point] = ()
    definition: Definition = field(default_factory=dict)

    @property
    def directions(self) -> list[str]:
        """`minimize` or `maximize` for each objective."""
        return directions_of(self.settings)


def shown(path: Path) -> str:
    """A path for a person to read: from the current folder if it lies there."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def directions_of(settings: Mapping[str, Any]) -> list[str]:
    """The directions that `hydra.sweeper` states, one for each objective."""
    return list(settings["directions"] or [settings["direction"]])


def check_directions(names: Sequence[str]) -> list[str]:
    """The faults of the directions."""
    known = ["maximize", "minimize"]
    return [f"direction {name!r} is none; {did_you_mean(name, known)}" for name in names if name not in known]


def study_name(settings: Mapping[str, Any], config: DictConfig, plan: Plan) -> str:
    """The name that the user gives, or the choices of `name_from`, of which several are joined by `+`."""
    if settings["study_name"]:
        return str(settings["study_name"])
    swept = {group.key: "+".join(group.texts) for group in plan.space.groups}
    fixed = dict(line.lstrip("+").split("=", 1) for line in plan.fixed_overrides if "=" in line)
    choices = {**config.hydra.runtime.choices, **fixed, **swept}
    parts = [str(choices[group]) for group in settings["name_from"] if choices.get(group) not in (None, "null")]
    # A choice of a group below a group has a slash, which would put its study into a folder below.
    return "-".join(parts).replace("/", "_") or str(config.hydra.job.name)


def name_faults(name: str) -> list[str]:
    """What is wrong with a study's name, which is also its folder's."""
    place = PurePath(name)
    if place.is_absolute() or ".." in place.parts or not place.parts:
        return [f"study_name={name}: it names a folder in multirun/ and cannot lead out of it; choose another"]
    size = len(name.encode())
    if size > MAX_NAME_BYTES:
        return [
            f"study_name={brief(name, SHOWN_NAME_CHARS)}: it has {size} bytes, and its folder and its run in MLflow "
            f"take {MAX_NAME_BYTES}; give a shorter hydra.sweeper.study_name"
        ]
    return []


def check_exists(spec: StudySpec, storage: BaseStorage) -> None:
    """Raise UserError if the storage has no such study."""
    names = [study.study_name for study in storage.get_all_studies()]
    if spec.name not in names:
        raise UserError(f"study {spec.name!r} cannot be joined: the storage has none of this name; choices: {names}")


def create_or_load(spec: StudySpec, storage: BaseStorage) -> Study:
    """Create the study, or load it and check that it is still the same.

    Raises
    ------
    UserError
        If its directions or its definition are not those that it was created with, or its folder has another study's
        trials.

    """
    if spec.name not in [study.study_name for study in storage.get_all_studies()]:
        trial_folders = [path.name for path in spec.folder.glob("*") if path.name.isdigit()]
        if trial_folders:
            raise UserError(
                f"{shown(spec.folder)} holds {len(trial_folders)} trials of a study that the storage does not know; "
                f"{spec.name!r} would overwrite them. Move the folder away, or name another hydra.sweeper.study_name"
            )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=storage,
        study_name=spec.name,
        directions=[StudyDirection[name.upper()] for name in spec.directions],
        load_if_exists=True,
    )
    stored_directions = [direction.name.lower() for direction in study.directions]
    if stored_directions != spec.directions:
        raise UserError(
            f"study {spec.name!r} was begun with directions {stored_directions}, now they are {spec.directions}: "
            "name another hydra.sweeper.study_name"
        )
    check_or_record(study, storage, spec.definition, extend=spec.settings["extend"])
    return study


def patiently_opened(settings: Mapping[str, Any], folder: Path) -> BaseStorage:
    """The study's storage, for a worker, which may begin while the database is away."""
    max_outage = settings["max_outage"]
    return wait_out(lambda: open_storage(settings["storage"], folder, max_outage), max_outage)[0]


def open_ledger(spec: StudySpec, plan: Plan, storage: BaseStorage | None = None) -> Ledger:
    """The ledger of a study that exists; opens its storage if none is given."""
    settings = spec.settings
    storage = storage or patiently_opened(settings, spec.folder)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.load_study(study_name=spec.name, storage=storage, pruner=make_pruner(spec.settings["pruner"]))
    terminator = Terminator(**settings["terminator"]) if settings["terminator"]["patience"] else None
    budget = Budget(spec.n_trials, settings["max_failures"], settings["retries"], terminator)
    # A space function's parameters are not known before it is called.
    is_complete = bool if plan.space_function else plan.space.is_complete
    points = plan.space.grid if spec.visits_each_point else None
    leases = None
    if isinstance(storage, PatientStorage) and not is_sqlite(storage.database.url):
        study_id = storage.get_study_id_from_name(spec.name)
        leases = Leases(storage.database.engine, study_id, settings["lease"], settings["max_outage"])
        leases.create_table()
    return Ledger(study, storage_of(study), spec.folder, budget, spec.enqueued, is_complete, points, leases)
