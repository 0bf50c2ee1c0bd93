"""The seal over a stored model: the SHA-256 of each of its files, taken when it was registered."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from wineexp.core.errors import UserError

# Files that come with a model; MLflow keeps them in a folder of this name.
EXTRA = "extra_files"
GOLDEN = "golden.json"
# Written by MLflow when it hands a version out; no part of what was stored.
NOT_STORED = {"registered_model_meta"}


def manifest(folder: Path) -> dict[str, str]:
    """SHA-256 of each file in a folder, by its path in it.

    Raises
    ------
    UserError
        Something in it is a link or no regular file: what it leads to was never stored.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise UserError(f"{name} in the stored model is no regular file but leads elsewhere; it is refused")
        if path.is_file() and name not in NOT_STORED:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def digest(files: Mapping[str, str]) -> str:
    """One SHA-256 for a whole manifest, as `sha256sum` of its sorted lines would give it."""
    lines = "".join(f"{files[name]}  {name}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def verify(folder: Path, expected: Mapping[str, str]) -> None:
    """Hold a folder against the manifest that was taken when it was stored.

    Raises
    ------
    UserError
        With every file that is missing, was added, or has other bytes.
    """
    found = manifest(folder)
    if expected and not found:
        raise UserError(f"none of the {len(expected)} files of the stored model is there any more")
    faults = [f"{name} is missing from the stored model" for name in sorted(expected.keys() - found.keys())]
    faults += [f"{name} was added to the stored model" for name in sorted(found.keys() - expected.keys())]
    faults += [
        f"{name} in the stored model has SHA-256 {found[name]}, but {expected[name]} was registered"
        for name in sorted(expected.keys() & found.keys())
        if expected[name] != found[name]
    ]
    if faults:
        raise UserError(*(f"{fault}; it is not loaded" for fault in faults))
