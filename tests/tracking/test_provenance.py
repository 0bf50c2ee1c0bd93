"""Where a run comes from: the tags and the diff with which another machine can restore its code."""

import subprocess
from pathlib import Path

import pytest

import wineexp
from tests.conftest import composed
from wineexp.tracking import names, provenance
from wineexp.workflows.experiment import assemble


def git(folder: Path, *arguments: str, stdin: str | None = None) -> str:
    command = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, input=stdin).stdout


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project under git, in which provenance looks."""
    folder = tmp_path / "project"
    for name in ("wineexp/train.py", "notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("first\n")
    git(folder.parent, "init", "-q", str(folder))
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "begin")
    monkeypatch.setattr(provenance, "ROOT", folder)
    return folder


def test_a_clean_tree_is_its_commit(checkout: Path) -> None:
    assert provenance.git_tags() == {"git.commit": git(checkout, "rev-parse", "HEAD").strip(), "git.dirty": "false"}


def test_only_what_can_change_a_result_makes_a_tree_dirty(checkout: Path) -> None:
    others = {"notes.txt": "second\n", "row.json": "{}", "dvc.lock": "", "params.yaml": "", "docs/page.md": ""}
    for name, content in others.items():
        (checkout / name).parent.mkdir(exist_ok=True)
        (checkout / name).write_text(content)
    assert provenance.git_tags()["git.dirty"] == "false"
    assert provenance.diff() == ""
    for name in ("data/raw/mine.csv.dvc", "conf/model/mine.yaml", "requirements.txt", "wineexp/more.py"):
        path = checkout / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("new\n")
        assert provenance.git_tags()["git.dirty"] == "true", name
        assert f"b/{name}" in provenance.diff()
        path.unlink()
    # A module of the user's own that a config names counts wherever it is, and a run has a copy of it.
    own = checkout / "mine.py"
    own.write_text("new\n")
    assert provenance.git_tags()["git.dirty"] == "false"
    assert provenance.git_tags([own])["git.dirty"] == "true"
    assert provenance.git_tags([checkout.parent / "outside.py"])["git.dirty"] == "false"


def test_the_diff_makes_the_changed_tree_from_its_commit(checkout: Path, tmp_path: Path) -> None:
    (checkout / "wineexp/train.py").write_text("second, na\u00efve\n")
    (checkout / "wineexp/new.bin").write_bytes(bytes(range(256)))
    (checkout / "wineexp/crlf.txt").write_bytes(b"ends as elsewhere\r\n")
    (checkout / "secret.txt").write_text("a password\n")
    tags = provenance.git_tags()
    assert tags["git.dirty"] == "true"
    diff = provenance.diff()
    assert "a password" not in diff
    git(tmp_path, "clone", "-q", str(checkout), "again")
    git(tmp_path / "again", "apply", stdin=diff)
    assert (tmp_path / "again/wineexp/train.py").read_text() == "second, na\u00efve\n"
    assert (tmp_path / "again/wineexp/new.bin").read_bytes() == bytes(range(256))
    assert (tmp_path / "again/wineexp/crlf.txt").read_bytes() == b"ends as elsewhere\r\n"
    (checkout / "wineexp/train.py").write_text("third\n")
    assert provenance.git_tags()["git.diff.sha256"] != tags["git.diff.sha256"]


def test_the_diff_does_not_depend_on_the_settings_of_git(checkout: Path) -> None:
    (checkout / "wineexp/train.py").write_text("second\n")
    (checkout / "wineexp/new.py").write_text("new\n")
    plain = provenance.diff()
    for setting in ("color.ui=always", "diff.noprefix=true", "diff.context=0", "core.abbrev=12"):
        git(checkout, "config", *setting.split("="))
    assert provenance.diff() == plain


def test_without_git_there_are_no_tags_about_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_tags() == {}


def test_the_tags_of_a_task_are_those_that_other_modules_read() -> None:
    task = assemble(composed("model=logreg")).task
    read = {names.DATA_MD5, names.DATA_DVC, names.SPLIT_SHA256, names.SPLIT_TEST_TO_TRAIN, names.DECIDING_METRIC}
    assert read <= task.tags().keys()


def test_a_run_is_tagged_with_the_release_that_made_it() -> None:
    assert provenance.provenance_tags()[names.WINEEXP_VERSION] == wineexp.__version__
