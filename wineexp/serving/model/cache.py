"""The last version that passed every check, kept on disk: what a server answers from, whatever becomes of the registry.

An examiner puts it there, once it has held everything against the registry; servers load it from there.
"""

import os
import shutil
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import msgspec
import structlog

from wineexp.core.errors import UserError
from wineexp.models import manifest

log = structlog.get_logger()

NOTE = "served.json"


class Kept(msgspec.Struct, frozen=True):
    """What the note beside the files says of a version.

    Attributes
    ----------
    uri : str
        The store that it is registered in.
    name : str
        The registered model.
    number : int
    run_id : str
    digest : str
        One SHA-256 over all of its files.
    files : dict of str to str
        SHA-256 of each file, as it was registered.
    aliases : list of str
    form : str
        Whether it was compiled for serving, or why not.
    run_name : str
    params, tags : dict of str to str
    metrics : dict of str to float
        Of the run that it was registered from.
    folder : str
        Name of the folder that holds its files.
    """

    uri: str
    name: str
    number: int
    run_id: str
    digest: str
    files: dict[str, str]
    aliases: list[str]
    form: str
    run_name: str
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    folder: str = ""

    @property
    def identity(self) -> tuple[int, str, str]:
        """What tells it from any other version, and from itself with other files."""
        return self.number, self.run_id, self.digest


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

    def scratch(self) -> Path:
        """A new empty folder on the cache's own disk, from which `keep` can move what is good."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".fetching-", dir=self.folder))

    def files(self, kept: Kept) -> Path:
        """Where a version's files are."""
        return self.folder / kept.folder

    def find(self) -> Kept | None:
        """The last version, whole by its seal; None where there is none."""
        try:
            kept = msgspec.json.decode((self.folder / NOTE).read_bytes(), type=Kept)
            if kept.uri != self.uri or self.files(kept).parent != self.folder:
                return None
            manifest.verify(self.files(kept), kept.files)
        except (OSError, msgspec.MsgspecError):
            return None
        except UserError as error:
            log.warning("cache refused", why=list(error.faults))
            return None
        return kept

    def keep(self, files: Path, kept: Kept) -> Kept:
        """Make verified files the ones that `find` gives, all at once or not at all; gives the note with its folder."""
        kept = msgspec.structs.replace(kept, folder=f"version-{kept.number}-{kept.digest[:16]}")
        target = self.files(kept)
        try:
            files.rename(target)
        except OSError:
            # It is there, from before or from another server: whole or not, these are known to be.
            shutil.rmtree(target, ignore_errors=True)
            shutil.move(files, target)
        note = self.folder / f".{NOTE}-{os.getpid()}"
        with note.open("wb") as file:
            file.write(msgspec.json.encode(kept))
            file.flush()
            os.fsync(file.fileno())
        note.replace(self.folder / NOTE)
        self._tidy(target)
        return kept

    def _tidy(self, current: Path) -> None:
        """Drop what is no longer named, and what a killed process left."""
        for path in self.folder.iterdir():
            left = path.name.startswith(".fetching-") and _age(path) > 3600
            if path.is_dir() and (left or (path.name.startswith("version-") and path != current)):
                shutil.rmtree(path, ignore_errors=True)


def _age(path: Path) -> float:
    """Seconds since it was made."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
