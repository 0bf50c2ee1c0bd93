"""A worker that joins a study from anywhere: what the study stores for it, and the command that it becomes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig
from optuna.storages import BaseStorage

from wineexp.core.addresses import without_credentials
from wineexp.core.errors import UserError, did_you_mean
from wineexp.sweep.compose import hydra_overrides
from wineexp.sweep.sweep_syntax import quote

# The system attribute of a study that holds the program and its arguments.
COMMAND = "wineexp:command"
# Overrides that say where and by how many workers trials are run, which each worker decides for itself.
OF_THE_CALL = (
    *(
        "hydra.mode",
        "hydra/launcher",
        "hydra.launcher",
        "hydra.sweep.dir",
        "hydra.sweep.subdir",
        "hydra/sweeper/storage",
    ),
    *(f"hydra.sweeper.{key}" for key in ("storage", "study_name", "folder", "n_workers", "wait", "joins", "take_over")),
)


@dataclass(frozen=True)
class StoredCommand:
    """The command of a sweep as its study stores it.

    Attributes
    ----------
    program : list of str
        The words after `python`: `-m` and a module, or a file; then the options that name configs.
    arguments : list of str
        The overrides, without those that differ from worker to worker.
    """

    program: list[str]
    arguments: list[str]


def store_command(
    storage: BaseStorage, study_id: int, command: Sequence[str], config: DictConfig, arguments: Sequence[str]
) -> None:
    """Store a sweep's command in its study.

    Parameters
    ----------
    storage : BaseStorage
    study_id : int
    command : sequence of str
        How the program was started: `StudySpec.command`.
    config : DictConfig
        The sweep's own.
    arguments : sequence of str
        The overrides of the task's config.
    """
    own = [line for line in hydra_overrides(config) if not is_of_the_call(line)]
    program = [word for word in command[1:] if word not in own]
    stored = {"program": program, "arguments": [without_credentials(line) for line in (*own, *arguments)]}
    if storage.get_study_system_attrs(study_id).get(COMMAND) != stored:
        storage.set_study_system_attr(study_id, COMMAND, stored)


def is_of_the_call(override: str) -> bool:
    """Whether an override is about one call of the sweep, not about the study."""
    key = override.lstrip("+~").partition("=")[0]
    return any(key == name or key.startswith(f"{name}.") for name in OF_THE_CALL)


def load_command(storage: BaseStorage, study: str) -> StoredCommand:
    """The command of the sweep that a study belongs to.

    Raises
    ------
    UserError
        The storage has no such study, or nothing of its sweep.
    """
    studies = {known.study_name: known for known in storage.get_all_studies()}
    if study not in studies:
        raise UserError(f"study={study}: the storage has no such study; {did_you_mean(study, studies)}")
    stored: Mapping[str, Any] | None = studies[study].system_attrs.get(COMMAND)
    if stored is None:
        raise UserError(f"study={study}: it was not begun by a sweep of this version, so that no worker can join it")
    return StoredCommand(list(stored["program"]), list(stored["arguments"]))


def joining_arguments(command: StoredCommand, study: str, storage: str, more: Sequence[str] = ()) -> list[str]:
    """The words after `python` of a worker that joins a study; the address of its storage without credentials."""
    return [
        *command.program,
        "-m",
        *command.arguments,
        "hydra/sweeper/storage=rdb",
        f"hydra.sweeper.storage.url={quote(without_credentials(storage))}",
        f"hydra.sweeper.study_name={quote(study)}",
        "hydra.sweeper.joins=true",
        *more,
    ]
