"""The metrics of `kataven events poll`, a separate process, and the server that publishes them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from flask import Request
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from kataven.people.poller import MAX_BACKOFF_SECONDS, WAIT_SECONDS, PollCounts
from kataven.people.receiver import EVENT_OUTCOMES
from kataven.web.internal_access import InternalAccess
from kataven.web.metrics import CONTENT_TYPE

HEALTHY_SECONDS = 3 * (WAIT_SECONDS + MAX_BACKOFF_SECONDS)
"""`/healthz` fails if the transmitter did not respond for this long."""


class PollMetrics:
    """`count` is for the receiver; the other metrics are read from the counts of the poller."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock
        self._started_at = clock()
        self._counts = PollCounts()
        self._events = Counter(
            "kataven_security_events",
            "Security events of the identity provider, by what was done.",
            ("event", "outcome"),
            registry=self.registry,
        )
        for event, outcome in EVENT_OUTCOMES:
            self._events.labels(event, outcome)
        self.registry.register(_PollCollector(lambda: self._counts))

    def count(self, event: str, outcome: str) -> None:
        """Count an event and what was done."""
        self._events.labels(event, outcome).inc()

    def watch(self, counts: PollCounts) -> None:
        """Publish the counts of this poller."""
        self._counts = counts

    def serve(self, address: tuple[str, int], access: InternalAccess) -> WSGIServer:
        """Serve `/metrics` and `/healthz` in a thread. Raises OSError if the address can't be used."""
        family = WSGIServer6 if ":" in address[0] else WSGIServer
        server = make_server(*address, self._application(access), server_class=family, handler_class=_QuietHandler)
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
        return server

    def is_healthy(self) -> bool:
        """Whether the transmitter responded recently, or the process started recently."""
        return self._clock() - (self._counts.succeeded_at or self._started_at) < HEALTHY_SECONDS

    def _application(self, access: InternalAccess) -> Callable[[dict[str, Any], Any], Iterable[bytes]]:
        def respond(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            request = Request(environ)
            status, kind, body = "404 Not Found", "text/plain; charset=utf-8", b""
            if request.path == "/healthz":
                healthy = self.is_healthy()
                status, body = ("200 OK", b"ok\n") if healthy else ("503 Service Unavailable", b"unavailable\n")
            elif request.path == "/metrics" and not access.allows_bearer(request):
                status, body = "403 Forbidden", b"Send KATAVEN_METRICS_TOKEN as a bearer token.\n"
            elif request.path == "/metrics":
                status, kind, body = "200 OK", CONTENT_TYPE, generate_latest(self.registry)
            start_response(status, [("Content-Type", kind), ("Cache-Control", "no-store")])
            return [body]

        return respond


class WSGIServer6(WSGIServer):
    """The same for an IPv6 address."""

    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    """Does not log requests, and does not wait for slow clients."""

    timeout = 5

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        pass


class _PollCollector(Collector):
    def __init__(self, counts: Callable[[], PollCounts]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        counts = self._counts()
        polls = CounterMetricFamily(
            "kataven_event_polls", "Polls for security events, by the transmitter's response.", labels=["outcome"]
        )
        for outcome, number in counts.polls.items():
            polls.add_metric([outcome], number)
        yield polls
        yield CounterMetricFamily(
            "kataven_event_poll_refused", "Security events that were refused, and reported.", value=counts.refused
        )
        yield GaugeMetricFamily(
            "kataven_event_poll_pending",
            "Security events of the latest delivery that could not be applied, and will be delivered again.",
            value=counts.pending,
        )
        yield GaugeMetricFamily(
            "kataven_event_poll_last_success_timestamp_seconds",
            "When the transmitter last responded.",
            value=counts.succeeded_at or 0,
        )
