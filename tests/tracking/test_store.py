"""A store: a moved one and a read-only one on SQLite, and a server behind a proxy."""

import importlib
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from tests.conftest import free_port, new_database, run
from wineexp import compose, promote
from wineexp.core.errors import UserError
from wineexp.tracking import store
from wineexp.tracking.recorded_run import RecordedRun
from wineexp.tracking.run import Run
from wineexp.tracking.runs import Runs
from wineexp.tracking.uri import reader_address


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
    new_database(folder)
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


def test_a_reader_makes_no_file_and_a_missing_database_is_named(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, copy = record(project), tmp_path / "copy"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    copy.mkdir()
    copy_database(project, copy)
    assert recorded(copy, first).name == "n"
    assert [path.name for path in copy.iterdir()] == ["mlflow.db"]
    assert list((tmp_path / "elsewhere").iterdir()) == []
    mistyped = f"sqlite:///{copy}/mlfow.db"
    for read in (["compare"], ["promote", "history=true"], ["promote", f"run={first}"], ["reproduce", f"run={first}"]):
        program, *overrides = read
        with pytest.raises(UserError, match=f"tracking.uri={mistyped}: there is no such database; correct the address"):
            importlib.import_module(f"wineexp.{program}")(
                compose(*overrides, f"tracking.uri={mistyped}", program=program)
            )
    assert [path.name for path in copy.iterdir()] == ["mlflow.db"]


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


def test_a_password_in_a_config_file_is_in_no_record_and_no_message(tmp_path: Path) -> None:
    (tmp_path / "conf/tracking").mkdir(parents=True)
    (tmp_path / "conf/tracking/mine.yaml").write_text(f"uri: http://me:secret@127.0.0.1:{free_port()}\n")
    training = ("train", "--config-dir=conf", "tracking=mine", "model=majority", "hydra.run.dir=out")
    done = run(tmp_path, *training, MLFLOW_TRACKING_URI="")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "tracking.uri=http://127.0.0.1:" in done.stderr
    assert "uri: http://127.0.0.1:" in (tmp_path / "out/.hydra/config.yaml").read_text()
    written = [path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not any("secret" in text for text in [*written, done.stdout, done.stderr])


class Proxy(BaseHTTPRequestHandler):
    """A forward proxy that knows one server."""

    def do_HEAD(self) -> None:
        self.send_response(200 if self.path.startswith("http://store.example:5000") else 502)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a proxy, which the environment names with a password."""
    for name in ("HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        address = f"127.0.0.1:{listening.server_address[1]}"
        monkeypatch.setenv("http_proxy", f"http://me:secret@{address}")
        yield address
        listening.shutdown()


def test_a_store_behind_a_proxy_is_asked_through_it(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store.check_reachable("http://store.example:5000")
    with pytest.raises(OSError, match=f"the proxy {proxy} answers 502"):
        store.check_reachable("http://other.example:5000")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(ConnectionRefusedError):
        store.check_reachable(f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{free_port()}")
    with pytest.raises(OSError, match="through the proxy 127") as refusal:
        store.check_reachable("http://store.example:5000")
    assert "secret" not in str(refusal.value)


def test_a_read_only_store_is_read_and_a_read_only_folder_is_named(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{disk}/mlflow.db")
    new_database(disk)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    monkeypatch.chdir(tmp_path)
    assert promote(compose("history=true", f"hydra.run.dir={tmp_path}/out", program="promote")).decisions == ()
    assert not (disk / "mlflow.db.lock").exists()
    for arguments in (["train"], ["train", "-m", "model.max_depth=range(2,3)"], ["compare"]):
        done = run(disk, *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert done.stderr.startswith("error: ")
        assert "Read-only file system; write elsewhere with hydra.run.dir=FOLDER" in done.stderr


def test_a_reader_leaves_the_locks_of_other_connections(tmp_path: Path) -> None:
    """Without these a process that closes its last connection would delete the log that this one goes on with."""
    database = tmp_path / "m.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (x)")
        with closing(sqlite3.connect(reader_address(database), uri=True)) as reader:
            assert reader.execute("SELECT count(*) FROM t").fetchone() == (0,)
        insert = (
            "import sqlite3; c = sqlite3.connect('m.db'); c.execute('INSERT INTO t VALUES (1)'); c.commit(); c.close()"
        )
        subprocess.run([sys.executable, "-c", insert], cwd=tmp_path, check=True)
        assert (tmp_path / "m.db-wal").exists()
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (1,)
    assert [path.name for path in tmp_path.iterdir()] == ["m.db"]


def test_a_locked_database_is_not_read_as_one_that_nobody_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "m.db"
    monkeypatch.setattr(os, "access", lambda *_: False)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (x)")
        assert reader_address(database) == f"file:{database}?mode=ro"
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("INSERT INTO t VALUES (1)")
        assert reader_address(database) == f"file:{database}?mode=ro"
        connection.execute("COMMIT")
    database.write_bytes(b"no database at all, but some text")
    assert reader_address(database).endswith("immutable=1")


def test_a_reader_makes_no_database_and_keeps_no_connection(project: Path) -> None:
    database = project / "mlflow.db"
    record(project)
    mlflow.set_tracking_uri(None)
    store.connect(f"sqlite:///{database}", store.Access.READ)
    database.rename(project / "elsewhere.db")
    with pytest.raises(MlflowException, match="unable to open database file"):
        mlflow.search_experiments()
    assert not database.exists()
