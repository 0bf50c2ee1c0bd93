"""Traces: a request's place in one (W3C Trace Context), and spans for OpenTelemetry where they are exported."""

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import wineexp
from wineexp.core.errors import UserError

if TYPE_CHECKING:
    # Only servers that export spans import it.
    from opentelemetry.sdk.trace.export import SpanExporter

# A trace's id, the caller's span and flags. Versions beyond 00 may have more parts; zeros and version ff are invalid.
TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-((?!0{32})[0-9a-f]{32})-((?!0{16})[0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")

# Where OpenTelemetry's collectors take spans over HTTP.
TRACES_PATH = "/v1/traces"
EXPORT_TIMEOUT_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Trace:
    """A request's place in a trace.

    Attributes
    ----------
    trace_id : str
    traceparent : bytes
        Of the response: the trace with a span of this request's own.
    span : Any
        OpenTelemetry's; None where none is exported.
    """

    trace_id: str
    traceparent: bytes
    span: Any = None


def continue_trace(traceparent: bytes) -> Trace | None:
    """The trace that a request's header names; None where it names none."""
    caller = TRACEPARENT.fullmatch(traceparent)
    if caller is None:
        return None
    return Trace(caller[1].decode(), b"00-%b-%b-%b" % (caller[1], os.urandom(8).hex().encode(), caller[3]))


class Tracer:
    """Exports a span for each request.

    Parameters
    ----------
    exporter : SpanExporter
    """

    def __init__(self, exporter: "SpanExporter") -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        # The variables of OpenTelemetry, such as OTEL_SERVICE_NAME and OTEL_TRACES_SAMPLER, come first.
        name = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": "wineexp"}
        self._api = trace
        self._provider = TracerProvider(resource=Resource.create(name | {"service.version": wineexp.__version__}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("wineexp.serving")

    def start(self, traceparent: bytes) -> Trace:
        """Begin a request's span, in the trace that its header names, or in one of its own."""
        api, context = self._api, None
        if caller := TRACEPARENT.fullmatch(traceparent):
            trace_id, span_id, flags = (int(part, 16) for part in caller.groups())
            remote = api.SpanContext(trace_id, span_id, is_remote=True, trace_flags=api.TraceFlags(flags))
            context = api.set_span_in_context(api.NonRecordingSpan(remote))
        span = self._tracer.start_span("request", context, kind=api.SpanKind.SERVER)
        own = span.get_span_context()
        hexadecimal = api.format_trace_id(own.trace_id)
        header = f"00-{hexadecimal}-{api.format_span_id(own.span_id)}-{own.trace_flags:02x}"
        return Trace(hexadecimal, header.encode(), span)

    def end(self, request_trace: Trace, request_id: str, method: str, route: str, status: int) -> None:
        """End a request's span, with the attributes of OpenTelemetry's conventions for HTTP."""
        span = request_trace.span
        span.update_name(f"{method} {route}")
        span.set_attribute("http.request.method", method)
        span.set_attribute("http.route", route)
        span.set_attribute("http.response.status_code", status)
        span.set_attribute("wineexp.request_id", request_id)
        if status >= 500:
            span.set_status(self._api.StatusCode.ERROR)
        span.end()

    def close(self) -> None:
        """Export the spans that are left."""
        self._provider.shutdown()


def connect(endpoint: str) -> Tracer:
    """A tracer that exports to a collector of OpenTelemetry, in Protobuf over HTTP.

    Parameters
    ----------
    endpoint : str
        The collector's URL; without a path, that of its `/v1/traces`.

    Raises
    ------
    UserError
        The packages are not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise UserError(
            f"serve.otlp_endpoint: to export spans, OpenTelemetry's packages are needed ({error}); run "
            "pip install 'wineexp[otel]', or leave the setting out"
        ) from error
    url = endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + TRACES_PATH
    return Tracer(OTLPSpanExporter(url, timeout=EXPORT_TIMEOUT_SECONDS))
