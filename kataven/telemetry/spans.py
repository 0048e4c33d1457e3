"""Spans of requests and of the calls that they cause: PostgreSQL, Redis and the auth-service.

A span continues the trace of `tracing.Trace`: log lines, outgoing `traceparent` headers and spans have the same ids.
Attributes contain names only: routes, tables, commands, methods. They never contain keys, SQL parameters, paths, query
strings or messages of exceptions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import (
    NonRecordingSpan,
    NoOpTracer,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from kataven import tracing
from kataven.telemetry.exporting import BoundedProcessor, Count, CountedExporter

Attributes = Mapping[str, str | int]

_active: ContextVar[Span | None] = ContextVar("kataven_span", default=None)
"""The server span of the request on this thread."""


class Telemetry:
    """Records and exports the spans of this process, between `start` and `stop`.

    `OTEL_…` variables configure the exporter, the sampler, the queue and the resource, as the specification describes.
    """

    def __init__(
        self, service: str, version: str, count: Count, instruments: Sequence[Callable[[Telemetry], None]] = ()
    ) -> None:
        """`service` is the default of OTEL_SERVICE_NAME. `instruments` add spans to libraries immediately.
        Calls outside of a request are not recorded."""
        self._service = {"service.name": service, "service.version": version}
        self._version = version
        self._count = count
        self._provider: TracerProvider | None = None
        self._tracer: Tracer | None = None
        for instrument in instruments:
            instrument(self)

    def start(self) -> None:
        """Start the exporter's thread. Call it after the fork: threads don't survive a fork."""
        if self._provider is not None:
            return
        # Its loggers write the collector's URL and a line for each failure; `exporting` counts and logs instead.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        exporter = CountedExporter(OTLPSpanExporter(), self._count)
        self._provider = TracerProvider(
            resource=Resource(dict(self._service)).merge(OTELResourceDetector().detect()), shutdown_on_exit=False
        )
        tracer = self._provider.get_tracer("kataven", self._version)
        if isinstance(tracer, NoOpTracer):  # OTEL_SDK_DISABLED: its spans have no ids
            return
        self._provider.add_span_processor(BoundedProcessor(exporter, self._count))
        self._tracer = tracer
        tracing.open_trace = self.open_trace

    def stop(self) -> None:
        """Send the queued spans, for at most three seconds."""
        tracing.open_trace = tracing.Trace.from_header
        provider, self._provider, self._tracer = self._provider, None, None
        if provider is not None:
            provider.shutdown()

    def begin(self, name: str, header: str | None) -> Span | None:
        """Begin the server span of a request, in the trace of its `traceparent`."""
        if self._tracer is None:
            return None
        span = self._tracer.start_span(name, context=_remote(header), kind=SpanKind.SERVER)
        _active.set(span)
        return span

    def end(self) -> None:
        """End the server span of this thread, if it has one."""
        span = _active.get()
        if span is not None:
            _active.set(None)
            span.end()

    def current(self) -> Span | None:
        """The server span of this thread."""
        return _active.get()

    def open_trace(self, header: str | None) -> tracing.Trace:
        """The trace of this thread's server span. Replaces `Trace.from_header` while spans are exported."""
        span = _active.get()
        return tracing.Trace.from_header(header) if span is None else _trace_of(span)

    @contextmanager
    def call(self, name: str, attributes: Attributes) -> Iterator[Span | None]:
        """A span of a call that the request causes. Without a recorded request, no span is created."""
        parent, tracer = _active.get(), self._tracer
        if parent is None or tracer is None or not parent.is_recording():
            yield None
            return
        context = set_span_in_context(parent, Context())
        span = tracer.start_span(name, context=context, kind=SpanKind.CLIENT, attributes=dict(attributes))
        try:
            yield span
        except BaseException as error:
            fail(span, type(error).__name__)
            raise
        finally:
            span.end()

    @contextmanager
    def outgoing(self, name: str, attributes: Attributes) -> Iterator[Span | None]:
        """As `call`, and while it runs, `tracing.current` is its span: the called service continues from it."""
        with self.call(name, attributes) as span:
            if span is None:
                yield None
                return
            before = tracing.current.set(_trace_of(span))
            try:
                yield span
            finally:
                tracing.current.reset(before)


def fail(span: Span, kind: str) -> None:
    """Mark a span as failed. `kind` is the name of a class or a code, never a message."""
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))


def _remote(header: str | None) -> Context:
    """The context of the caller's span; an empty one if the header is missing or malformed."""
    parent = tracing.Trace.parent(header)
    if parent is None:
        return Context()
    flags = TraceFlags(int(parent.flags, 16))
    remote = SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)
    return set_span_in_context(NonRecordingSpan(remote), Context())


def _trace_of(span: Span) -> tracing.Trace:
    context = span.get_span_context()
    return tracing.Trace(f"{context.trace_id:032x}", f"{context.span_id:016x}", f"{context.trace_flags & 1:02x}")
