"""Requests of an attacker against a real server: none of them gets more than a request may."""

import json
import random
import re
import socket
from urllib.parse import urlsplit

import httpx
import pytest

from tests.serving.conftest import Server
from tests.serving.test_fast_path import FRAMEWORK_HEADERS, HEADERS

# A request within the body of another one, which a proxy in front of the server may take for a request of its own.
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED_HIDDEN = b"0\r\n\r\n" + HIDDEN


def exchange(server: Server, request: bytes) -> bytes:
    """All that the server sends on one connection, until it closes it or says nothing for a second."""
    parts = urlsplit(server.url)
    received = b""
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=1) as client:
        client.sendall(request)
        try:
            while piece := client.recv(65536):
                received += piece
        except (TimeoutError, ConnectionResetError):
            pass
    return received


def post(server: Server, headers: bytes) -> list[bytes]:
    """The status codes that a request with a hidden one in its body is answered with."""
    received = exchange(server, b"POST /predict HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n%b" % (headers, CHUNKED_HIDDEN))
    return re.findall(rb"HTTP/1\.1 (\d+)", received)


def test_a_request_behind_another_is_answered(server: Server) -> None:
    # The body ends before the second request, which therefore is one.
    assert post(server, b"Content-Length: 5") == [b"415", b"404"]


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: %d\r\nTransfer-Encoding: chunked" % len(CHUNKED_HIDDEN),
        b"Transfer-Encoding: chunked\r\nContent-Length: %d" % len(CHUNKED_HIDDEN),
        b"Content-Length: 5\r\nContent-Length: %d" % len(CHUNKED_HIDDEN),
        b"Content-Length: 5, %d" % len(CHUNKED_HIDDEN),
        b"Content-Length: +5",
        b"Content-Length: 5 5",
        b"Content-Length: 0x5",
        b"Content-Length: -1",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding:\n chunked",
        b"X: y\rContent-Length: 5",
    ],
)
def test_no_request_hides_in_the_body_of_another(server: Server, headers: bytes) -> None:
    statuses = post(server, headers)
    assert len(statuses) <= 1
    assert set(statuses) <= {b"400", b"411", b"415", b"422", b"501"}


@pytest.mark.parametrize(
    "path",
    [
        "/../pyproject.toml",
        "/static/../../../pyproject.toml",
        "/static/..%2f..%2f..%2fpyproject.toml",
        "/static/%2e%2e/%2e%2e/%2e%2e/pyproject.toml",
        "/static/....//....//pyproject.toml",
        "/static/..%5c..%5cpyproject.toml",
        "/static/%00/etc/passwd",
        "/static//etc/passwd",
        "//etc/passwd",
        "/docs/../../../../../etc/passwd",
    ],
)
def test_no_path_leads_to_files_of_the_machine(server: Server, path: str) -> None:
    received = exchange(server, f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    assert re.match(rb"HTTP/1\.1 40[04]", received), received
    assert b"[project]" not in received
    assert b"root:" not in received


def test_mutated_bodies_get_the_same_response_on_both_paths(server: Server, row: dict[str, float]) -> None:
    rng = random.Random(0)
    original = json.dumps([row, row]).encode()
    pieces = [
        b"NaN",
        b"-0",
        b"1e999",
        b'"',
        b"\\u0000",
        b"\\ud800",
        b"null",
        b"\xff",
        *(bytes([c]) for c in b"{}[],: "),
    ]
    with httpx.Client(base_url=server.url) as client:
        for _ in range(300):
            body = bytearray(original if rng.random() < 0.5 else json.dumps(row).encode())
            for _ in range(rng.randint(1, 3)):
                at = rng.randrange(len(body))
                body[at : at + rng.choice((0, 1, 1, 8, 60))] = rng.choice(pieces)
            fast = client.post("/predict", content=bytes(body), headers=HEADERS)
            framework = client.post("/predict", content=bytes(body), headers=HEADERS | FRAMEWORK_HEADERS[0])
            assert fast.status_code in (200, 400, 422), body
            assert fast.content == framework.content, body
    assert server.get("/readyz").status_code == 200
