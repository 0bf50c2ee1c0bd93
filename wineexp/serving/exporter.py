"""What an alias names, written as a folder that a server answers from without a registry."""

import hashlib
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from wineexp.core.errors import UserError
from wineexp.serving.model import export, pipeline
from wineexp.serving.model.export import Export, Sealed
from wineexp.serving.model.loading import load
from wineexp.serving.model.metadata import described
from wineexp.tracking.registry import Registry


def write(registry: Registry, alias: str, folder: Path, told: str | None) -> Export:
    """Fetch a version, put it through every check of a server's, and write it, all at once or not at all.

    Raises
    ------
    UserError
        There is no such alias, its version fails a check, or the folder is there already.
    """
    if folder.exists():
        raise UserError(f"export={folder}: it is there already, and exports are not mixed; name another folder")
    version = registry.version(alias)
    half = folder.with_name(f".{folder.name}-{os.getpid()}")
    fetched = half / "fetched"
    try:
        fetched.mkdir(parents=True)
        registry.fetch(version, fetched).rename(half / export.FILES)
        shutil.rmtree(fetched, ignore_errors=True)
        # Its address may hold a password.
        kept = msgspec.structs.replace(described(registry, version), uri="")
        written = Export(kept, alias, datetime.now(UTC).isoformat(timespec="seconds"), told)
        note = msgspec.json.encode(written)
        sealed = Sealed(hashlib.sha256(note).hexdigest(), msgspec.Raw(note))
        (half / export.NOTE).write_bytes(msgspec.json.encode(sealed))
        _, files = export.read(half)
        pipeline.checked(files)
        load(files, kept, alias, most=1)
        half.rename(folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return written
