"""What a version's files say of it: its schema and MLflow's description."""

from pathlib import Path

import yaml

from wineexp.core.errors import UserError
from wineexp.data import schema
from wineexp.data.schema import Schema
from wineexp.models import manifest


def stored_schema(folder: Path) -> Schema:
    """The schema in a version's files.

    Raises
    ------
    UserError
        There is none that can be read.
    """
    try:
        return schema.from_json((folder / manifest.EXTRA_FOLDER / schema.FILE_NAME).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        told = f"it has no {schema.FILE_NAME}, so that nobody can tell what it may be asked; promote it anew"
        raise UserError(told) from error
    except (OSError, ValueError) as error:
        raise UserError(f"its schema cannot be read ({type(error).__name__}: {error})") from error


def stored_model(folder: Path) -> dict[str, object]:
    """What MLflow wrote down of the model.

    Raises
    ------
    UserError
        There is nothing that can be read.
    """
    try:
        return dict(yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"its MLmodel cannot be read ({type(error).__name__})") from error
