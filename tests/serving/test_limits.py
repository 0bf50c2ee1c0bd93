"""Limits on clients that are slow, many or large, or that lack a key; all of them on one server."""

import contextlib
import json
import os
import select
import signal
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest

from tests.serving.conftest import Server, Store, children, serving
from tests.serving.test_predictions import problem

MAX_BODY_BYTES = 50_000
MAX_CONCURRENT_REQUESTS = 3
REQUEST_TIMEOUT_SECONDS = 2

JSON = {"content-type": "application/json"}
KEY = {"authorization": "Bearer grape"}
ADMINISTRATION_KEY = {"x-api-key": "barrel"}


@pytest.fixture(scope="module")
def limited(store: Store) -> Iterator[Server]:
    """A server with low limits, API keys, allowed hosts and allowed origins."""
    with serving(
        store,
        f"serve.max_body_bytes={MAX_BODY_BYTES}",
        f"serve.max_concurrent_requests={MAX_CONCURRENT_REQUESTS}",
        f"serve.request_timeout_seconds={REQUEST_TIMEOUT_SECONDS}",
        "serve.allowed_hosts=[127.0.0.1,wine.example]",
        "serve.allowed_origins=['https://cellar.example']",
        "serve.keys.predictions=WINE_KEY",
        "serve.keys.administration=WINE_ADMIN_KEY",
        afresh=True,
        WINE_KEY="grape",
        WINE_ADMIN_KEY="barrel",
    ) as running:
        running.metrics_headers = ADMINISTRATION_KEY
        # While the refresh process starts, /refresh and /explain may take longer than these limits allow.
        running.until(lambda: not running.get("/readyz").json()["stale"])
        yield running


@pytest.fixture(scope="module")
def sample(limited: Server) -> dict[str, float]:
    return dict(limited.get("/model").json()["schema"]["samples"][0]["row"])


def predict(server: Server, content: object, **headers: str) -> httpx.Response:
    return server.post("/predict", content, headers=JSON | KEY | headers)


def pad(row: dict[str, float], size: int) -> bytes:
    """A row as JSON of exactly so many bytes."""
    body = json.dumps(row).encode()
    return body[:-1] + b" " * (size - len(body)) + b"}"


def connect(server: Server) -> socket.socket:
    parts = urlsplit(server.url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=60)


def head(content_length: int, path: str = "/predict", key: str = "grape") -> bytes:
    """The head of a POST request."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"X-API-Key: {key}",
        f"Content-Length: {content_length}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def read_all(client: socket.socket) -> bytes:
    """Everything until the server closes the connection."""
    content = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(65536):
            content += part
    return content


@contextlib.contextmanager
def stopped_refresh_process(server: Server) -> Iterator[int]:
    """Stop the process that asks the registry and explains, so that requests to it wait."""
    server.until(lambda: children(server))
    (pid,) = children(server)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_body_of_the_largest_size_is_accepted_and_a_larger_one_is_not(
    limited: Server, sample: dict[str, float]
) -> None:
    assert predict(limited, pad(sample, MAX_BODY_BYTES)).status_code == 200
    problem(predict(limited, pad(sample, MAX_BODY_BYTES + 1)), 413)


def test_the_size_of_a_body_without_a_length_is_limited(limited: Server, sample: dict[str, float]) -> None:
    def post_chunks(size: int) -> httpx.Response:
        body = pad(sample, size)
        chunks = (body[start : start + 999] for start in range(0, size, 999))
        return httpx.post(f"{limited.url}/predict", content=chunks, headers=JSON | KEY)

    assert post_chunks(MAX_BODY_BYTES).status_code == 200
    problem(post_chunks(MAX_BODY_BYTES + 1), 413)


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
def test_predictions_require_their_key(
    limited: Server, sample: dict[str, float], headers: dict[str, str], status: int
) -> None:
    for path, body in (("/predict", sample), ("/invocations", {"instances": [sample]})):
        response = limited.post(path, body, headers=JSON | headers)
        assert response.status_code == status
        if status == 401:
            problem(response, 401)
            assert response.headers["www-authenticate"] == "Bearer"


def test_administration_requires_a_key_of_its_own(limited: Server) -> None:
    problem(limited.get("/metrics", headers=KEY), 401)
    problem(limited.post("/refresh", "", headers=KEY), 401)
    assert limited.get("/metrics", headers=ADMINISTRATION_KEY).status_code == 200
    assert limited.post("/refresh", "", headers=ADMINISTRATION_KEY).json()["ready"] is True
    assert limited.get("/readyz").status_code == 200
    paths = limited.get("/schema").json()["paths"]
    assert paths["/predict"]["post"]["security"]
    assert "security" not in paths["/model"]["get"]


def test_requests_for_other_hosts_are_refused(limited: Server) -> None:
    assert limited.get("/livez", headers={"host": "wine.example:8080"}).status_code == 200
    problem(limited.get("/livez", headers={"host": "evil.example"}), 400)
    problem(limited.get("/nothing", headers={"host": "evil.example"}), 400)


def test_only_pages_of_allowed_origins_may_read_responses(limited: Server) -> None:
    def allowed_origin(origin: str) -> str | None:
        return limited.get("/livez", headers={"origin": origin}).headers.get("access-control-allow-origin")

    assert allowed_origin("https://cellar.example") == "https://cellar.example"
    assert allowed_origin("https://evil.example") is None


def test_slow_clients_are_cut_off_and_others_do_not_notice(limited: Server, sample: dict[str, float]) -> None:
    started = time.monotonic()
    limit_seconds = REQUEST_TIMEOUT_SECONDS + 8
    incomplete_heads = [connect(limited) for _ in range(70)]
    incomplete_bodies = [connect(limited) for _ in range(110)]
    silent = [connect(limited) for _ in range(60)]
    for client in incomplete_heads:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow")
    for client in incomplete_bodies:
        client.sendall(head(99))
    finished = threading.Event()

    def trickle() -> None:
        while not finished.wait(0.2):
            for client in incomplete_heads + incomplete_bodies:
                with contextlib.suppress(OSError):
                    client.send(b"a")

    thread = threading.Thread(target=trickle)
    thread.start()
    clients = incomplete_heads + incomplete_bodies + silent
    try:
        assert predict(limited, sample).status_code == 200
        for client in clients:
            client.settimeout(max(0.1, limit_seconds - (time.monotonic() - started)))
            response = read_all(client)
            assert b"408 Request Timeout" in response
            assert b"application/problem+json" in response
    finally:
        finished.set()
        thread.join()
        for client in clients:
            client.close()
    assert time.monotonic() - started < limit_seconds
    assert predict(limited, sample).status_code == 200
    limited.until(lambda: limited.metric("wineexp_requests_in_flight") == 1)


def test_requests_beyond_the_limit_are_refused(limited: Server, sample: dict[str, float]) -> None:
    with stopped_refresh_process(limited):
        waiting = [connect(limited) for _ in range(MAX_CONCURRENT_REQUESTS)]
        for client in waiting:
            client.sendall(head(0, "/refresh", key="barrel"))
        limited.until(lambda: limited.metric("wineexp_requests_in_flight") == MAX_CONCURRENT_REQUESTS + 1)
        refused = predict(limited, sample)
        problem(refused, 503)
        assert refused.headers["retry-after"] == "1"
        assert limited.get("/readyz").status_code == 200
    for client in waiting:
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        client.close()
    assert predict(limited, sample).status_code == 200


@pytest.mark.journey
def test_incomplete_requests_do_not_count_as_concurrent_ones(limited: Server, sample: dict[str, float]) -> None:
    def send_incomplete() -> list[socket.socket]:
        clients = [connect(limited) for _ in range(12)]
        for client in clients:
            client.sendall(head(40_000) + b" " * 39_999)
        return clients

    def count(status: str) -> float:
        return limited.metric("wineexp_requests_total", status=status)

    left, late = count("499"), count("408")
    first = send_incomplete()
    limited.until(lambda: limited.metric("wineexp_requests_in_flight") == 13)
    assert predict(limited, sample).status_code == 200
    # A body in several pieces is complete, too.
    assert predict(limited, pad(sample, MAX_BODY_BYTES)).status_code == 200
    for client in first[:4]:
        client.close()
    limited.until(lambda: count("499") == left + 4)
    refused = count("503")
    more = send_incomplete() + send_incomplete()
    limited.until(lambda: count("503") > refused)
    assert predict(limited, sample).status_code == 200
    limited.until(lambda: limited.metric("wineexp_requests_in_flight") == 1)
    assert count("408") >= late + 8
    for client in first + more:
        client.close()
    assert not [line for line in limited.lines() if line["event"] == "failed"]


@pytest.mark.journey
def test_a_client_that_leaves_before_its_response_is_a_line_of_the_log(
    limited: Server, sample: dict[str, float]
) -> None:
    before = limited.metric("wineexp_requests_total", status="499")
    body = json.dumps(sample).encode()
    request = head(len(body), "/explain") + body
    limited.post("/explain", sample, headers=JSON | KEY)
    # With several requests on one connection, one waits for another.
    for content in (request, request * 3):
        with stopped_refresh_process(limited):
            client = connect(limited)
            client.sendall(content)
            limited.until(lambda: limited.metric("wineexp_requests_in_flight") == 2)
            # The connection is reset.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            time.sleep(0.1)
        limited.until(lambda: limited.metric("wineexp_requests_in_flight") == 1)
    assert limited.metric("wineexp_requests_total", status="499") == before + 2
    lines = [line for line in limited.lines() if line.get("status") == 499 and line["route"] == "/explain"]
    assert [line["level"] for line in lines] == ["info", "info"]
    assert not [line for line in limited.lines() if line["level"] in ("warning", "error") and "exception" in line]
    assert "ASGI callable" not in limited.log.read_text()


def test_what_is_not_http_is_refused_with_a_problem_and_counted(limited: Server) -> None:
    before = limited.metric("wineexp_requests_total", status="400")
    with connect(limited) as client:
        client.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        response = client.recv(4096)
    assert response.startswith(b"HTTP/1.1 400")
    assert b"application/problem+json" in response
    assert limited.metric("wineexp_requests_total", status="400") == before + 1


@pytest.mark.parametrize(
    ("version", "hosts", "status"), [("1.1", 0, 400), ("1.1", 1, 200), ("1.1", 2, 400), ("1.0", 0, 200)]
)
def test_a_request_has_one_host(server: Server, version: str, hosts: int, status: int) -> None:
    with connect(server) as client:
        lines = [f"GET /livez HTTP/{version}", *["Host: 127.0.0.1"] * hosts, "Connection: close", "", ""]
        client.sendall("\r\n".join(lines).encode())
        assert read_all(client).startswith(f"HTTP/1.1 {status}".encode())


@pytest.mark.journey
@pytest.mark.parametrize(("version", "connection"), [("1.1", b""), ("1.0", b"Connection: keep-alive\r\n")])
def test_an_idle_connection_is_kept_for_longer_than_a_request_may_take(
    limited: Server, version: str, connection: bytes
) -> None:
    request = f"GET /livez HTTP/{version}\r\nHost: 127.0.0.1\r\n".encode() + connection + b"\r\n"
    with connect(limited) as client:

        def respond() -> bytes:
            client.sendall(request)
            response = b""
            while not response.endswith(b"}"):
                response += client.recv(4096)
            return response

        response = respond()
        assert response.startswith(b"HTTP/1.1 200")
        assert (b"connection: keep-alive" in response) == (version == "1.0")
        time.sleep(REQUEST_TIMEOUT_SECONDS + 0.5)
        assert respond().startswith(b"HTTP/1.1 200")


def test_a_client_that_writes_all_of_a_large_body_before_it_reads_gets_its_answer(limited: Server) -> None:
    large = urllib.request.Request(f"{limited.url}/predict", b" " * 30_000_000, JSON | KEY)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(large, timeout=60)
    assert refused.value.code == 413


@pytest.mark.parametrize("piece", [b"a" * 70_000, b"a\r\nX-More: a" * 6_000])
def test_a_head_without_an_end_is_refused(limited: Server, piece: bytes) -> None:
    with connect(limited) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: ")
        for _ in range(20):
            client.sendall(piece)
            if select.select([client], [], [], 0.3)[0]:
                break
        response = client.recv(4096)
        assert response.startswith(b"HTTP/1.1 431")
        assert b"application/problem+json" in response


def test_a_long_head_is_accepted(limited: Server) -> None:
    with connect(limited) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: " + b"a" * 40_000)
        time.sleep(0.1)
        client.sendall(b"a" * 20_000 + b"\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")


@pytest.mark.journey
def test_a_client_that_does_not_take_its_responses_is_cut_off(limited: Server) -> None:
    parts = urlsplit(limited.url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((parts.hostname or "", parts.port or 0))
        # Each response waits until the one before it is taken.
        client.sendall(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 10)
        limited.until(lambda: limited.metric("wineexp_requests_in_flight") > 1)
        limited.until(lambda: limited.metric("wineexp_requests_in_flight") == 1)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", "[" + "{}," * 1_300_000 + "{}]"),
        pytest.param("/invocations", '{"dataframe_records": [' + "{}," * 1_300_000 + "{}]}", marks=pytest.mark.journey),
    ],
)
def test_other_requests_are_answered_while_large_bodies_are_parsed(server: Server, path: str, body: str) -> None:
    with ThreadPoolExecutor(12) as pool:
        refused = [pool.submit(server.post, path, body) for _ in range(12)]
        answered = 0
        while not refused[-1].done():
            time.sleep(0.02)
            answered += server.get("/livez").status_code == 200 and not refused[-1].done()
    for each in refused:
        problem(each.result(), 422)
    assert answered >= 5


def test_no_page_of_another_origin_may_read_responses_by_default(server: Server) -> None:
    response = server.get("/livez", headers={"origin": "https://cellar.example"})
    assert "access-control-allow-origin" not in response.headers
