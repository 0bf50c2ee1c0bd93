"""Pins: the `.dvc` files that name the exact bytes of a data file and where they come from."""

import hashlib
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from wineexp.core import paths
from wineexp.core.addresses import keep_credentials, without_credentials
from wineexp.core.errors import UserError, brief

# Characters of a file that an error repeats.
MAX_SHOWN_CHARS = 100

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pin:
    """Content of a `.dvc` file of one data file.

    Attributes
    ----------
    dvc_file : Path
        The `.dvc` file; of a file without one, the file itself.
    path : Path
        The data file.
    md5 : str
    size : int
        In bytes.
    source_url : str or None
        Address from which the data file can be downloaded.
    """

    dvc_file: Path
    path: Path
    md5: str
    size: int
    source_url: str | None

    @property
    def is_pinned(self) -> bool:
        """Whether there is a `.dvc` file."""
        return self.dvc_file != self.path

    @property
    def name(self) -> str:
        """The data file's path as a user would type it; see `display_path`."""
        return display_path(self.path)

    @property
    def dvc_name(self) -> str:
        """The `.dvc` file's path as a user would type it; see `display_path`."""
        return display_path(self.dvc_file)


def read(file: str | Path) -> Pin:
    """Read a pin, or make that of a data file as it stands where it has none.

    Parameters
    ----------
    file : str or Path
        A `.dvc` file with one output, its md5 and size, or a data file, beside which its pin may lie. A relative path
        starts at the project's root; a pin that is not there may have come with an installed wineexp.

    Raises
    ------
    UserError
        The file is missing, or its pin is not one of one file.
    """
    if Path(file).suffix == ".dvc":
        return _read_dvc_file(file)
    path = paths.ROOT / file
    dvc_file = path.with_name(f"{path.name}.dvc")
    if dvc_file.exists() or not path.exists():
        return _read_dvc_file(dvc_file if path.is_absolute() else f"{file}.dvc")
    try:
        return Pin(path, path, file_md5(path), path.stat().st_size, source_url=None)
    except OSError as error:
        raise UserError(f"{display_path(path)} cannot be read: {error.strerror}") from error


def file_md5(path: Path) -> str:
    """The md5 of a file, which is not read whole: it need not fit into memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()


def _read_dvc_file(dvc_file: str | Path) -> Pin:
    path = paths.ROOT / dvc_file
    folder = path.parent
    if not path.exists() and (paths.PINS / path.name).is_file():
        # The data file belongs into the user's project, wherever its pin is.
        path = paths.PINS / path.name
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        pins = ", ".join(sorted(display_path(pin) for pin in (paths.ROOT / "data").rglob("*.dvc")))
        raise UserError(f"{dvc_file}: there is no such pin; pins under data/: {pins or '(none)'}") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{dvc_file}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    match content:
        case {"outs": [{"md5": str(md5), "size": int(size), "path": str(name)}]} if re.fullmatch("[0-9a-f]{32}", md5):
            match content.get("meta"):
                case {"source_url": str(source_url)}:
                    return Pin(path, folder / name, md5, size, keep_credentials(source_url))
            return Pin(path, folder / name, md5, size, source_url=None)
    raise UserError(
        f"{dvc_file}: not a pin of one file: it holds {brief(repr(content), MAX_SHOWN_CHARS)}, but must hold outs: "
        "with one md5 of 32 hexadecimal digits, one size in bytes and one path, as `dvc add` writes it"
    )


def write(path: Path, source_url: str | None) -> None:
    """Pin a data file as it stands, beside it, without copying it: by DVC in a DVC project, else as DVC would.

    Parameters
    ----------
    path : Path
    source_url : str or None
        Address from which the file was downloaded.

    Raises
    ------
    UserError
        The pin cannot be written.
    """
    if any((folder / ".dvc" / "config").is_file() for folder in path.parents):
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        try:
            with Repo(str(path.parent)) as repo:
                # Its hints at git would be logged twice.
                repo.scm_context.quiet = True
                # The cache takes a copy when the file is fetched, committed or pushed.
                repo.add([str(path)], no_commit=True)
        except DvcException as error:
            # As of a file that git tracks, which DVC leaves to git.
            log.info("pinned without DVC, since it says: %s", " ".join(str(error).split()))
    dvc_file = path.with_name(f"{path.name}.dvc")
    content: dict[str, object] = {}
    if dvc_file.exists():
        content = yaml.safe_load(dvc_file.read_text())
    else:
        content["outs"] = [{"md5": file_md5(path), "size": path.stat().st_size, "hash": "md5", "path": path.name}]
    if source_url is not None:
        content["meta"] = {"source_url": without_credentials(source_url)}
    try:
        dvc_file.write_text(yaml.safe_dump(content, sort_keys=False))
    except OSError as error:
        raise UserError(f"{display_path(dvc_file)} cannot be written: {error.strerror}") from error


def store_in_cache(pins: Iterable[Pin]) -> None:
    """Give DVC's cache the files, as `dvc add` does: without it `dvc status` calls them changed for ever.

    Nothing is done where the project does not use DVC.
    """
    if not (paths.ROOT / ".dvc").is_dir():
        return
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(paths.ROOT)) as repo:
            for pin in pins:
                if pin.is_pinned and pin.dvc_file.is_relative_to(paths.ROOT):
                    repo.commit(str(pin.dvc_file), force=True)
    except DvcException as error:
        # The data are there and verified.
        log.warning("DVC's cache did not take them: %s", " ".join(str(error).split()))


def display_path(path: Path) -> str:
    """A path for messages: relative to the project's root where it is inside the project."""
    return str(path.relative_to(paths.ROOT)) if path.is_relative_to(paths.ROOT) else str(path)
