"""Clients that are slow, many, large, or not to be let in; signals; several workers."""

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import run
from tests.serving.conftest import Server, Store, children, serving
from tests.serving.test_predictions import problem

LIMIT = 20_000


@pytest.fixture(scope="module")
def strict(store: Store) -> Iterator[Server]:
    """A server with every door closed that can be."""
    with serving(
        store,
        f"serve.max_body_bytes={LIMIT}",
        "serve.allowed_hosts=[127.0.0.1,wine.example]",
        "serve.allowed_origins=['https://cellar.example']",
        "serve.keys.predictions=WINE_KEY",
        "serve.keys.administration=WINE_ADMIN_KEY",
        WINE_KEY="grape",
        WINE_ADMIN_KEY="barrel",
    ) as running:
        yield running


KEY = {"authorization": "Bearer grape", "content-type": "application/json"}


@pytest.fixture(scope="module")
def sample(strict: Server) -> dict[str, float]:
    return dict(strict.get("/model").json()["schema"]["samples"][0]["row"])


def padded(row: dict[str, float], size: int) -> bytes:
    """A row as JSON of exactly so many bytes."""
    body = json.dumps(row).encode()
    return body[:-1] + b" " * (size - len(body)) + b"}"


def test_a_body_at_the_limit_is_taken_and_one_above_it_is_not(strict: Server, sample: dict[str, float]) -> None:
    assert strict.post("/predict", padded(sample, LIMIT), headers=KEY).status_code == 200
    problem(strict.post("/predict", padded(sample, LIMIT + 1), headers=KEY), 413)


def test_a_body_without_a_length_is_held_to_the_limit(strict: Server, sample: dict[str, float]) -> None:
    def chunks(size: int) -> Iterator[bytes]:
        body = padded(sample, size)
        yield from (body[start : start + 999] for start in range(0, size, 999))

    taken = httpx.post(f"{strict.url}/predict", content=chunks(LIMIT), headers=KEY)
    assert taken.status_code == 200
    problem(httpx.post(f"{strict.url}/predict", content=chunks(LIMIT + 1), headers=KEY), 413)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer barrel"}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"authorization": "Basic grape"}, 401),
        ({"x-api-key": "grapes"}, 401),
        ({"x-api-key": "gräpe".encode("latin-1")}, 401),
        ({"x-api-key": "grape"}, 200),
        ({"authorization": "bearer  grape"}, 200),
    ],
)
def test_predictions_ask_for_their_key(
    strict: Server, sample: dict[str, float], headers: dict[str, str], status: int
) -> None:
    for path, body in (("/predict", sample), ("/invocations", {"instances": [sample]})):
        response = strict.post(path, body, headers={"content-type": "application/json"} | headers)
        assert response.status_code == status
        if status == 401:
            problem(response, 401)
            assert response.headers["www-authenticate"] == "Bearer"


def test_administration_asks_for_its_own(strict: Server) -> None:
    problem(strict.get("/metrics", headers=KEY), 401)
    problem(httpx.post(f"{strict.url}/refresh", headers=KEY), 401)
    barrel = {"x-api-key": "barrel"}
    assert strict.get("/metrics", headers=barrel).status_code == 200
    assert httpx.post(f"{strict.url}/refresh", headers=barrel).json()["ready"] is True
    assert strict.get("/readyz").status_code == 200
    document = strict.get("/schema").json()
    assert document["paths"]["/predict"]["post"]["security"]
    assert "security" not in document["paths"]["/model"]["get"]


def test_only_allowed_names_are_answered(strict: Server) -> None:
    assert strict.get("/livez", headers={"host": "wine.example:8080"}).status_code == 200
    problem(strict.get("/livez", headers={"host": "evil.example"}), 400)
    problem(strict.get("/nothing", headers={"host": "evil.example"}), 400)


def test_only_allowed_origins_are_told_that_they_may_read(strict: Server, server: Server) -> None:
    def allowed(of: Server, origin: str) -> str | None:
        return of.get("/livez", headers={"origin": origin}).headers.get("access-control-allow-origin")

    assert allowed(strict, "https://cellar.example") == "https://cellar.example"
    assert allowed(strict, "https://evil.example") is None
    assert allowed(server, "https://cellar.example") is None


def test_a_key_that_is_named_and_not_set_is_told_at_the_start(store: Store) -> None:
    done = run(store.folder, "serve", "serve.port=0", "serve.keys.predictions=NO_SUCH_KEY")
    assert done.returncode == 1
    assert "NO_SUCH_KEY" in done.stderr


def connected(server: Server) -> socket.socket:
    parts = urlsplit(server.url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=60)


def head(length: int) -> bytes:
    """The head of a prediction."""
    lines = ["POST /predict HTTP/1.1", "Host: a", "Content-Type: application/json", f"Content-Length: {length}", "", ""]
    return "\r\n".join(lines).encode()


def test_slow_clients_are_cut_off_and_others_do_not_notice(server: Server, row: dict[str, float]) -> None:
    began = time.monotonic()
    heads = [connected(server) for _ in range(70)]
    bodies = [connected(server) for _ in range(110)]
    silent = [connected(server) for _ in range(60)]
    for each in heads:
        each.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nX-Slow")
    for each in bodies:
        each.sendall(
            b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"
        )
    over = threading.Event()

    def trickle() -> None:
        while not over.wait(0.5):
            for each in heads + bodies:
                with contextlib.suppress(OSError):
                    each.send(b"a")

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        assert server.post("/predict", row).status_code == 200
        for each in heads + bodies + silent:
            each.settimeout(max(0.1, 10 - (time.monotonic() - began)))
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while part := each.recv(4096):
                    answer += part
            assert b"408 Request Timeout" in answer
            assert b"application/problem+json" in answer
    finally:
        over.set()
        thread.join()
        for each in heads + bodies + silent:
            each.close()
    assert time.monotonic() - began < 10
    assert server.post("/predict", row).status_code == 200
    server.until(lambda: server.metric("wineexp_requests_in_flight") == 1)


@pytest.mark.parametrize(
    ("path", "media_type", "body"),
    [
        ("/predict", "application/json", "[" + "{}," * 1_300_000 + "{}]"),
        (
            "/invocations",
            "text/csv",
            "\n".join([",".join(f"x{n}" for n in range(300)), *[",".join(["1"] * 300)] * 6000]),
        ),
    ],
)
def test_others_are_answered_while_a_large_body_is_found_wrong(
    server: Server, path: str, media_type: str, body: str
) -> None:
    with ThreadPoolExecutor(1) as pool:
        refused = pool.submit(server.post, path, body, headers={"content-type": media_type})
        meanwhile = 0
        while not refused.done():
            time.sleep(0.05)
            meanwhile += server.get("/livez").status_code == 200 and not refused.done()
    problem(refused.result(), 422)
    assert meanwhile >= 5


def test_requests_above_the_limit_are_told_to_come_again(store: Store) -> None:
    with serving(store, "serve.max_concurrent_requests=3") as server:
        row = server.get("/model").json()["schema"]["samples"][0]["row"]
        server.until(lambda: children(server))
        (busy,) = children(server)
        # What looks at the registry takes its time.
        os.kill(busy, signal.SIGSTOP)
        try:
            waiting = [connected(server) for _ in range(3)]
            for each in waiting:
                each.sendall(b"POST /refresh HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            server.until(lambda: server.metric("wineexp_requests_in_flight") == 4)
            refused = server.post("/predict", row)
            problem(refused, 503)
            assert refused.headers["retry-after"] == "1"
            assert server.get("/readyz").status_code == 200
        finally:
            os.kill(busy, signal.SIGCONT)
        for each in waiting:
            assert each.recv(4096).startswith(b"HTTP/1.1 200")
            each.close()
        assert server.post("/predict", row).status_code == 200


def test_half_a_request_takes_no_place(store: Store) -> None:
    with serving(store, "serve.max_concurrent_requests=3", "serve.max_body_bytes=50000") as server:
        row = server.get("/model").json()["schema"]["samples"][0]["row"]
        halves = [connected(server) for _ in range(12)]
        for each in halves:
            each.sendall(head(40_000) + b" " * 39_999)
        server.until(lambda: server.metric("wineexp_requests_in_flight") == 13)
        # Neither for what comes whole nor for what comes in pieces.
        assert server.post("/predict", row).status_code == 200
        assert server.post("/predict", padded(row, 50_000)).status_code == 200
        # What has come of them is limited.
        more = [connected(server) for _ in range(12)]
        for each in more:
            each.sendall(head(40_000) + b" " * 39_999)
        server.until(lambda: server.metric("wineexp_requests_total", status="503") >= 1)
        assert server.post("/predict", row).status_code == 200
        for each in halves[:4]:
            each.close()
        server.until(lambda: server.metric("wineexp_requests_total", status="499") == 4)
        # The rest is cut off in time.
        server.until(lambda: server.metric("wineexp_requests_in_flight") == 1)
        assert server.metric("wineexp_requests_total", status="408") >= 8
        for each in halves + more:
            each.close()
        assert not [line for line in server.lines() if line["event"] == "failed"]


def test_a_client_that_leaves_before_its_answer_is_a_line_of_the_log(server: Server, row: dict[str, float]) -> None:
    before = server.metric("wineexp_requests_total", status="499")
    server.post("/explain", row)
    server.until(lambda: children(server))
    (busy,) = children(server)
    # What explains takes its time.
    os.kill(busy, signal.SIGSTOP)
    try:
        body = json.dumps(row).encode()
        explain = head(len(body)).replace(b"/predict", b"/explain") + body
        # Of several that are sent at once, one waits for another.
        for each in (explain, explain * 3):
            client = connected(server)
            client.sendall(each)
            server.until(lambda: server.metric("wineexp_requests_in_flight") == 2)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            time.sleep(0.1)
            os.kill(busy, signal.SIGCONT)
            server.until(lambda: server.metric("wineexp_requests_in_flight") == 1)
            os.kill(busy, signal.SIGSTOP)
    finally:
        os.kill(busy, signal.SIGCONT)
    assert server.metric("wineexp_requests_total", status="499") == before + 2
    lines = [line for line in server.lines() if line.get("status") == 499 and line["route"] == "/explain"]
    assert [line["level"] for line in lines] == ["info", "info"]
    assert not [line for line in server.lines() if line["level"] in ("warning", "error") and "exception" in line]
    assert "ASGI callable" not in server.log.read_text()


def test_what_is_no_http_is_refused_as_a_problem(server: Server) -> None:
    with connected(server) as client:
        client.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        answer = client.recv(4096)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"application/problem+json" in answer


@pytest.mark.parametrize("more", [b"a" * 70_000, b"a\r\nX-More: a" * 6_000])
def test_a_head_without_end_is_refused(server: Server, more: bytes) -> None:
    with connected(server) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Long: ")
        for _ in range(20):
            client.sendall(more)
            if select.select([client], [], [], 0.3)[0]:
                break
        answer = client.recv(4096)
        assert answer.startswith(b"HTTP/1.1 431")
        assert b"application/problem+json" in answer
    with connected(server) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * 40_000)
        time.sleep(0.1)
        client.sendall(b"a" * 20_000 + b"\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")


def test_a_client_that_takes_no_answer_is_cut_off(server: Server) -> None:
    parts = urlsplit(server.url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((parts.hostname or "", parts.port or 0))
        # Each answer waits for the one before it to be taken.
        client.sendall(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: a\r\n\r\n" * 10)
        server.until(lambda: server.metric("wineexp_requests_in_flight") > 1)
        server.until(lambda: server.metric("wineexp_requests_in_flight") == 1)


def test_sigterm_answers_what_is_under_way_and_exits_with_0(store: Store) -> None:
    with serving(store) as server:
        body = json.dumps(server.get("/model").json()["schema"]["samples"][0]["row"]).encode()
        client = connected(server)
        client.sendall(head(len(body)) + body[:10])
        server.until(lambda: server.metric("wineexp_requests_in_flight") == 2)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        with pytest.raises(httpx.TransportError):
            server.get("/livez")
        client.sendall(body[10:])
        answer = b""
        while part := client.recv(65536):
            answer += part
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"predictions" in answer
        client.close()
        assert server.process.wait(20) == 0
        assert server.lines()[-1]["event"] == "stopped"


def test_a_worker_that_is_killed_comes_back(store: Store) -> None:
    with serving(store, "serve.workers=2") as server:

        def alive() -> set[int]:
            return set(httpx.get(f"{server.url}/readyz", timeout=5).json()["workers"])

        server.until(lambda: len(alive()) == 2, 60)
        first = alive()
        row = server.get("/model").json()["schema"]["samples"][0]["row"]
        victim = min(first)
        began = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        told = []
        while time.monotonic() < began + 5:
            try:
                found = alive()
            except httpx.TransportError:
                # The dead one had taken the connection.
                continue
            told.append(found)
            if len(found) == 2 and victim not in found:
                break
            time.sleep(0.05)
        assert len(told[-1]) == 2
        assert victim not in told[-1]
        ready = server.get("/readyz").json()
        assert ready["workers_configured"] == 2
        for _ in range(20):
            assert server.post("/predict", row).status_code == 200
        assert server.metric("wineexp_predictions_total") >= 20
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["serve.alias=champoin"], "did you mean champion?"),
        (["registry.name=beer"], "has no version or alias"),
        (["serve.alias=1"], "a version is no alias"),
        (["serve.workers=0", "serve.max_rows=0", "serve.poll_interval_seconds=-1"], "3 faults"),
        (["tracking=off"], "needs the store"),
        (["serve.port=70000"], "choose another port"),
        (["serve.host=nowhere.invalid"], "serve.host=nowhere.invalid"),
    ],
)
def test_a_server_that_cannot_start_says_why(store: Store, overrides: list[str], told: str) -> None:
    done = run(store.folder, "serve", "serve.port=0", *overrides)
    assert done.returncode == 1
    assert told in done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_port_that_is_taken_is_told(store: Store, server: Server) -> None:
    port = urlsplit(server.url).port
    done = run(store.folder, "serve", f"serve.port={port}")
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.journey
def test_memory_stays_as_it_is(server: Server, row: dict[str, float]) -> None:
    def resident() -> int:
        pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def ask(count: int) -> None:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            for number in range(count):
                client.post("/predict", json=[row] * (number % 50 + 1))
                client.get(f"/nothing/{number}")
                client.post("/predict", content=b"{", headers={"content-type": "application/json"})

    def many(count: int) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(ask, [count] * 4))

    many(200)
    before = resident()
    many(1000)
    assert resident() < before * 1.1 + 5_000_000


@pytest.mark.journey
def test_schemathesis_finds_no_fault(store: Store) -> None:
    with serving(store) as server:
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")),
                "run",
                f"{server.url}/schema",
                "--phases=examples,coverage,fuzzing",
                f"--max-examples={os.environ.get('SCHEMATHESIS_EXAMPLES', '60')}",
                "--exclude-checks=positive_data_acceptance",
                "--seed=1",
                "--no-color",
            ],
            capture_output=True,
            text=True,
            cwd=store.folder,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:]
        assert server.get("/readyz").json()["ready"] is True
        assert not [line for line in server.lines() if line["event"] == "failed"]
