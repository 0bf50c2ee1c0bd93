"""The last version that passed every check, kept on disk: what a server starts from while the registry is down."""

import os
import shutil
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import msgspec
import structlog

from wineexp import artifact
from wineexp.errors import UserError
from wineexp.registry import DIGEST, Version
from wineexp.runs import Record

log = structlog.get_logger()

NOTE = "served.json"


class Kept(msgspec.Struct, frozen=True):
    """What the note beside the files says.

    Attributes
    ----------
    uri : str
        The store that the version is registered in.
    version : Version
    record : Record
    folder : str
        Name of the folder that holds its files.
    """

    uri: str
    version: Version
    record: Record
    folder: str


class Cache:
    """A folder for one alias of one registered model.

    Parameters
    ----------
    folder : Path
        Shared with other aliases, models and servers.
    uri, name, alias : str
    """

    def __init__(self, folder: Path, uri: str, name: str, alias: str) -> None:
        self.uri = uri
        self.folder = folder / f"{quote(name, safe='')}@{quote(alias, safe='')}"
        self.folder.mkdir(parents=True, exist_ok=True)

    def scratch(self) -> Path:
        """A new empty folder on the cache's own disk, from which `keep` can move what is good."""
        return Path(tempfile.mkdtemp(prefix=".fetching-", dir=self.folder))

    def find(self) -> tuple[Kept, Path] | None:
        """The last version and its files, whole by their seal; None where there is none."""
        try:
            kept = msgspec.json.decode((self.folder / NOTE).read_bytes(), type=Kept)
            files = self.folder / kept.folder
            if kept.uri != self.uri or files.parent != self.folder:
                return None
            artifact.verify(files, kept.version.files)
        except (OSError, msgspec.MsgspecError):
            return None
        except UserError as error:
            log.warning("cache refused", why=list(error.faults))
            return None
        return kept, files

    def keep(self, files: Path, version: Version, record: Record) -> None:
        """Make verified files the ones that `find` gives, all at once or not at all."""
        name = f"version-{version.number}-{version.tags.get(DIGEST, '')[:16]}"
        target = self.folder / name
        try:
            files.rename(target)
        except OSError:
            # It is there, from before or from another worker: whole or not, these are known to be.
            shutil.rmtree(target, ignore_errors=True)
            shutil.move(files, target)
        note = self.folder / f".{NOTE}-{os.getpid()}"
        with note.open("wb") as file:
            file.write(msgspec.json.encode(Kept(self.uri, version, record, name)))
            file.flush()
            os.fsync(file.fileno())
        note.replace(self.folder / NOTE)
        self._tidy(name)

    def _tidy(self, current: str) -> None:
        """Drop what is no longer named, and what a killed process left."""
        for path in self.folder.iterdir():
            stale = path.name.startswith(".fetching-") and _minutes_old(path) > 60
            if path.is_dir() and (stale or (path.name.startswith("version-") and path.name != current)):
                shutil.rmtree(path, ignore_errors=True)


def _minutes_old(path: Path) -> float:
    try:
        return (time.time() - path.stat().st_mtime) / 60
    except OSError:
        return 0.0
