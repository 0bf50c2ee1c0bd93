"""The cache of verified versions on disk: a server starts from it even while the registry is down.

The refresh process stores a version there once all of its checks have passed; servers load it from there.
"""

import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import msgspec
import structlog

from wineexp.core.errors import UserError
from wineexp.models import manifest

log = structlog.get_logger()

# The file that names the current version.
RECORD = "version.json"

# Age at which a scratch folder is taken for one that a killed process left.
STALE_SCRATCH_SECONDS = 3600


class CachedVersion(msgspec.Struct, frozen=True):
    """What is recorded beside a version's files.

    Attributes
    ----------
    uri : str
        The tracking store that it is registered in.
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
        """Distinguishes it from any other version, and from the same version with other files."""
        return self.number, self.run_id, self.digest


class Cache:
    """The cache of one alias of one registered model.

    Parameters
    ----------
    folder : Path
        Shared with other aliases, models and servers.
    uri, name, alias : str
    """

    def __init__(self, folder: Path, uri: str, name: str, alias: str) -> None:
        self.uri = uri
        self.folder = folder / f"{quote(name, safe='')}@{quote(alias, safe='')}"

    def make_scratch_folder(self) -> Path:
        """A new empty folder on the cache's own disk, from which `store` can move files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # It may be another user's, or from when others could read it.
        with suppress(OSError):
            self.folder.chmod(0o700)
        return Path(tempfile.mkdtemp(prefix=".fetching-", dir=self.folder))

    def files(self, version: CachedVersion) -> Path:
        """The folder of a version's files."""
        return self.folder / version.folder

    def read(self) -> CachedVersion | None:
        """The current version, its files verified against their digests; None where there is none."""
        try:
            version = msgspec.json.decode((self.folder / RECORD).read_bytes(), type=CachedVersion)
            if version.uri != self.uri or self.files(version).parent != self.folder:
                return None
            manifest.verify(self.files(version), version.files)
        except (OSError, msgspec.MsgspecError):
            return None
        except UserError as error:
            log.warning("cache refused", why=list(error.faults))
            return None
        return version

    def store(self, files: Path, version: CachedVersion) -> CachedVersion:
        """Make verified files the current version, atomically; gives its record with the name of their folder."""
        version = msgspec.structs.replace(version, folder=f"version-{version.number}-{version.digest[:16]}")
        target = self.files(version)
        try:
            files.rename(target)
        except OSError:
            # The folder exists, from before or by another server. Whatever it holds, these files are verified.
            shutil.rmtree(target, ignore_errors=True)
            shutil.move(files, target)
        temporary = self.folder / f".{RECORD}-{os.getpid()}"
        with temporary.open("wb") as file:
            file.write(msgspec.json.encode(version))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / RECORD)
        self._remove_others(target)
        return version

    def _remove_others(self, current: Path) -> None:
        """Remove the folders of earlier versions, and scratch folders that killed processes left."""
        for path in self.folder.iterdir():
            is_stale = path.name.startswith(".fetching-") and _age_seconds(path) > STALE_SCRATCH_SECONDS
            is_earlier = path.name.startswith("version-") and path != current
            if path.is_dir() and (is_stale or is_earlier):
                shutil.rmtree(path, ignore_errors=True)


def _age_seconds(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
