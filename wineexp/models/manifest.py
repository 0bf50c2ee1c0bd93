"""The manifest of a stored model: the SHA-256 of each of its files, taken when it is registered."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from wineexp.core.errors import UserError

# The folder in which MLflow keeps files that are stored with a model, and the names of those files.
EXTRA_FOLDER = "extra_files"
GOLDEN_ROWS_FILE = "golden.json"
BACKGROUND_FILE = "background.json"
COMPILED_MODEL_FILE = "compiled.npz"
# What the live rows of a version are held against.
REFERENCE_FILE = "reference.json"
CARD_FILE, CARD_PAGE_FILE = "card.md", "card.html"

# Files that MLflow adds when it downloads a version, and which therefore are not in its manifest.
ADDED_BY_DOWNLOAD = {"registered_model_meta"}


def create(folder: Path) -> dict[str, str]:
    """SHA-256 of each file in a folder, by its path in the folder.

    Raises
    ------
    UserError
        An entry is a link or no regular file, so that its content was never stored.
    """
    digests = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise UserError(f"{name} in the stored model is no regular file but leads elsewhere; it is refused")
        if path.is_file() and name not in ADDED_BY_DOWNLOAD:
            digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests


def digest(digests: Mapping[str, str]) -> str:
    """One SHA-256 for a whole manifest: that of its lines in the format of `sha256sum`, sorted by name."""
    lines = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()


def verify(folder: Path, expected: Mapping[str, str]) -> None:
    """Compare a folder with the manifest that was taken when the model was registered.

    Raises
    ------
    UserError
        Names every file that is missing, was added, or has other bytes.
    """
    actual = create(folder)
    if expected and not actual:
        raise UserError(f"none of the {len(expected)} files of the stored model is there any more")
    faults = [f"{name} is missing from the stored model" for name in sorted(expected.keys() - actual.keys())]
    faults += [f"{name} was added to the stored model" for name in sorted(actual.keys() - expected.keys())]
    faults += [
        f"{name} in the stored model has SHA-256 {actual[name]}, but {expected[name]} was registered"
        for name in sorted(expected.keys() & actual.keys())
        if expected[name] != actual[name]
    ]
    if faults:
        raise UserError(*(f"{fault}; it is not loaded" for fault in faults))
