"""Pins: the `.dvc` files that name the exact bytes of a data file and where they come from."""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from wineexp.core import paths
from wineexp.core.errors import UserError, brief

# Characters of a file that an error repeats.
MAX_SHOWN_CHARS = 100


@dataclass(frozen=True)
class Pin:
    """Content of a `.dvc` file of one data file.

    Attributes
    ----------
    dvc_file : Path
        The `.dvc` file.
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
    def name(self) -> str:
        """The data file's path as a user would type it; see `display_path`."""
        return display_path(self.path)

    @property
    def dvc_name(self) -> str:
        """The `.dvc` file's path as a user would type it; see `display_path`."""
        return display_path(self.dvc_file)


def read(dvc_file: str | Path) -> Pin:
    """Read a pin.

    Parameters
    ----------
    dvc_file : str or Path
        A `.dvc` file with one output, its md5 and size. A relative path starts at the project's root; one that is not
        there may be the name of a pin that came with an installed wineexp.

    Raises
    ------
    UserError
        The file is missing or is not a pin of one file.
    """
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
                    return Pin(path, folder / name, md5, size, source_url)
            return Pin(path, folder / name, md5, size, source_url=None)
    raise UserError(
        f"{dvc_file}: not a pin of one file: it holds {brief(repr(content), MAX_SHOWN_CHARS)}, but must hold outs: "
        "with one md5 of 32 hexadecimal digits, one size in bytes and one path, as `dvc add` writes it"
    )


def display_path(path: Path) -> str:
    """A path for messages: relative to the project's root where it is inside the project."""
    return str(path.relative_to(paths.ROOT)) if path.is_relative_to(paths.ROOT) else str(path)
