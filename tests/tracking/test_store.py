"""A store on SQLite: opened wherever its folder was moved to."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
import pytest

from tests.conftest import empty_store
from wineexp.core.errors import UserError
from wineexp.tracking import store
from wineexp.tracking.recorded_run import RecordedRun
from wineexp.tracking.run import Run
from wineexp.tracking.runs import Runs


def record(folder: Path) -> str:
    """Record a run with one artifact in a folder's store; gives the run's id."""
    with Run(f"sqlite:///{folder}/mlflow.db", "e_1", "n", {}, folder) as run:
        run.log_file("note.txt", "a note")
    return str(run.id)


def copy_database(folder: Path, to: Path) -> None:
    """Copy a database as it is when no process has it open, which this one has."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as source, closing(sqlite3.connect(to / "mlflow.db")) as target:
        source.backup(target)


def recorded(folder: Path, run_id: str) -> RecordedRun:
    return Runs(f"sqlite:///{folder}/mlflow.db", "wine").get(run_id)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "old place"
    folder.mkdir()
    shutil.copy(empty_store(), folder / "mlflow.db")
    return folder


def test_a_moved_project_reads_and_writes_its_files_at_the_new_place(project: Path, tmp_path: Path) -> None:
    first, new = record(project), tmp_path / "new place"
    new.mkdir()
    copy_database(project, new)
    (project / "mlruns").rename(new / "mlruns")
    shutil.rmtree(project)
    second = record(new)
    assert not project.exists()
    assert [recorded(new, run).read("note.txt") for run in (first, second)] == [b"a note"] * 2


def test_a_copied_project_leaves_the_original_alone(project: Path, tmp_path: Path) -> None:
    first = record(project)
    shutil.copytree(project / "mlruns", tmp_path / "copy/mlruns")
    copy_database(project, tmp_path / "copy")
    before = sorted(project.rglob("mlruns/**/*"))
    second = record(tmp_path / "copy")
    assert sorted(project.rglob("mlruns/**/*")) == before
    assert recorded(tmp_path / "copy", second).read("note.txt") == b"a note"
    assert recorded(project, first).read("note.txt") == b"a note"


def test_files_elsewhere_are_used_where_only_the_database_was_moved(project: Path, tmp_path: Path) -> None:
    first = record(project)
    (tmp_path / "mlruns/e_1").mkdir(parents=True)
    copy_database(project, tmp_path)
    (project / "mlflow.db").unlink()
    assert recorded(tmp_path, first).read("note.txt") == b"a note"


def test_files_that_are_gone_are_named_and_their_place_is_not_made_again(project: Path, tmp_path: Path) -> None:
    first = record(project)
    copy_database(project, tmp_path)
    shutil.rmtree(project)
    with pytest.raises(UserError, match=f"{project}/mlruns/e_1, which does not exist.* {tmp_path}/mlruns/e_1"):
        record(tmp_path)
    with pytest.raises(UserError, match=f"there is no {project}/mlruns/e_1: it was deleted or moved"):
        recorded(tmp_path, first).read("note.txt")
    assert not project.exists()
    (tmp_path / "mlruns/e_1").mkdir(parents=True)
    assert recorded(tmp_path, record(tmp_path)).read("note.txt") == b"a note"


@pytest.mark.parametrize(
    ("location", "path"),
    [("file:///a%20b/c", "/a b/c"), ("/a%20b", "/a%20b"), ("s3://bucket/key", None), ("mlflow-artifacts:/1", None)],
)
def test_the_path_of_a_location(location: str, path: str | None) -> None:
    assert store.local_path(location) == (None if path is None else Path(path))


def test_a_database_may_be_named_with_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = store.connect(f"sqlite:///{tmp_path}/m.db?timeout=30")
    assert uri.endswith("m.db?timeout=30")
    assert {path.name for path in tmp_path.iterdir()} <= {"m.db", "m.db.lock", "m.db-wal", "m.db-shm"}
    store.experiment_id(uri, "mine")
    assert mlflow.get_experiment_by_name("mine").artifact_location == (tmp_path / "mlruns/mine").as_uri()
