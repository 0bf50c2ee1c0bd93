"""All that is used of MLflow beyond its public API; tests/tracking/test_mlflow.py says what is relied on."""

import logging
import os
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import requests
from mlflow.entities import Run
from mlflow.environment_variables import MLFLOW_SQLALCHEMYSTORE_POOLCLASS
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils import environment
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID as PARENT_RUN_ID
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE as NOTE
from mlflow.utils.validation import MAX_PARAMS_TAGS_PER_BATCH

from wineexp.core.environment import restoring

# The columns of a store's database that hold where files are, each an absolute path or URI.
LOCATION_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)

__all__ = [
    "MAX_PARAMS_TAGS_PER_BATCH",
    "NOTE",
    "PARENT_RUN_ID",
    "already_exists",
    "experiment_locations",
    "ignore_harmless_hints",
    "is_insertion_race",
    "is_invalid",
    "is_missing",
    "is_unreachable",
    "replace_location",
    "resolve_tags",
    "silence_database_log",
    "stored_model_id",
    "without_connection_pool",
    "without_environment_check",
]


def is_missing(error: MlflowException) -> bool:
    """Whether MLflow says that what was asked for does not exist."""
    return bool(error.error_code == "RESOURCE_DOES_NOT_EXIST")


def is_invalid(error: MlflowException) -> bool:
    """Whether MLflow says that a value cannot be one of its kind; an unknown alias is such a value."""
    return bool(error.error_code == "INVALID_PARAMETER_VALUE")


def already_exists(error: MlflowException) -> bool:
    """Whether MLflow says that a name is taken."""
    return bool(error.error_code == "RESOURCE_ALREADY_EXISTS")


def is_insertion_race(error: MlflowException) -> bool:
    """Whether two processes inserted the same row at once: the text is the database's, MLflow has no code for it."""
    return "unique" in str(error).lower()


def is_unreachable(error: MlflowException) -> bool:
    """Whether a server did not answer in all the tries of MLflow's client, or says that it cannot at the moment."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, requests.exceptions.ConnectionError | requests.exceptions.Timeout):
            return True
        link = link.__cause__ or link.__context__
    return bool(error.error_code == "TEMPORARILY_UNAVAILABLE")


def stored_model_id(run: Run) -> str | None:
    """The id of the model that a run stored; None where it stored none. `Run.outputs` has no type."""
    outputs = run.outputs
    return str(outputs.model_outputs[0].model_id) if outputs and outputs.model_outputs else None


def experiment_locations(connection: sqlite3.Connection) -> list[str]:
    """Where the experiments of a store's database say that their files are; empty before the tables are made."""
    try:
        return [location for (location,) in connection.execute("SELECT artifact_location FROM experiments") if location]
    except sqlite3.OperationalError:
        return []


def replace_location(connection: sqlite3.Connection, old: str, new: str) -> None:
    """Write a new location, and of everything below it, into a store's database; MLflow has no request for that."""
    for table, column in LOCATION_COLUMNS:
        connection.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? OR {column} LIKE ? ESCAPE '!'",  # noqa: S608
            (new, len(old) + 1, old, old.replace("!", "!!").replace("%", "!%").replace("_", "!_") + "/%"),
        )


def silence_database_log() -> None:
    """Keep MLflow from logging a failed commit with a traceback: it raises the error as well."""
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


@contextmanager
def without_connection_pool() -> Iterator[None]:
    """Let a database that MLflow uses for the first time keep no connection open between two requests."""
    name = MLFLOW_SQLALCHEMYSTORE_POOLCLASS.name
    with restoring(name):
        os.environ[name] = "NullPool"
        yield


@contextmanager
def without_environment_check() -> Iterator[None]:
    """Store models without a look at the files of all installed packages, which takes a quarter of a second.

    MLflow looks whether the requirements of a model hold in this environment, from which they were taken.
    """
    name = "warn_dependency_requirement_mismatches"
    check = getattr(environment, name)
    setattr(environment, name, lambda _: None)
    try:
        yield
    finally:
        setattr(environment, name, check)


@contextmanager
def ignore_harmless_hints() -> Iterator[None]:
    """Ignore MLflow's warnings that integers cannot be missing later, and that a path may be read in two ways."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*integer column.*")
        warnings.filterwarnings("ignore", "The specified dataset source can be interpreted in multiple ways")
        yield
