"""Middleware around an application of the tests, without a server."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec
import pytest
from litestar.types import ASGIApp, Receive, Scope, Send

from wineexp.serving.http.guards import MAX_INLINE_BYTES
from wineexp.serving.http.protocol import FINAL_STATUS
from wineexp.serving.metrics import Metrics
from wineexp.serving.middleware.body import MAX_BODIES, BodyMiddleware
from wineexp.serving.middleware.concurrency import MAX_CONCURRENT_EXPLANATIONS, ConcurrencyLimitMiddleware
from wineexp.serving.middleware.head import HeadMiddleware
from wineexp.serving.middleware.host import HostMiddleware, host_name
from wineexp.serving.middleware.predict_path import PredictPathMiddleware
from wineexp.serving.middleware.recording import RecordingMiddleware

DISCONNECT = {"type": "http.disconnect"}


def scope(method: str = "POST", path: str = "/predict", **headers: str) -> Any:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    state = {"request_id": "abc", "headers": dict(raw)}
    request = {"type": "http", "http_version": "1.1", "method": method, "path": path, "headers": raw}
    return request | {"client": ("127.0.0.1", 1), "state": state}


def body(*chunks: bytes) -> list[Any]:
    return [
        {"type": "http.request", "body": chunk, "more_body": number < len(chunks)}
        for number, chunk in enumerate(chunks, 1)
    ]


async def call(app: ASGIApp, request: Any, messages: Iterable[Any] = ()) -> list[Any]:
    """The messages that an application sends, when it receives these and then waits."""
    pending = list(messages)
    sent: list[Any] = []

    async def receive() -> Any:
        return pending.pop(0) if pending else await asyncio.Future()

    async def send(message: Any) -> None:
        sent.append(message)

    await app(request, receive, send)
    return sent


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with the method and the first message's body."""
    message: Any = (
        await receive() if scope["state"]["headers"].keys() & {b"content-length", b"transfer-encoding"} else {}
    )
    await send({"type": "http.response.start", "status": 200, "headers": []})
    content = scope["method"].encode() + b" " + message.get("body", b"")  # type: ignore[typeddict-item]
    await send({"type": "http.response.body", "body": content, "more_body": False})


def status(sent: list[Any]) -> int:
    return int(sent[0]["status"])


def test_a_body_in_pieces_reaches_the_application_as_one_message() -> None:
    app = BodyMiddleware(echo, 100)
    sent = asyncio.run(call(app, scope(transfer_encoding="chunked"), body(b"ab", b"cd", b"")))
    assert sent[1]["body"] == b"POST abcd"


def test_a_body_without_a_length_is_cut_off_once_it_is_too_large() -> None:
    app = BodyMiddleware(echo, 3)
    sent = asyncio.run(call(app, scope(transfer_encoding="chunked"), body(b"ab", b"cd", b"ef")))
    # One byte too many is enough for the application to refuse it.
    assert sent[1]["body"] == b"POST abcd"


def test_a_body_whose_length_is_too_large_is_not_awaited() -> None:
    async def refuse(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": []})

    assert status(asyncio.run(call(BodyMiddleware(refuse, 3), scope(content_length="4")))) == 413


def test_nothing_is_sent_to_a_client_that_left_before_its_body_was_complete() -> None:
    app = BodyMiddleware(echo, 100)
    request = scope(content_length="4")
    assert asyncio.run(call(app, request, [*body(b"ab", b"")[:1], DISCONNECT])) == []


def test_incomplete_bodies_take_up_limited_memory_and_small_ones_in_one_piece_still_reach_the_application() -> None:
    async def fill() -> None:
        app = BodyMiddleware(echo, 10)
        half = body(b"x" * 9, b"")[:1]
        waiting = [asyncio.ensure_future(call(app, scope(content_length="10"), half)) for _ in range(17)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert 17 * 9 < MAX_BODIES * 10 < 18 * 9
        refused = await call(app, scope(content_length="10"), half)
        assert status(refused) == 503
        assert (b"retry-after", b"1") in refused[0]["headers"]
        assert status(await call(app, scope(content_length="10"), body(b"x" * 10))) == 200
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        # The memory of requests that ended is free again.
        assert status(await call(app, scope(content_length="10"), [*half, *body(b"x")])) == 200

    asyncio.run(fill())


def test_requests_beyond_the_limit_are_refused_except_those_of_orchestrators() -> None:
    async def fill() -> None:
        release = asyncio.Event()

        async def wait(scope: Scope, receive: Receive, send: Send) -> None:
            await release.wait()
            await echo(scope, receive, send)

        app = ConcurrencyLimitMiddleware(wait, 2)
        waiting = [asyncio.ensure_future(call(app, scope())) for _ in range(2)]
        await asyncio.sleep(0)
        assert status(await call(app, scope())) == 503
        waiting.append(asyncio.ensure_future(call(app, scope("GET", "/livez"))))
        await asyncio.sleep(0)
        release.set()
        assert [status(await each) for each in waiting] == [200, 200, 200]
        assert status(await call(app, scope())) == 200

    asyncio.run(fill())


def test_explanations_take_no_places_of_predictions() -> None:
    async def wait(*_: Any) -> None:
        await asyncio.Future()

    async def fill() -> None:
        app = ConcurrencyLimitMiddleware(wait, 100)
        waiting = [
            asyncio.ensure_future(call(app, scope(path=path)))
            for path in ["/explain", "/explain/"] * (MAX_CONCURRENT_EXPLANATIONS // 2)
        ]
        await asyncio.sleep(0)
        assert status(await call(app, scope(path="/explain"))) == 503
        app.app = echo
        for _ in range(3):
            assert status(await call(app, scope())) == 200
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert status(await call(app, scope(path="/explain"))) == 200

    asyncio.run(fill())


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (b"Wine.example:8080", "wine.example"),
        (b"wine.example", "wine.example"),
        (b"[::1]", "::1"),
        (b"[::1]:80", "::1"),
        (b"", ""),
    ],
)
def test_the_host_is_compared_without_its_port(header: bytes, name: str) -> None:
    assert host_name(header) == name


def test_only_allowed_hosts_reach_the_application() -> None:
    app = HostMiddleware(echo, ["Wine.example"])
    assert status(asyncio.run(call(app, scope(host="wine.example:80")))) == 200
    refused = asyncio.run(call(app, scope(host="evil.example")))
    assert status(refused) == 400
    assert msgspec.json.decode(refused[1]["body"])["request_id"] == "abc"
    assert status(asyncio.run(call(app, scope()))) == 400


@pytest.mark.parametrize("allowed", ["::1", "[::1]"])
def test_an_ipv6_address_is_allowed_with_and_without_brackets_and_with_a_port(allowed: str) -> None:
    app = HostMiddleware(echo, [allowed])
    assert status(asyncio.run(call(app, scope(host="[::1]:8080")))) == 200
    assert status(asyncio.run(call(app, scope(host="[::1]")))) == 200
    assert status(asyncio.run(call(app, scope(host="[::2]:8080")))) == 400


def test_bodies_count_until_their_requests_are_answered() -> None:
    async def wait(*_: Any) -> None:
        await asyncio.Future()

    async def fill() -> None:
        size = MAX_INLINE_BYTES + 1
        app = BodyMiddleware(wait, size)
        length = str(size)
        waiting = [
            asyncio.ensure_future(call(app, scope(content_length=length), body(b"x" * size))) for _ in range(MAX_BODIES)
        ]
        await asyncio.sleep(0)
        assert status(await call(app, scope(content_length=length), body(b"x" * size))) == 503
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        app.app = echo
        assert status(await call(app, scope(content_length=length), body(b"x" * size))) == 200

    asyncio.run(fill())


def test_head_is_answered_as_get_and_keeps_the_route_for_the_metrics() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        scope["path_template"] = "/model"
        await echo(scope, receive, send)

    request = scope("HEAD", "/model")
    assert asyncio.run(call(HeadMiddleware(app), request))[1]["body"] == b"GET "
    assert (request["method"], request["path_template"]) == ("HEAD", "/model")


def test_the_path_of_kserves_predictions_is_another_to_the_application_alone() -> None:
    paths = []

    async def app(scope: Any, *_: Any) -> None:
        paths.append(scope["path"])
        scope["path_template"] = "/v1/models/{name:str}/predict"

    request = scope(path="/v1/models/wine:predict")
    asyncio.run(call(PredictPathMiddleware(app), request))
    assert paths == ["/v1/models/wine/predict"]
    assert request["path"] == "/v1/models/wine:predict"
    assert request["path_template"] == "/v1/models/{name:str}/predict"


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Awaitable[tuple[list[Any], tuple[Any, ...]]]]:
    """Calls an application, and gives what it sent and the line of the access log."""
    lines: list[tuple[Any, ...]] = []
    monkeypatch.setattr("wineexp.serving.logs.AccessLog.write", lambda _, *line: lines.append(line))

    async def record(app: ASGIApp, request: Any) -> tuple[list[Any], tuple[Any, ...]]:
        sent = await call(RecordingMiddleware(app, Metrics()), request)
        return sent, lines[-1]

    return record


def test_a_response_has_the_id_of_its_request_and_a_line_in_the_log(recorded: Any) -> None:
    sent, line = asyncio.run(recorded(echo, scope(x_request_id="mine-1")))
    assert (b"x-request-id", b"mine-1") in sent[0]["headers"]
    assert (b"x-content-type-options", b"nosniff") in sent[0]["headers"]
    assert line[:4] == ("mine-1", "POST", "none", 200)
    assert line[5] == "127.0.0.1"


TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_request_of_a_trace_has_its_id_in_the_log_and_a_span_of_its_own_in_the_response(recorded: Any) -> None:
    for version in ("00", "01"):
        sent, line = asyncio.run(recorded(echo, scope(traceparent=f"{version}-{TRACE}-{SPAN}-01")))
        response = dict(sent[0]["headers"])[b"traceparent"].decode()
        assert line[6] == TRACE
        assert re.fullmatch(rf"00-{TRACE}-[0-9a-f]{{16}}-01", response)
        assert SPAN not in response


@pytest.mark.parametrize(
    "given",
    [
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        "",
    ],
)
def test_what_is_no_trace_is_ignored(recorded: Any, given: str) -> None:
    sent, line = asyncio.run(recorded(echo, scope(traceparent=given)))
    assert line[6] is None
    assert b"traceparent" not in dict(sent[0]["headers"])


@pytest.mark.parametrize("given", ["two words", "x" * 65, "ümlaut"])
def test_a_request_id_that_may_harm_a_log_is_replaced(recorded: Any, given: str) -> None:
    _, line = asyncio.run(recorded(echo, scope(x_request_id=given)))
    assert len(line[0]) == 32


def test_an_exception_is_answered_with_a_problem(recorded: Any) -> None:
    async def fail(*_: Any) -> None:
        raise ValueError("secret")

    sent, line = asyncio.run(recorded(fail, scope()))
    assert (status(sent), line[3]) == (500, 500)
    assert b"secret" not in sent[1]["body"]


def test_a_request_without_a_response_is_recorded_with_its_final_status(recorded: Any) -> None:
    async def leave(*_: Any) -> None:
        return

    async def time_out(scope: Any, *_: Any) -> None:
        scope["state"][FINAL_STATUS] = 408

    assert asyncio.run(recorded(leave, scope()))[1][3] == 499
    assert asyncio.run(recorded(time_out, scope()))[1][3] == 408
