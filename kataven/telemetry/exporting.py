"""Sends spans to the collector from a background thread, and counts those that it could not send.

A collector that is down or slow costs requests nothing: the queue is bounded, and spans that do not fit are dropped.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.environment_variables import OTEL_BSP_MAX_QUEUE_SIZE
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

EXPORTED, DROPPED = "exported", "dropped"
OUTCOMES = (EXPORTED, DROPPED)
FLUSH_SECONDS = 3.0
"""How long a stopping process waits for the collector to accept the last spans."""

Count = Callable[[str, int], None]

_log = logging.getLogger(__name__)
_DEFAULT_QUEUE = 2048  # the specification's default


class CountedExporter(SpanExporter):
    """Counts the results of another exporter, and logs when the collector becomes unreachable and reachable again."""

    def __init__(self, inner: SpanExporter, count: Count) -> None:
        self._inner = inner
        self._count = count
        self._failing = False
        self.received = 0
        """Spans that have left the queue."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.received += len(spans)
        try:
            result = self._inner.export(spans)
        except Exception as error:  # the exporter's errors can contain its URL, which can contain a password
            _log.warning("traces: the exporter failed with %s", type(error).__name__)
            result = SpanExportResult.FAILURE
        succeeded = result is SpanExportResult.SUCCESS
        self._count(EXPORTED if succeeded else DROPPED, len(spans))
        if succeeded and self._failing:
            _log.info("traces: the collector accepts spans again")
        elif not succeeded and not self._failing:
            _log.warning("traces: the collector is unreachable or rejects spans; spans are dropped")
        self._failing = not succeeded
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()


class BoundedProcessor(SpanProcessor):
    """Queues finished spans for the exporter's thread, and counts those that the queue has no capacity for."""

    def __init__(self, exporter: CountedExporter, count: Count) -> None:
        self._exporter = exporter
        self._count = count
        self._capacity = _queue_size()
        self._queued = 0
        self._lock = threading.Lock()
        self._batches = BatchSpanProcessor(exporter, max_queue_size=self._capacity)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing: a span is queued when it ends."""

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is None or not span.context.trace_flags.sampled:
            return
        with self._lock:
            full = self._queued - self._exporter.received >= self._capacity
            self._queued += not full
        if full:
            self._count(DROPPED, 1)
        else:
            self._batches.on_end(span)

    def shutdown(self) -> None:
        """Send what is queued, for at most `FLUSH_SECONDS`, so that a collector that is down does not delay a stop."""
        sending = threading.Thread(target=self._batches.shutdown, name="traces-flush", daemon=True)
        sending.start()
        sending.join(FLUSH_SECONDS)
        if sending.is_alive():
            self._exporter.shutdown()  # ends the wait before the next attempt

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._batches.force_flush(timeout_millis)


def _queue_size() -> int:
    text = os.environ.get(OTEL_BSP_MAX_QUEUE_SIZE, "")
    return int(text) if text.isdigit() and int(text) >= 512 else _DEFAULT_QUEUE  # a batch has 512 spans
