"""Spans of requests, exported to a collector of OpenTelemetry."""

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.conftest import run
from tests.serving.conftest import Store, composed_settings, serving
from tests.serving.test_clients import install
from wineexp.core.errors import UserError
from wineexp.core.paths import ROOT
from wineexp.serving import app, tracing
from wineexp.serving.refresh.follower import AliasFollower
from wineexp.serving.refresh.messages import RefreshPaths
from wineexp.serving.tracing import Tracer

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

# What the extra `otel` installs and the development environment does not have.
OTEL = [
    "opentelemetry-exporter-otlp-proto-http==1.45.2",
    "opentelemetry-exporter-otlp-proto-common==1.45.2",
    "opentelemetry-exporter-otlp-common==0.66b2",
    "opentelemetry-exporter-http-transport==0.66b2",
    "googleapis-common-protos==1.76.0",
]


def test_a_span_belongs_to_the_trace_of_its_request() -> None:
    exporter = InMemorySpanExporter()
    tracer = Tracer(exporter)
    request = tracer.start(f"00-{TRACE}-{CALLER}-01".encode())
    assert request.trace_id == TRACE
    tracer.end(request, "mine", "POST", "/predict", 200)
    alone = tracer.start(b"")
    tracer.end(alone, "other", "GET", "none", 500)
    unsampled = tracer.start(f"00-{TRACE}-{CALLER}-00".encode())
    assert unsampled.traceparent.endswith(b"-00")
    tracer.end(unsampled, "another", "GET", "/model", 200)
    tracer.close()
    first, second = exporter.get_finished_spans()
    assert first.name == "POST /predict"
    assert first.context is not None
    assert first.parent is not None
    assert (f"{first.context.trace_id:032x}", f"{first.parent.span_id:016x}") == (TRACE, CALLER)
    assert request.traceparent.decode() == f"00-{TRACE}-{first.context.span_id:016x}-01"
    assert dict(first.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "wineexp.request_id": "mine",
    }
    assert first.status.is_unset
    assert second.parent is None
    assert not second.status.is_ok


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(UserError, match=r"pip install 'wineexp\[otel\]'"):
        tracing.connect("http://localhost:4318")


def test_an_endpoint_that_is_no_url_is_refused(tmp_path: Path) -> None:
    refused = run(tmp_path, "serve", "serve.otlp_endpoint=localhost:4318")
    assert refused.returncode == 1
    assert "serve.otlp_endpoint=localhost:4318: a URL with http:// or https:// is wanted" in refused.stderr


@pytest.fixture
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """The URL of a collector, and what was sent to it."""
    received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()
        thread.join()


@pytest.mark.journey
def test_spans_reach_a_collector_before_the_server_has_stopped(
    own_store: Store, tmp_path_factory: pytest.TempPathFactory, collector: tuple[str, list[ExportTraceServiceRequest]]
) -> None:
    url, received = collector
    # The package is in a namespace of which the environment has other parts.
    folder = install(OTEL, tmp_path_factory.mktemp("otel"))
    with serving(own_store, f"serve.otlp_endpoint={url}", PYTHONPATH=f"{ROOT}:{folder}") as server:
        response = server.get("/model", headers={"traceparent": f"00-{TRACE}-{CALLER}-01"})
        assert server.stop() == 0
    spans = {
        span.name: span
        for request in received
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }
    assert {"GET /livez", "GET /model"} <= spans.keys()
    span = spans["GET /model"]
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, CALLER)
    assert response.headers["traceparent"] == f"00-{TRACE}-{span.span_id.hex()}-01"
    (line,) = [line for line in server.lines() if line.get("trace_id") == TRACE]
    assert line["route"] == "/model"


def test_what_is_wrong_with_the_collector_is_said_before_a_version_is_awaited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise UserError("no exporter")

    monkeypatch.setattr(tracing, "connect", refuse)
    monkeypatch.setattr(AliasFollower, "start", lambda _: pytest.fail("it waits for a version"))
    settings = composed_settings("serve.otlp_endpoint=http://127.0.0.1:9")
    with pytest.raises(UserError, match="no exporter"):
        app.build(settings, RefreshPaths(tmp_path / "socket", tmp_path, tmp_path))
