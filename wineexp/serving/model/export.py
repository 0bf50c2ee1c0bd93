"""A version as one folder that answers without a registry, believed only while it is whole; `exporter` writes it."""

import hashlib
import os
from pathlib import Path

import msgspec

from wineexp.core.config import Serve
from wineexp.core.errors import UserError
from wineexp.models import manifest
from wineexp.serving.model.cache import Kept

# In the folder: what it is, and the version's files as they were registered.
NOTE, FILES = "export.json", "files"


class Export(msgspec.Struct, frozen=True):
    """What the note says.

    Attributes
    ----------
    kept : Kept
    alias : str
        What named the version when it was exported.
    when : str
        UTC, ISO 8601.
    told : str or None
        A sentence for those who look at the server.
    """

    kept: Kept
    alias: str
    when: str
    told: str | None


class Sealed(msgspec.Struct, frozen=True):
    """A note with the SHA-256 of its bytes."""

    sha256: str
    export: msgspec.Raw


def chosen(settings: Serve) -> Path | None:
    """The folder that is to be served, None where an alias is."""
    folder = settings.serve.export_folder
    return None if folder is None or os.environ.get("MLFLOW_TRACKING_URI") else Path(folder)


def read(folder: Path) -> tuple[Export, Path]:
    """An export, whole by its seals, and the folder of the version's files.

    Raises
    ------
    UserError
        It is no export, or not the one that was written.
    """
    try:
        sealed = msgspec.json.decode((folder / NOTE).read_bytes(), type=Sealed)
        export = msgspec.json.decode(sealed.export, type=Export)
    except FileNotFoundError as error:
        raise UserError(
            f"serve.export_folder={folder}: it holds no {NOTE}; write one with "
            f"python -m wineexp.promote export={folder}"
        ) from error
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UserError(
            f"serve.export_folder={folder}: {NOTE} cannot be read ({error}); export the version anew"
        ) from error
    faults = []
    if hashlib.sha256(bytes(sealed.export)).hexdigest() != sealed.sha256:
        faults.append(f"{NOTE} was changed after it was written")
    if manifest.digest(export.kept.files) != export.kept.digest:
        faults.append(f"{NOTE} lists other files than were registered")
    try:
        manifest.verify(folder / FILES, export.kept.files)
    except UserError as error:
        faults += error.faults
    if faults:
        raise UserError(*(f"serve.export_folder={folder}: {fault}" for fault in faults))
    return export, folder / FILES
