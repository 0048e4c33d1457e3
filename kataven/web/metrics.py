"""What is measured, for Prometheus, over all workers of a gunicorn master. Labels are bounded: no account, no key.

Requests, verifications and receipts are counted as they happen. What the rooms count themselves, they count as plain
numbers, and `Publisher` copies those once a second.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from kataven.ratelimit.budget import limit_names
from kataven.ratelimit.heartbeat import Heartbeat
from kataven.revocation.receipt import Channel, Receipt
from kataven.web.lookups import OUTCOMES as LOOKUP_OUTCOMES
from kataven.web.metrics_folder import FOLDER_VARIABLE, while_still
from kataven.web.server.timeouts import REASONS
from kataven.widget.capacity import LIMIT_NAMES as VISIT_LIMITS

if TYPE_CHECKING:
    from kataven.web.services import Services

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})

_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_CALL_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
_ACCOUNT_LIMITS = ("per-minute", "per-hour", "per-day", "concurrent")
_CREDENTIALS = ("api_key", "jwt")
_VERIFIED = (
    *("accepted", "invalid_credential", "expired_credential", "revoked_credential", "account_mismatch"),
    *("account_suspended", "malformed_token", "rate_limited", "unavailable"),
)


class Metrics:
    """The instruments of one process. Several may live in a process, as in tests: each has a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "Requests answered.", "surface", "method", "route", "status")
        self.request_seconds = self._histogram(
            "request_seconds", "How long requests took in the application.", _REQUEST_BUCKETS, "surface", "route"
        )
        self.problems = self._counter("problems", "Answers that were problems, by their code.", "code")
        self.verifications = self._counter(
            "verifications", "Credentials shown: `accepted`, or the code of the refusal.", "credential", "outcome"
        )
        self.sign_ins = self._counter("sign_ins", "Sign-ins, sign-outs and failed sign-ins at the Hub.", "outcome")
        self.limited = self._counter("limited", "Requests refused by a limit.", "limit")
        for name in (
            *_ACCOUNT_LIMITS,
            *(f"key-{name}" for name in _ACCOUNT_LIMITS),
            *limit_names(),
            *VISIT_LIMITS,
            "other",
        ):
            self.limited.labels(name)  # from the start, so that the first refusal is an increase
        self.credential_lookups = self._counter(
            "credential_lookups", "Credentials that no memory knew, by whether they were looked up.", "outcome"
        )
        for credential, outcome in itertools.product(_CREDENTIALS, _VERIFIED):
            self.verifications.labels(credential, outcome)
        for outcome in LOOKUP_OUTCOMES:
            self.credential_lookups.labels(outcome)
        self.connections_refused = self._counter(
            "connections_refused", "Connections that the server closed: too slow, too many, or not HTTP.", "reason"
        )
        for reason in REASONS:
            self.connections_refused.labels(reason)
        self.lookups = self._counter("cache_lookups", "Where the answer about a credential came from.", "result")
        for result in ("hit", "miss", "refusal", "bypass"):
            self.lookups.labels(result)
        self.stale_drops = self._counter("cache_stale_drops", "Answers dropped: revoked while they were fetched.")
        self.gaps = self._counter("cache_emptied", "Times that a worker forgot everything, to be on the safe side.")
        self.leases = self._live_sum("leases_confirmed", "Workers whose lease holds, so that their cache is used.")
        self.workers = self._live_sum("workers", "Workers that run.")
        self.redis = self._live_sum("redis_connected", "Workers whose subscription to revocations is connected.")
        self.renewals = self._counter("lease_renewals", "Leases confirmed by Redis.")
        self.disconnects = self._counter("redis_disconnects", "Failed connections of the subscription to Redis.")
        self.events = self._counter("revocation_events", "Revocations that workers heard of.")
        self.revocations = self._counter("revocations", "Revocations, by how the workers were told.", "told_by")
        for channel in ("redis", "notice", "split", "none"):
            self.revocations.labels(channel)
        self.intents_applied = self._counter(
            "revocation_reminders", "Revocations that were begun and not completed in time: workers act on them."
        )
        self.intents_missed = self._counter(
            "revocations_unannounced", "Revocations that could not be written down before their change was committed."
        )
        self.unacknowledged = self._counter(
            "revocation_unacknowledged_workers", "Workers whose lease was waited out, since they did not answer."
        )
        self.eviction_seconds = self._histogram(
            "revocation_eviction_seconds", "From a revocation's event to its last acknowledgement.", _CALL_BUCKETS
        )
        self.receipt_seconds = self._histogram(
            "revocation_receipt_seconds", "From the call to the receipt.", _CALL_BUCKETS
        )
        self.engines = self._live_sum("tenancy_engines", "Accounts whose engine is kept.")
        self.connections = self._live_sum("tenancy_connections", "Connections to accounts' databases.", "state")
        for state in ("in_use", "idle"):
            self.connections.labels(state)
        self.connections_limit = self._live_sum("tenancy_connections_limit", "The most that the workers may have.")
        self.breakers = self._live_sum("tenancy_open_breakers", "Databases given up on for the moment, per worker.")
        self.waits = self._counter("tenancy_waits", "Requests that queued for a connection.")
        self.wait_seconds = self._counter("tenancy_wait_seconds", "How long they queued.")
        self.builds = self._counter("tenancy_engine_builds", "Engines built.")
        self.build_seconds = self._counter("tenancy_engine_build_seconds", "How long that took.")
        self.evictions = self._counter("tenancy_engine_evictions", "Engines given up to make room.")
        self.displaced = self._counter("tenancy_connections_displaced", "Idle connections closed to make room.")
        self.cut = self._counter("tenancy_connections_cut", "Connections cut: held by a session for too long.")
        self.alone = self._live_sum("limits_degraded_workers", "Workers that limit by themselves: no Redis.")
        self.decided_locally = self._counter("limits_decided_alone", "Requests that a worker limited by itself.")
        self.times_alone = self._counter("limits_degraded", "Times that a worker began to limit by itself.")
        self.seconds_alone = self._counter("limits_degraded_seconds", "How long such times lasted, once over.")
        self.canaries = self._counter(
            "canary_rounds", "Keys minted, used on every worker, revoked and used again, once a minute.", "outcome"
        )
        for outcome in ("kept", "broken", "failed"):
            self.canaries.labels(outcome)
        self.auth_seconds = self._histogram(
            "auth_service_seconds", "Calls to the auth-service.", _CALL_BUCKETS, "method", "outcome"
        )

        self.key_fetches = self._counter(
            "issuer_key_fetches", "Fetches of the OIDC issuer's keys; none with an auth-service.", "outcome"
        )
        for outcome in ("fetched", "failed"):
            self.key_fetches.labels(outcome)
        self.stale_keys = self._counter(
            "issuer_stale_keys", "Keys used past their time, since the issuer could not be asked."
        )

    def exposition(self) -> bytes:
        """Everything, of all workers of this master, in Prometheus's text format."""
        folder = os.environ.get(FOLDER_VARIABLE)
        if not folder:
            return generate_latest(self.registry)
        everything = CollectorRegistry()
        MultiProcessCollector(everything, folder)
        with while_still(folder):
            return generate_latest(everything)

    def request(self, surface: str, method: str, route: str | None, status: int, seconds: float) -> None:
        """One request was answered. `route` is the rule that matched, never the path."""
        name = route or "none"
        self.requests.labels(surface, method if method in METHODS else "other", name, status).inc()
        self.request_seconds.labels(surface, name).observe(seconds)

    def looked_up(self, outcome: str) -> None:
        """A credential that no memory knew was looked up, or not: one of `lookups.OUTCOMES`."""
        self.credential_lookups.labels(outcome).inc()

    def receipt(self, receipt: Receipt) -> None:
        """One revocation was answered."""
        self.revocations.labels("notice" if receipt.channel is Channel.UNREACHABLE else receipt.channel).inc()
        self.unacknowledged.inc(receipt.expired)
        self.receipt_seconds.observe(receipt.ms / 1000)
        if receipt.publish_to_last_ack_ms is not None:
            self.eviction_seconds.observe(receipt.publish_to_last_ack_ms / 1000)

    def expect_auth_calls(self, methods: Iterable[str]) -> None:
        """Make the series of the usual outcomes, in a process that asks an auth-service."""
        for method, outcome in itertools.product(methods, ("answered", "deadline_exceeded", "unavailable")):
            self.auth_seconds.labels(method, outcome)

    def auth_call(self, method: str, outcome: str, seconds: float) -> None:
        """One call to the auth-service ended, as `answered` or by the name of gRPC's status."""
        self.auth_seconds.labels(method, outcome).observe(seconds)

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"kataven_{name}", what, labels, registry=self.registry)

    def _live_sum(self, name: str, what: str, *labels: str) -> Gauge:
        return Gauge(f"kataven_{name}", what, labels, registry=self.registry, multiprocess_mode="livesum")

    def _histogram(self, name: str, what: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"kataven_{name}", what, labels, registry=self.registry, buckets=buckets)


class Publisher:
    """Copies what the rooms have counted into the metrics: every second, and once more at the end."""

    def __init__(self, metrics: Metrics, services: Callable[[], Services]) -> None:
        self._metrics = metrics
        self._services = services
        self._published: dict[Counter, float] = {}
        self._pulse = Heartbeat(self.publish, "metrics")

    def start(self) -> None:
        """Begin. Call it after the fork."""
        self._pulse.start()

    def stop(self) -> None:
        """End, with everything copied. May be repeated."""
        self._pulse.stop()
        self.publish()

    def publish(self) -> None:
        """Copy what there is now."""
        services, metrics = self._services(), self._metrics
        metrics.workers.set(1)
        self._publish_revocation(services)
        self._publish_tenancy(services)
        if services.issuer_keys is not None:
            counts = services.issuer_keys.counts
            self._count(metrics.key_fetches.labels("fetched"), counts.fetched)
            self._count(metrics.key_fetches.labels("failed"), counts.failed)
            self._count(metrics.stale_keys, counts.served_stale)
        alone = services.fallback_stats
        metrics.alone.set(services.limiter.degraded)
        self._count(metrics.decided_locally, alone.requests_decided_locally)
        self._count(metrics.times_alone, alone.times_degraded)
        self._count(metrics.seconds_alone, alone.seconds_degraded)

    def _publish_revocation(self, services: Services) -> None:
        stats, status, metrics = services.revocation.stats, services.revocation.status(), self._metrics
        metrics.leases.set(status.lease_confirmed)
        metrics.redis.set(status.redis_reachable)
        self._count(metrics.lookups.labels("hit"), stats.hits)
        self._count(metrics.lookups.labels("miss"), stats.misses)
        self._count(metrics.lookups.labels("bypass"), stats.bypasses)
        self._count(metrics.lookups.labels("refusal"), stats.cached_refusals)
        self._count(metrics.stale_drops, stats.stale_drops)
        self._count(metrics.gaps, stats.gaps)
        self._count(metrics.renewals, stats.renewals)
        self._count(metrics.disconnects, stats.disconnects)
        self._count(metrics.events, stats.events)
        self._count(metrics.revocations.labels("none"), stats.unconfirmed)
        self._count(metrics.intents_applied, stats.intents_applied)
        self._count(metrics.intents_missed, stats.intents_missed)

    def _publish_tenancy(self, services: Services) -> None:
        tenancy, metrics = services.registry.metrics(), self._metrics
        metrics.engines.set(tenancy.engines)
        metrics.connections.labels("in_use").set(tenancy.connections_in_use)
        metrics.connections.labels("idle").set(tenancy.connections - tenancy.connections_in_use)
        metrics.connections_limit.set(tenancy.connections_limit)
        metrics.breakers.set(len(tenancy.open_breakers))
        self._count(metrics.waits, tenancy.waits)
        self._count(metrics.wait_seconds, tenancy.waited_seconds)
        self._count(metrics.builds, tenancy.builds)
        self._count(metrics.build_seconds, tenancy.build_seconds)
        self._count(metrics.evictions, tenancy.evictions)
        self._count(metrics.displaced, tenancy.displaced_connections)
        self._count(metrics.cut, tenancy.cut_connections)

    def _count(self, counter: Counter, total: float) -> None:
        counter.inc(max(0.0, total - self._published.get(counter, 0.0)))
        self._published[counter] = total
