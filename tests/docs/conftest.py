"""A clone in which the commands of a page are run."""

import shutil
import subprocess
from pathlib import Path

import pytest

from wineexp.core.paths import ROOT


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the working tree as a commit of its own, with the data that a first run rebuilds."""
    folder = tmp_path / "wineexp"
    listed = subprocess.check_output(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
    )
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    author = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    for arguments in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "The working tree"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return folder
