"""An exported version: a folder that is served without a registry, after every byte was verified.

`wineexp.serving.exporter` writes such folders.
"""

import hashlib
import os
from pathlib import Path

import msgspec

from wineexp.core.config import Serve
from wineexp.core.errors import UserError
from wineexp.models import manifest
from wineexp.serving.model.cache import CachedVersion

# The file that describes the export, and the folder of the version's files as they were registered.
RECORD, FILES = "export.json", "files"


class Export(msgspec.Struct, frozen=True):
    """The description of an exported version.

    Attributes
    ----------
    version : CachedVersion
    alias : str
        The alias that named the version when it was exported.
    when : str
        UTC, ISO 8601.
    note : str or None
        A sentence for those who look at the server.
    """

    version: CachedVersion
    alias: str
    when: str
    note: str | None


class SealedExport(msgspec.Struct, frozen=True):
    """The JSON of an `Export` with the SHA-256 of its bytes."""

    sha256: str
    export: msgspec.Raw


def configured_folder(settings: Serve) -> Path | None:
    """The exported folder to serve; None where an alias is followed, since `MLFLOW_TRACKING_URI` wins."""
    folder = settings.serve.export_folder
    return None if folder is None or os.environ.get("MLFLOW_TRACKING_URI") else Path(folder)


def read(folder: Path) -> tuple[Export, Path]:
    """An export, verified against its digests, and the folder of the version's files.

    Raises
    ------
    UserError
        The folder holds no export, or was changed after it was written.
    """
    try:
        sealed = msgspec.json.decode((folder / RECORD).read_bytes(), type=SealedExport)
        export = msgspec.json.decode(sealed.export, type=Export)
    except FileNotFoundError as error:
        raise UserError(
            f"serve.export_folder={folder}: it holds no {RECORD}; write one with "
            f"python -m wineexp.promote export={folder}"
        ) from error
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UserError(
            f"serve.export_folder={folder}: {RECORD} cannot be read ({error}); export the version anew"
        ) from error
    faults = []
    if hashlib.sha256(bytes(sealed.export)).hexdigest() != sealed.sha256:
        faults.append(f"{RECORD} was changed after it was written")
    if manifest.digest(export.version.files) != export.version.digest:
        faults.append(f"{RECORD} lists other files than were registered")
    try:
        manifest.verify(folder / FILES, export.version.files)
    except UserError as error:
        faults += error.faults
    if faults:
        raise UserError(*(f"serve.export_folder={folder}: {fault}" for fault in faults))
    return export, folder / FILES
