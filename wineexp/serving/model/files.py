"""Reads the files of a version: its schema and MLflow's description of the model."""

from pathlib import Path

import yaml

from wineexp.core.errors import UserError
from wineexp.data import schema
from wineexp.data.schema import Schema
from wineexp.models import manifest


def read_schema(folder: Path) -> Schema:
    """The schema in a version's files.

    Raises
    ------
    UserError
        There is none that can be read.
    """
    try:
        return schema.from_json((folder / manifest.EXTRA_FOLDER / schema.FILE_NAME).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"it has no {schema.FILE_NAME}, which says what rows the model takes; promote it anew"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"its schema cannot be read ({type(error).__name__}: {error})") from error


def read_mlmodel(folder: Path) -> dict[str, object]:
    """MLflow's description of the model.

    Raises
    ------
    UserError
        There is none that can be read.
    """
    try:
        return dict(yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"its MLmodel cannot be read ({type(error).__name__})") from error
