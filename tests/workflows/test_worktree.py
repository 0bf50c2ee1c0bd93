"""What a worktree needs beside what git brings."""

from pathlib import Path

import pytest

from wineexp import UserError
from wineexp.core import paths
from wineexp.data import pin
from wineexp.workflows import worktree


def test_pins_of_feedback_and_their_files_are_brought_into_a_worktree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, tree = tmp_path / "here", tmp_path / "tree"
    monkeypatch.setattr(paths, "ROOT", here)
    monkeypatch.setattr(worktree, "ROOT", here)
    name = "data/feedback/wine-1.csv"
    (here / name).parent.mkdir(parents=True)
    (here / name).write_text("log.request_id\n")
    pin.write(here / name, None)
    worktree.bring_feedback(tree, [f"{name}.dvc"])
    for file in (name, f"{name}.dvc"):
        assert (tree / file).read_bytes() == (here / file).read_bytes()
    with pytest.raises(UserError, match=r"data/feedback/wine-2\.csv\.dvc: there is no such pin"):
        worktree.bring_feedback(tree, ["data/feedback/wine-2.csv.dvc"])
    # A file that is not the pinned one is none that the run was trained on.
    (here / name).write_text("something else\n")
    with pytest.raises(UserError, match=r"wine-1\.csv"):
        worktree.bring_feedback(tree, [f"{name}.dvc"])
