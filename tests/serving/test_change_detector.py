"""Fingerprints of a registry: the same while nothing changes, and taken with the credentials of MLflow's client."""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.serving.conftest import composed_settings
from wineexp.core.config import Tracking
from wineexp.serving.refresh import change_detector
from wineexp.serving.refresh.change_detector import ChangeDetector, Fingerprint


class Registry(BaseHTTPRequestHandler):
    """Responds to requests with the right credentials as MLflow does for an alias that exists."""

    authorization = "Basic Y2VsbGFyOmdyYXBl"
    body = b'{"model_version": 1}'

    def do_GET(self) -> None:
        self.send_response(200 if self.headers["authorization"] == self.authorization else 401)
        self.send_header("content-length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def host() -> Iterator[str]:
    """Host and port of a registry."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        yield f"127.0.0.1:{listening.server_address[1]}"
        listening.shutdown()


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URI", "USERNAME", "PASSWORD", "TOKEN", "AUTH"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)


def detector(uri: str) -> ChangeDetector:
    return ChangeDetector(replace(composed_settings(), tracking=Tracking(uri)))


def test_a_server_is_asked_with_the_credentials_of_mlflows_client(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without credentials, only MLflow's own client may know a way in.
    assert detector(f"http://{host}").fingerprint() is None
    fingerprint = detector(f"http://cellar:grape@{host}").fingerprint()
    assert fingerprint is not None
    assert fingerprint.reachable
    assert detector(f"http://cellar:grape@{host}").fingerprint() == fingerprint
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "cellar")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "grape")
    assert detector(f"http://{host}").fingerprint() == fingerprint
    monkeypatch.setattr(Registry, "body", b'{"model_version": 2}')
    assert detector(f"http://{host}").fingerprint() not in (fingerprint, None)
    monkeypatch.setattr(Registry, "authorization", "Bearer barrel")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "barrel")
    assert detector(f"http://{host}").fingerprint() is not None
    # The page of a proxy that asks for a login.
    monkeypatch.setattr(Registry, "body", b"<title>Who are you?</title>")
    assert detector(f"http://{host}").fingerprint() is None
    monkeypatch.setattr(Registry, "body", b'{"model_version": 2}')
    monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "plugin")
    assert detector(f"http://{host}").fingerprint() is None


def test_a_registry_that_is_away_is_not_reachable() -> None:
    assert detector("http://127.0.0.1:9").fingerprint() == Fingerprint(reachable=False)


def test_other_stores_have_no_fingerprint() -> None:
    assert detector("postgresql://127.0.0.1:9/none").fingerprint() is None


def test_a_databases_fingerprint_changes_with_each_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # An hour, so that a slow machine is fast enough.
    monkeypatch.setattr(change_detector, "MTIME_RESOLUTION_NANOSECONDS", 3_600_000_000_000)
    database = tmp_path / "mlflow.db"
    of_database = detector(f"sqlite:///{database}")
    assert of_database.fingerprint() is None
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE aliases (number)")
        connection.commit()
        # Right after a commit, another one may come with the same modification time.
        assert of_database.fingerprint() != of_database.fingerprint()
        monkeypatch.setattr(change_detector, "MTIME_RESOLUTION_NANOSECONDS", 200_000_000)
        before = settled(of_database)
        connection.execute("INSERT INTO aliases VALUES (1)")
        connection.commit()
        assert of_database.fingerprint() != before
        before = settled(of_database)
        with sqlite3.connect(database) as reader:
            assert reader.execute("SELECT number FROM aliases").fetchall() == [(1,)]
        reader.close()
        assert of_database.fingerprint() == before
    connection.close()


def test_a_locked_database_is_not_reachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_detector, "REGISTRY_TIMEOUT_SECONDS", 0.1)
    of_database = detector(f"sqlite:///{tmp_path}/mlflow.db")
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE aliases (number)")
        assert of_database.fingerprint() not in (None, Fingerprint(reachable=False))
        connection.execute("BEGIN EXCLUSIVE")
        assert of_database.fingerprint() == Fingerprint(reachable=False)
        connection.execute("COMMIT")
        assert of_database.fingerprint() not in (None, Fingerprint(reachable=False))


def test_a_log_that_a_reader_removes_at_this_moment_is_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE aliases (number)")
    os.utime(database, (0, 0))
    before = detector(f"sqlite:///{database}").fingerprint()
    assert before is not None
    # It was there when it was looked for.
    monkeypatch.setattr(Path, "exists", lambda _: True)
    assert detector(f"sqlite:///{database}").fingerprint() == before


def settled(of_database: ChangeDetector) -> Fingerprint:
    """A fingerprint once it stays the same."""
    deadline = time.monotonic() + 10
    while (fingerprint := of_database.fingerprint()) != of_database.fingerprint():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert fingerprint is not None
    return fingerprint
