"""Requests as other people's HTTP clients send them."""

import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.serving.conftest import Server


@pytest.fixture(scope="module")
def body(row: dict[str, float]) -> str:
    return json.dumps(row)


@pytest.fixture(scope="module")
def expected(server: Server, row: dict[str, float]) -> list[dict[str, object]]:
    return list(server.post("/predict", row).json()["predictions"])


def output(*command: str) -> str:
    """What a program prints; skips the test where it is not installed."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_javas_client_which_offers_http2_is_answered_over_http1(
    server: Server, body: str, expected: list[dict[str, object]]
) -> None:
    printed = output("java", str(Path(__file__).with_name("clients") / "Predict.java"), f"{server.url}/predict", body)
    assert [json.loads(line)["predictions"] for line in printed.splitlines()] == [expected, expected]


def test_curl_which_offers_http2_is_answered_over_http1(
    server: Server, body: str, expected: list[dict[str, object]]
) -> None:
    sent = ("-H", "content-type: application/json", "-d", body)
    printed = output("curl", "-s", "--http2", "-w", "\n%{http_version}", *sent, f"{server.url}/predict")
    response, version = printed.rsplit("\n", 1)
    assert version == "1.1"
    assert json.loads(response)["predictions"] == expected


@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize("piece_bytes", [40, 100_000])
def test_a_body_after_an_offer_to_upgrade_is_read_whole_and_so_are_the_requests_after_it(
    server: Server, body: str, expected: list[dict[str, object]], framing: str, piece_bytes: int
) -> None:
    parts, content = urlsplit(server.url), body.encode()
    head = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"
    length = f"Content-Length: {len(content)}\r\n\r\n".encode() + content
    chunks = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
    framed = {"length": length, "chunks": chunks}[framing]
    last = f"{head}Connection: close\r\n".encode() + length
    sent = f"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n{offer}\r\n{head}{offer}".encode() + framed + last
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=60) as client:
        for start in range(0, len(sent), piece_bytes):
            client.sendall(sent[start : start + piece_bytes])
            time.sleep(0.001)
        received = b"".join(iter(lambda: client.recv(65536), b""))
    bodies = [part.partition(b"\r\n\r\n")[2] for part in received.split(b"HTTP/1.1 200 ")[2:]]
    assert [json.loads(part)["predictions"] for part in bodies] == [expected, expected]
