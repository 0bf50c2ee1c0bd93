"""What `serving/http/_uvicorn.py` relies on of uvicorn, so that an upgrade that changes it fails here."""

import asyncio
import inspect
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from wineexp.serving.http._uvicorn import UvicornProtocol, UvicornServer
from wineexp.serving.http.protocol import TimeoutProtocol


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_the_protocol_has_the_attributes_that_are_used(loop: asyncio.AbstractEventLoop) -> None:
    config = uvicorn.Config(lambda: None, timeout_keep_alive=7)
    protocol = HttpToolsProtocol(config, ServerState(), {}, loop)
    assert protocol.timeout_keep_alive == 7
    assert protocol.timeout_keep_alive_task is None
    assert protocol.cycle is None
    assert protocol.transport is None
    assert protocol.loop is loop


def test_the_protocol_calls_the_methods_that_are_overridden() -> None:
    source = inspect.getsource(HttpToolsProtocol)
    assert "self._start_asgi_task(self.cycle, app)" in source
    assert "self.timeout_keep_alive, self.timeout_keep_alive_handler" in source
    assert "self.send_400_response(msg)" in source
    assert "self._unsupported_upgrade_warning()" in source
    assert list(inspect.signature(HttpToolsProtocol._start_asgi_task).parameters) == ["self", "cycle", "app"]
    for name in ("shutdown", "pause_writing", "resume_writing", "on_message_begin", "on_message_complete"):
        assert name in vars(HttpToolsProtocol)


def test_a_cycle_has_the_attributes_that_are_used() -> None:
    cycle = RequestResponseCycle(*[None] * len(list(inspect.signature(RequestResponseCycle).parameters)))
    for name in (
        "scope",
        "default_headers",
        "disconnected",
        "keep_alive",
        "message_event",
        "response_started",
        "response_complete",
    ):
        assert hasattr(cycle, name)


def test_a_connection_without_requests_is_idle(loop: asyncio.AbstractEventLoop) -> None:
    protocol = UvicornProtocol(uvicorn.Config(lambda: None), ServerState(), {}, loop)
    assert protocol.is_idle()
    assert not protocol.is_response_started()
    assert protocol.newest_state() is None
    assert protocol.active_state() is None


def test_what_clients_have_connected_before_the_end_is_answered() -> None:
    async def answer(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    async def stop_at_once() -> bytes:
        listener = socket.create_server(("127.0.0.1", 0))
        protocol = partial(TimeoutProtocol, request_timeout_seconds=5, record_refusal=print)
        server = UvicornServer(uvicorn.Config(answer, http=protocol, lifespan="off", log_config=None))
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup([listener])
        # The kernel accepts the connection and the request; the loop, which stands still here, has seen neither.
        with socket.create_connection(listener.getsockname()) as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
            await server.shutdown([listener])
            return client.recv(1000)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(stop_at_once()).startswith(b"HTTP/1.1 204")
