"""Writes the version that an alias names as a folder that a server serves without a registry."""

import hashlib
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from wineexp.core.errors import UserError
from wineexp.serving.model import export, pipeline
from wineexp.serving.model.export import Export, SealedExport
from wineexp.serving.model.loading import load
from wineexp.serving.model.metadata import describe_version
from wineexp.tracking.registry import Registry


def write(registry: Registry, alias: str, folder: Path, note: str | None) -> Export:
    """Fetch a version, check it as a server would, and write its folder atomically.

    Raises
    ------
    UserError
        There is no such alias, its version fails a check, or the folder exists.
    """
    if folder.exists():
        raise UserError(f"export={folder}: it is there already, and exports are not mixed; name another folder")
    registered = registry.version(alias)
    scratch = folder.with_name(f".{folder.name}-{os.getpid()}")
    download = scratch / "download"
    try:
        download.mkdir(parents=True)
        registry.fetch(registered, download).rename(scratch / export.FILES)
        shutil.rmtree(download, ignore_errors=True)
        # The store's address is left out, since it may hold a password.
        version = msgspec.structs.replace(describe_version(registry, registered), uri="")
        exported = Export(version, alias, datetime.now(UTC).isoformat(timespec="seconds"), note)
        encoded = msgspec.json.encode(exported)
        sealed = SealedExport(hashlib.sha256(encoded).hexdigest(), msgspec.Raw(encoded))
        (scratch / export.RECORD).write_bytes(msgspec.json.encode(sealed))
        _, files = export.read(scratch)
        pipeline.load_verified(files)
        load(files, version, alias, max_rows=1)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return exported
