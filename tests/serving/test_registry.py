"""A registry that is a server of MLflow's: asked lightly while nothing changes, and missed when it dies."""

import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import free_port, mlflow_server
from tests.serving.conftest import Store, children, copied, serving
from wineexp.core.config import Registry, Serve, Server, Tracking
from wineexp.serving.refresh.change_detector import ChangeDetector, Fingerprint


@pytest.fixture
def own(promoted: Path, tmp_path: Path) -> Store:
    """A store that a test may break."""
    return copied(promoted, tmp_path)


@contextmanager
def registry(store: Store, port: int) -> Iterator[None]:
    """MLflow's server over a store, killed at the end."""
    where = ["--backend-store-uri", store.uri, "--artifacts-destination", str(store.folder / "artifacts")]
    quick = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_PORT": str(port)}
    with mlflow_server(store.folder, "server", "--workers", "1", *where, **quick):
        yield


def test_a_registry_that_dies_is_missed_and_followed_again_when_it_is_back(own: Store) -> None:
    port = free_port()
    with ExitStack() as up:
        up.enter_context(registry(own, port))
        address = f"http://127.0.0.1:{port}"
        with serving(own, "serve.verifier_idle_timeout_seconds=1", MLFLOW_TRACKING_URI=address) as server:
            row = server.get("/model").json()["schema"]["samples"][0]["row"]
            # Nothing happens in the registry: it is asked without what is heavy.
            server.until(lambda: not children(server))
            assert server.get("/readyz").json()["registry"] == "reachable"
            own.point(1)
            server.until(lambda: server.get("/readyz").json()["model"]["version"] == 1)
            server.until(lambda: not children(server))
            answers = server.post("/predict", row).json()["predictions"]
            assert server.metric("wineexp_registry_up") == 1
            up.close()
            server.until(lambda: server.get("/readyz").json()["stale"])
            told = server.get("/readyz").json()["registry"]
            assert re.match(r"since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", told)
            assert "refused" in told
            assert server.metric("wineexp_registry_up") == 0
            assert server.post("/predict", row).json()["predictions"] == answers
            # As long as it is away, that is all there is to know.
            server.until(lambda: not children(server))
            assert server.get("/readyz").json()["registry"] == told
            with registry(own, port):
                server.until(lambda: not server.get("/readyz").json()["stale"])
                assert server.metric("wineexp_registry_up") == 1
                own.point(2)
                server.until(lambda: server.get("/readyz").json()["model"]["version"] == 2)
                server.until(lambda: not children(server))
            lines = [line["event"] for line in server.lines()]
            assert lines.count("registry unreachable") == 1
            assert "failed" not in lines


class Door(BaseHTTPRequestHandler):
    """Opens to one key, and has little to say."""

    key = "Basic Y2VsbGFyOmdyYXBl"
    told = b'{"model_version": 1}'

    def do_GET(self) -> None:
        """Answer, or ask for the key."""
        self.send_response(200 if self.headers["authorization"] == self.key else 401)
        self.send_header("content-length", str(len(self.told)))
        self.end_headers()
        self.wfile.write(self.told)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def door() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{listening.server_address[1]}"
        listening.shutdown()


def hints(uri: str) -> ChangeDetector:
    return ChangeDetector(Serve(Server(alias="champion", export_folder=None), Registry("wine"), Tracking(uri)))


def test_a_hint_has_the_keys_of_mlflows_client(door: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URI", "USERNAME", "PASSWORD", "TOKEN", "AUTH"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    # Without the key, only MLflow's own client may know a way in.
    assert hints(f"http://{door}").fingerprint() is None
    inside = hints(f"http://cellar:grape@{door}").fingerprint()
    assert inside == hints(f"http://cellar:grape@{door}").fingerprint()
    assert inside is not None
    assert inside.reachable
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "cellar")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "grape")
    assert hints(f"http://{door}").fingerprint() == inside
    monkeypatch.setattr(Door, "told", b'{"model_version": 2}')
    assert hints(f"http://{door}").fingerprint() not in (inside, None)
    monkeypatch.setattr(Door, "key", "Bearer barrel")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "barrel")
    assert hints(f"http://{door}").fingerprint() is not None
    monkeypatch.setattr(Door, "told", b"<title>Who are you?</title>")
    assert hints(f"http://{door}").fingerprint() is None
    monkeypatch.setattr(Door, "told", b'{"model_version": 2}')
    monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "plugin")
    assert hints(f"http://{door}").fingerprint() is None


def test_a_hint_is_the_same_as_long_as_a_database_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    database = tmp_path / "mlflow.db"
    asked = hints(f"sqlite:///{database}")
    assert asked.fingerprint() is None
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE aliases (number)")
        connection.commit()
        # As long as it is fresh, a date tells nothing.
        assert asked.fingerprint() != asked.fingerprint()
        seen = settled(asked)
        connection.execute("INSERT INTO aliases VALUES (1)")
        connection.commit()
        assert asked.fingerprint() != seen
        seen = settled(asked)
        with sqlite3.connect(database) as other:
            assert other.execute("SELECT number FROM aliases").fetchall() == [(1,)]
        other.close()
        assert asked.fingerprint() == seen
    connection.close()
    assert hints("postgresql://127.0.0.1:9/none").fingerprint() is None
    assert hints("http://127.0.0.1:9").fingerprint() == Fingerprint(reachable=False)


def settled(asked: ChangeDetector) -> Fingerprint:
    """A hint once it stays as it is."""
    deadline = time.monotonic() + 10
    while (hint := asked.fingerprint()) != asked.fingerprint():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert hint is not None
    return hint
