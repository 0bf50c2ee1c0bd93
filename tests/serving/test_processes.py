"""A server's processes: how they start, stop, and replace each other."""

import json
import os
import signal
import socket
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests import preloaded_python
from tests.conftest import environment, run_preloaded
from tests.serving.conftest import Server, Store, serving
from tests.serving.test_limits import connect, head
from wineexp import compose, serve
from wineexp.core.errors import UserError
from wineexp.serving.http.guards import ApiKey


def begin_request(server: Server, row: dict[str, float]) -> tuple[socket.socket, bytes]:
    """Send a part of a request; returns the connection and the rest."""
    body = json.dumps(row).encode()
    client = connect(server)
    client.sendall(head(len(body)) + body[:10])
    server.until(lambda: server.metric("wineexp_requests_in_flight") == 2)
    return client, body[10:]


def finish_request(client: socket.socket, rest: bytes) -> None:
    client.sendall(rest)
    response = b""
    while part := client.recv(65536):
        response += part
    client.close()
    assert response.startswith(b"HTTP/1.1 200")
    assert b'"predictions"' in response


def test_sigterm_lets_requests_finish_and_exits_with_0(store: Store) -> None:
    with serving(store) as server:
        row = server.get("/model").json()["schema"]["samples"][0]["row"]
        client, rest = begin_request(server, row)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        with pytest.raises(httpx.TransportError):
            server.get("/livez")
        finish_request(client, rest)
        assert server.process.wait(20) == 0
        assert server.lines()[-1]["event"] == "stopped"


def test_sigterm_ends_each_busy_connection_with_a_response_that_says_so(store: Store) -> None:
    with serving(store) as server:
        row = json.dumps(server.get("/model").json()["schema"]["samples"][0]["row"])
        answered, address = Counter[str](), urlsplit(server.url).netloc

        def send_requests(name: str) -> None:
            # The client does not connect a second time.
            connection = HTTPConnection(address, timeout=60)
            connection.connect()
            connection.auto_open = 0
            while True:
                connection.request("POST", "/predict", row, {"content-type": "application/json"})
                response = connection.getresponse()
                response.read()
                assert response.status == 200
                answered[name] += 1
                if response.getheader("connection") == "close":
                    return

        with ThreadPoolExecutor(8) as pool:
            clients = [pool.submit(send_requests, f"client {number}") for number in range(8)]
            server.until(lambda: len(answered) == 8 and min(answered.values()) > 20)
            server.process.send_signal(signal.SIGTERM)
            for client in clients:
                client.result()
        assert server.process.wait(20) == 0


@pytest.mark.journey
def test_a_worker_that_is_killed_is_replaced(store: Store) -> None:
    with serving(store, "serve.workers=2") as server:

        def workers() -> set[int]:
            try:
                return set(httpx.get(f"{server.url}/readyz", timeout=5).json()["workers"])
            except httpx.TransportError:
                # The killed worker had accepted the connection.
                return set()

        server.until(lambda: len(workers()) == 2, 60)
        killed = min(workers())
        os.kill(killed, signal.SIGKILL)
        server.until(lambda: len(workers()) == 2 and killed not in workers(), 30)
        ready = server.get("/readyz").json()
        assert ready["workers_configured"] == 2
        row = server.get("/model").json()["schema"]["samples"][0]["row"]
        for _ in range(20):
            assert server.post("/predict", row).status_code == 200
        assert server.metric("wineexp_predictions_total") >= 20
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("overrides", "faults"),
    [
        (["serve.alias=1"], ["a version's number is no alias"]),
        (
            ["serve.workers=0", "serve.max_rows=0", "serve.poll_interval_seconds=-1"],
            ["workers must be at least 1", "max_rows must be at least 1", "poll_interval_seconds must be more than 0"],
        ),
        (["tracking=off"], ["needs an MLflow store"]),
    ],
)
def test_settings_are_checked_before_anything_starts(overrides: list[str], faults: list[str]) -> None:
    with pytest.raises(UserError) as raised:
        serve(compose(*overrides, program="serve"))
    assert len(raised.value.faults) == len(faults)
    assert all(fault in message for fault, message in zip(faults, raised.value.faults, strict=True))


@pytest.mark.parametrize("value", [None, ""])
def test_a_key_that_is_not_set_is_an_error(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("WINE_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("WINE_KEY", value)
    with pytest.raises(UserError, match="WINE_KEY: this environment variable holds no key"):
        ApiKey("WINE_KEY", "serve.keys.predictions")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["serve.alias=champoin"], "did you mean champion?"),
        pytest.param(["registry.name=beer"], "has no version or alias", marks=pytest.mark.journey),
        (["serve.keys.predictions=NO_SUCH_KEY"], "NO_SUCH_KEY"),
        (["serve.port=70000"], "choose another port"),
        (["serve.host=nowhere.invalid"], "serve.host=nowhere.invalid"),
    ],
)
def test_a_server_that_cannot_start_says_why(store: Store, overrides: list[str], message: str) -> None:
    command = ["-m", "wineexp.serve", "serve.port=0", *overrides]
    done = run_preloaded(command, store.folder, environment(store.folder), 60)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_port_in_use_is_an_error(store: Store, server: Server) -> None:
    command = ["-m", "wineexp.serve", f"serve.port={urlsplit(server.url).port}"]
    done = run_preloaded(command, store.folder, environment(store.folder), 60)
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.journey
def test_memory_does_not_grow(server: Server, row: dict[str, float]) -> None:
    def resident_bytes() -> int:
        pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def send_requests(count: int) -> None:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            for number in range(count):
                client.post("/predict", json=[row] * (number % 50 + 1))
                client.get(f"/nothing/{number}")
                client.post("/predict", content=b"{", headers={"content-type": "application/json"})

    def send_concurrently(count: int) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(send_requests, [count] * 4))

    send_concurrently(100)
    before = resident_bytes()
    send_concurrently(400)
    assert resident_bytes() < before * 1.1 + 5_000_000


# JSON Schema cannot say that a tensor has as many values as its shape says; nor that an explanation needs rows that the
# model's own library can compute, which may fail far beyond the training range.
SCHEMATHESIS_CONFIG = """
[[operations]]
include-path-regex = "/infer$|^/explain$"
checks.positive_data_acceptance.enabled = false
"""


@pytest.mark.journey
def test_schemathesis_finds_no_failure(store: Store) -> None:
    config = store.folder / "schemathesis.toml"
    config.write_text(SCHEMATHESIS_CONFIG)
    with serving(store) as server:
        sample = server.get("/model").json()["schema"]["samples"][0]["row"]
        hooks = {
            "SCHEMATHESIS_HOOKS": "schemathesis_csv",
            "CSV_HEADER": ",".join(sample),
            "PYTHONPATH": str(Path(__file__).with_name("clients")),
        }
        done = subprocess.run(
            [
                str(Path(preloaded_python.PYTHON).with_name("schemathesis")),
                f"--config-file={config}",
                "run",
                f"{server.url}/schema",
                # The examples are sent by another test: they are texts where the hook makes bytes.
                "--phases=coverage,fuzzing",
                f"--max-examples={os.environ.get('SCHEMATHESIS_EXAMPLES', '15')}",
                "--seed=1",
                "--no-color",
            ],
            capture_output=True,
            text=True,
            cwd=store.folder,
            env=os.environ | hooks,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:]
        assert server.get("/readyz").json()["ready"] is True
        assert not [line for line in server.lines() if line["event"] == "failed"]
