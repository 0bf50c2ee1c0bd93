"""A registry that asks for a password: it is used, and stands in no file, tag, log or response."""

import http.client
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import mlflow_server, run
from tests.serving.conftest import LENIENT_GATE, Store, serving

PASSWORD = "topsecret"
EXPECTED = f"Basic {b64encode(f'me:{PASSWORD}'.encode()).decode()}"

HOP_BY_HOP = ("host", "connection", "content-length", "transfer-encoding")


class GuardedServer(ThreadingHTTPServer):
    """Passes requests on that have the password, or none while it is broken."""

    daemon_threads = True
    is_broken = False

    def __init__(self, address: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.origin = address.partition("://")[2]


class Handler(BaseHTTPRequestHandler):
    server: GuardedServer

    def read_body(self) -> bytes:
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def do_GET(self) -> None:
        body = self.read_body()
        if self.server.is_broken or self.headers["authorization"] != EXPECTED:
            self.send_error(500 if self.server.is_broken else 401)
            return
        origin = http.client.HTTPConnection(self.server.origin, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        origin.request(self.command, self.path, body, headers)
        response = origin.getresponse()
        content = response.read()
        self.send_response(response.status)
        self.send_header("content-type", response.headers.get("content-type", "application/octet-stream"))
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self.do_GET
        raise AttributeError(name)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def guarded(address: str) -> Iterator[GuardedServer]:
    with GuardedServer(address) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


def files_with_password(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]


@pytest.mark.journey
def test_a_registry_s_password_is_used_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    folders = ["--backend-store-uri", f"sqlite:///{tmp_path}/registry/m.db", "--artifacts-destination", "artifacts"]
    project = tmp_path / "project"
    project.mkdir()
    with mlflow_server(tmp_path / "registry", "server", *folders) as address, guarded(address) as registry:
        uri = f"http://me:{PASSWORD}@127.0.0.1:{registry.server_address[1]}"
        shown = f"http://127.0.0.1:{registry.server_address[1]}"
        sweep = ("-m", "model=logreg", "hydra.sweeper.n_trials=1", "hydra.sweeper.refit_seed=null", "split.n_splits=2")
        for overrides in (sweep, ("model=logreg", "split.n_splits=2")):
            done = run(project, "train", *overrides, f"tracking.uri={uri}", MLFLOW_TRACKING_URI="")
            assert done.returncode == 0, done.stderr
            assert shown in done.stdout
            assert PASSWORD not in done.stdout + done.stderr
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("Recorded as run ")]
        done = run(project, "promote", f"run={line.split()[3]}", *LENIENT_GATE, MLFLOW_TRACKING_URI=uri)
        assert done.returncode == 0, done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        wrong = run(project, "compare", MLFLOW_TRACKING_URI=uri.replace("me:", "you:"))
        assert (wrong.returncode, "Traceback" in wrong.stderr) == (1, False)
        assert PASSWORD not in wrong.stdout + wrong.stderr
        store = Store(project)
        with serving(store, "serve.cache_folder=cache", MLFLOW_TRACKING_URI=uri) as server:
            server.until(lambda: server.get("/readyz").json()["stale"] is False)
        with serving(store, "serve.cache_folder=cache", MLFLOW_TRACKING_URI=uri) as server:
            server.until(lambda: server.get("/readyz").json()["stale"] is False)
            registry.is_broken = True
            server.until(lambda: server.get("/readyz").json()["stale"])
            assert server.post("/refresh", "").status_code == 200
            texts = [server.get(path).text for path in ("/readyz", "/model", "/metrics", "/card", "/openapi.json", "/")]
            assert shown in texts[0]
            assert not any(PASSWORD in text for text in texts)
        kept = [project / "cache", *(project / "cache").rglob("*")]
        assert [path for path in kept if path.stat().st_mode & 0o077] == []
    assert files_with_password(tmp_path) == []
