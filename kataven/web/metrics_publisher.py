"""Copies the numbers that other packages count into the Prometheus metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter

from kataven.background import BackgroundLoop, jittered
from kataven.ratelimit.fallback_stats import FallbackCounters
from kataven.ratelimit.limiter import Limiter
from kataven.revocation.revocation import Revocation
from kataven.tenancy.serving.histories import ServerHistories
from kataven.tenancy.serving.registry import EngineRegistry
from kataven.web.metrics import Metrics

if TYPE_CHECKING:
    from kataven.identity.jwks import JwksClient

INTERVAL_SECONDS = 1.0


class MetricsPublisher:
    """Copies the counters of one process into `metrics` at least once per second, and once more at shutdown."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        revocation: Revocation,
        histories: ServerHistories,
        registry: EngineRegistry,
        limiter: Limiter,
        fallback_stats: FallbackCounters,
        issuer_keys: JwksClient | None,
    ) -> None:
        self._metrics = metrics
        self._revocation = revocation
        self._histories = histories
        self._registry = registry
        self._limiter = limiter
        self._fallback_stats = fallback_stats
        self._issuer_keys = issuer_keys
        self._published: dict[Counter, float] = {}
        self._thread = BackgroundLoop("metrics", self.publish, jittered(INTERVAL_SECONDS))

    def start(self) -> None:
        """Start the background thread. Call it after the fork."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the background thread and publish the final values. Idempotent."""
        self._thread.stop()
        self.publish()

    def publish(self) -> None:
        """Publish the current values."""
        metrics, stats = self._metrics, self._fallback_stats
        metrics.workers.set(1)
        self._publish_revocation()
        self._publish_tenancy()
        if self._issuer_keys is not None:
            counts = self._issuer_keys.counts
            self._count(metrics.key_fetches.labels("fetched"), counts.fetched)
            self._count(metrics.key_fetches.labels("failed"), counts.failed)
            self._count(metrics.stale_keys, counts.served_stale)
        metrics.degraded_workers.set(self._limiter.degraded)
        self._count(metrics.decided_locally, stats.requests_decided_locally)
        self._count(metrics.times_degraded, stats.times_degraded)
        self._count(metrics.seconds_degraded, stats.seconds_degraded)

    def _publish_revocation(self) -> None:
        stats, status, metrics = self._revocation.stats, self._revocation.status(), self._metrics
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
        self._count(metrics.journal_missed, stats.journal_missed)

    def _publish_tenancy(self) -> None:
        tenancy, metrics = self._registry.metrics(), self._metrics
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
        self._count(metrics.timeline_changes, self._histories.changes)

    def _count(self, counter: Counter, total: float) -> None:
        counter.inc(max(0.0, total - self._published.get(counter, 0.0)))
        self._published[counter] = total
