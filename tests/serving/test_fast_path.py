"""The fast path gives what the framework gives: the same responses, metrics and lines of the log."""

import json
import socket
import time
from urllib.parse import urlsplit

import httpx
import pytest

from tests.serving.conftest import Server
from tests.serving.test_predictions import problem

HEADERS = {"content-type": "application/json", "x-request-id": "same"}

# Each of them makes the fast path leave a request to the framework.
FRAMEWORK_HEADERS = [
    {"accept": "application/json, text/plain;q=0.5"},
    {"content-type": "application/json; Charset=UTF-8"},
    {"origin": "https://elsewhere.example"},
]


def test_both_paths_give_the_same_response(server: Server, row: dict[str, float]) -> None:
    for values in (row, {name: value * 3 for name, value in row.items()}, dict.fromkeys(row, 0)):
        fast = server.post("/predict", values, headers=HEADERS)
        assert fast.status_code == 200
        for headers in FRAMEWORK_HEADERS:
            response = server.post("/predict", values, headers=HEADERS | headers)
            assert response.content == fast.content
            assert dict(response.headers) | {"date": ""} == dict(fast.headers) | {"date": ""}


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b'{"a": 1}', b"[]", b"null", b"\xff", b"{" * 3000])
def test_both_paths_refuse_with_the_same_problem(server: Server, body: bytes) -> None:
    fast = server.post("/predict", body, headers=HEADERS)
    response = server.post("/predict", body, headers=HEADERS | FRAMEWORK_HEADERS[0])
    assert fast.content == response.content
    assert problem(fast, response.status_code)["detail"]


def test_requests_of_the_fast_path_are_counted_and_logged(server: Server, row: dict[str, float]) -> None:
    def counts() -> list[float]:
        return [
            server.metric("wineexp_requests_total", route="/predict", status="200", method="POST"),
            server.metric("wineexp_request_duration_seconds_count", route="/predict"),
            server.metric("wineexp_predictions_total"),
            server.metric("wineexp_rows_out_of_range_total"),
        ]

    before = counts()
    with httpx.Client(base_url=server.url) as client:
        for number in range(20):
            response = client.post("/predict", json=row | {"ash": 99}, headers={"x-request-id": f"counted-{number}"})
            assert response.json()["predictions"][0]["out_of_range"] == ["ash"]
            assert response.json()["request_id"] == response.headers["x-request-id"] == f"counted-{number}"
    assert counts() == [count + 20 for count in before]
    lines = [line for line in server.lines() if str(line.get("request_id")).startswith("counted-")]
    assert [line["request_id"] for line in lines] == [f"counted-{number}" for number in range(20)]
    framework_line = next(line for line in server.lines() if line.get("route") == "/model")
    assert list(lines[0]) == list(framework_line)
    assert time.strptime(lines[0]["timestamp"][:19], "%Y-%m-%dT%H:%M:%S")
    assert lines[0]["timestamp"].endswith("Z")


def test_a_row_may_arrive_in_pieces(server: Server, row: dict[str, float]) -> None:
    body = json.dumps(row).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as client:
        for piece in (head.encode()[:30], head.encode()[30:], body[:50], body[50:]):
            client.sendall(piece)
            time.sleep(0.05)
        response = client.recv(65536)
    assert response.startswith(b"HTTP/1.1 200")
    assert b'"predictions"' in response
