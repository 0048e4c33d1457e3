"""The Prometheus metrics of all workers of a gunicorn master. Labels have bounded values: no account, no key.

Requests, verifications and receipts are counted as they happen. Other packages count in plain numbers, which
`metrics_publisher` copies into these metrics once a second.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from kataven.people.confirmations import INTROSPECTION_OUTCOMES
from kataven.people.receiver import EVENT_OUTCOMES
from kataven.ratelimit.budget import limit_names
from kataven.ratelimit.policy import LIMIT_FIELDS
from kataven.revocation.receipt import Channel, Receipt
from kataven.web.lookups import OUTCOMES as LOOKUP_OUTCOMES
from kataven.web.metrics_folder import FOLDER_VARIABLE, read_lock
from kataven.web.server.timeouts import REASONS
from kataven.widget.capacity import LIMIT_NAMES as VISIT_LIMITS

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})

_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_CALL_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
_ACCOUNT_LIMITS = tuple(limit.quota for limit in LIMIT_FIELDS)
_CREDENTIALS = ("api_key", "jwt")
_VERIFIED = (
    *("accepted", "invalid_credential", "expired_credential", "revoked_credential", "account_mismatch"),
    *(
        "rotated_credential",
        "paused_credential",
        "credential_not_yet_valid",
        "address_not_allowed",
        "browser_use",
        "account_suspended",
        "session_ended",
        "access_blocked",
    ),
    *("malformed_token", "rate_limited", "unavailable"),
)
_GATEWAY_OUTCOMES = (
    *_VERIFIED,
    *("missing_credential", "not_a_credential", "missing_account", "invalid_account", "reserved_account"),
    *("insufficient_scope", "schema_mismatch", "gateway_misconfigured", "internal_error"),
)


class Metrics:
    """The metrics of one process. Each instance has its own registry, so that tests can create several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "Requests served.", "surface", "method", "route", "status")
        self.request_seconds = self._histogram(
            "request_seconds", "Time that requests spent in the application.", _REQUEST_BUCKETS, "surface", "route"
        )
        self.problems = self._counter("problems", "Problem responses, by problem code.", "code")
        self.verifications = self._counter(
            "verifications",
            "Credentials presented: `accepted`, or the problem code of the refusal.",
            "credential",
            "outcome",
        )
        self.sign_ins = self._counter("sign_ins", "Sign-ins, sign-outs and failed sign-ins at the Hub.", "outcome")
        self.limited = self._counter("limited", "Requests rejected by a limit.", "limit")
        for name in (
            *_ACCOUNT_LIMITS,
            *(f"key-{name}" for name in _ACCOUNT_LIMITS),
            *limit_names(),
            *VISIT_LIMITS,
            "other",
        ):
            self.limited.labels(name)  # create the series at startup, so that the first rejection is an increase
        self.credential_lookups = self._counter(
            "credential_lookups", "Credentials that were not cached, by whether the worker looked them up.", "outcome"
        )
        # Finding a series by its labels costs as much as everything else that is measured in a request.
        self._verifications = {
            labels: self.verifications.labels(*labels) for labels in itertools.product(_CREDENTIALS, _VERIFIED)
        }
        self._request_series: dict[tuple[str, str, str, int], tuple[Counter, Histogram]] = {}
        self.gateway_decisions = self._counter(
            "gateway_decisions", "Responses to gateways (`/v1/verify`): `accepted`, or the problem code.", "outcome"
        )
        self._gateway_decisions = {outcome: self.gateway_decisions.labels(outcome) for outcome in _GATEWAY_OUTCOMES}
        self.security_events = self._counter(
            "security_events", "Security events of the identity provider, by what was done.", "event", "outcome"
        )
        for event, outcome in EVENT_OUTCOMES:
            self.security_events.labels(event, outcome)
        self.introspections = self._counter(
            "introspections",
            "Introspections of JWTs, by the issuer's response; JWTs accepted or refused while it was silent.",
            "outcome",
        )
        for outcome in INTROSPECTION_OUTCOMES:
            self.introspections.labels(outcome)
        for outcome in LOOKUP_OUTCOMES:
            self.credential_lookups.labels(outcome)
        self.connections_refused = self._counter(
            "connections_refused",
            "Connections that the server closed: too slow, too many, not HTTP, or overloaded.",
            "reason",
        )
        for reason in REASONS:
            self.connections_refused.labels(reason)
        self.lookups = self._counter("cache_lookups", "Credential cache lookups, by result.", "result")
        for result in ("hit", "miss", "refusal", "bypass"):
            self.lookups.labels(result)
        self.stale_drops = self._counter(
            "cache_stale_drops", "Results not cached because they were revoked while they were fetched."
        )
        self.gaps = self._counter("cache_emptied", "Times that a worker emptied its cache as a precaution.")
        self.leases = self._live_sum(
            "leases_confirmed", "Workers that hold a valid lease and therefore use their cache."
        )
        self.workers = self._live_sum("workers", "Running workers.")
        self.redis = self._live_sum("redis_connected", "Workers whose subscription to revocations is connected.")
        self.renewals = self._counter("lease_renewals", "Lease renewals that Redis confirmed.")
        self.disconnects = self._counter(
            "redis_disconnects", "Failed connections of the revocation subscription to Redis."
        )
        self.events = self._counter("revocation_events", "Revocation events that workers received.")
        self.revocations = self._counter(
            "revocations", "Revocations, by the channel that notified the workers.", "channel"
        )
        for channel in ("redis", "notice", "split", "none"):
            self.revocations.labels(channel)
        self.intents_applied = self._counter(
            "revocation_reminders",
            "Revocation intents that were not completed in time, counted by each worker that acted on them.",
        )
        self.intents_missed = self._counter(
            "revocations_unannounced",
            "Revocations whose intent could not be recorded before their change was committed.",
        )
        self.journal_missed = self._counter(
            "revocations_unjournalled",
            "Revocations whose key could not be recorded in the revocation journal before the receipt.",
        )
        self.unacknowledged = self._counter(
            "revocation_unacknowledged_workers",
            "Workers that did not acknowledge, so that the revocation waited for their lease to expire.",
        )
        self.eviction_seconds = self._histogram(
            "revocation_eviction_seconds", "Time from a revocation's event to its last acknowledgement.", _CALL_BUCKETS
        )
        self.receipt_seconds = self._histogram(
            "revocation_receipt_seconds", "Time from the call to the receipt.", _CALL_BUCKETS
        )
        self.engines = self._live_sum("tenancy_engines", "Accounts with an open database engine.")
        self.connections = self._live_sum("tenancy_connections", "Connections to account databases.", "state")
        for state in ("in_use", "idle"):
            self.connections.labels(state)
        self.connections_limit = self._live_sum(
            "tenancy_connections_limit", "Maximum number of connections that the workers may open."
        )
        self.breakers = self._live_sum(
            "tenancy_open_breakers", "Account databases with an open circuit breaker, counted per worker."
        )
        self.waits = self._counter("tenancy_waits", "Requests that queued for a connection.")
        self.wait_seconds = self._counter("tenancy_wait_seconds", "Total time that they queued.")
        self.builds = self._counter("tenancy_engine_builds", "Engines created.")
        self.build_seconds = self._counter("tenancy_engine_build_seconds", "Total time spent creating engines.")
        self.evictions = self._counter("tenancy_engine_evictions", "Engines evicted to stay within the limit.")
        self.displaced = self._counter(
            "tenancy_connections_displaced", "Idle connections closed to free a connection for another account."
        )
        self.cut = self._counter(
            "tenancy_connections_cut", "Connections closed because a session held them for too long."
        )
        self.timeline_changes = self._counter(
            "database_timeline_changes",
            "Times that a worker found a database server on another timeline, for example after a failover.",
        )
        self.degraded_workers = self._live_sum(
            "limits_degraded_workers", "Workers that use the local fallback for limits because Redis is unavailable."
        )
        self.decided_locally = self._counter("limits_decided_alone", "Requests that a worker limited locally.")
        self.times_degraded = self._counter("limits_degraded", "Times that a worker fell back to local limits.")
        self.seconds_degraded = self._counter(
            "limits_degraded_seconds", "Total duration of local fallback periods, added when a period ends."
        )
        self.usage = self._counter(
            "usage_requests",
            "Requests of known accounts: `recorded` in memory, and then `stored` in the account's database, `dropped` "
            "or `unmigrated`. What remains of a worker that has exited is lost.",
            "outcome",
        )
        for outcome in ("recorded", "stored", "dropped", "unmigrated"):
            self.usage.labels(outcome)
        self.canaries = self._counter(
            "canary_rounds",
            "Canary rounds, one per minute: create a key, use it on every worker, revoke it, use it again.",
            "outcome",
        )
        for outcome in ("kept", "broken", "failed"):
            self.canaries.labels(outcome)
        self.auth_seconds = self._histogram(
            "auth_service_seconds", "Duration of calls to the auth-service.", _CALL_BUCKETS, "method", "outcome"
        )

        self.spans = self._counter("spans", "Spans of traces, by whether the collector accepted them.", "outcome")
        for outcome in ("exported", "dropped"):
            self.spans.labels(outcome)
        self.key_fetches = self._counter(
            "issuer_key_fetches", "Fetches of the OIDC issuer's keys; none with an auth-service.", "outcome"
        )
        for outcome in ("fetched", "failed"):
            self.key_fetches.labels(outcome)
        self.stale_keys = self._counter(
            "issuer_stale_keys", "Uses of an issuer key past its expiry because the issuer could not be reached."
        )

    def exposition(self) -> bytes:
        """All metrics of all workers of this master, in Prometheus's text format."""
        folder = os.environ.get(FOLDER_VARIABLE)
        if not folder:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, folder)
        with read_lock(folder):
            return generate_latest(registry)

    def record_request(self, surface: str, method: str, route: str | None, status: int, seconds: float) -> None:
        """Record a finished request. `route` is the URL rule that matched, never the path."""
        key = surface, method if method in METHODS else "other", route or "none", status
        series = self._request_series.get(key)
        if series is None:
            found = self.requests.labels(*key), self.request_seconds.labels(surface, key[2])
            series = self._request_series.setdefault(key, found)
        series[0].inc()
        series[1].observe(seconds)

    def record_verification(self, credential: str, outcome: str) -> None:
        """Record a presented credential: `accepted`, or the problem code of the refusal."""
        series = self._verifications.get((credential, outcome))
        (series or self.verifications.labels(credential, outcome)).inc()

    def record_gateway_decision(self, outcome: str) -> None:
        """Record a response to a gateway: `accepted`, or the problem code."""
        series = self._gateway_decisions.get(outcome)
        (series or self.gateway_decisions.labels(outcome)).inc()

    def record_lookup(self, outcome: str) -> None:
        """Record whether a credential that was not cached was looked up: one of `lookups.OUTCOMES`."""
        self.credential_lookups.labels(outcome).inc()

    def record_introspection(self, outcome: str) -> None:
        """Record one of `INTROSPECTION_OUTCOMES`."""
        self.introspections.labels(outcome).inc()

    def record_receipt(self, receipt: Receipt) -> None:
        """Record the receipt of a revocation."""
        self.revocations.labels("notice" if receipt.channel is Channel.UNREACHABLE else receipt.channel).inc()
        self.unacknowledged.inc(receipt.expired)
        self.receipt_seconds.observe(receipt.ms / 1000)
        if receipt.publish_to_last_ack_ms is not None:
            self.eviction_seconds.observe(receipt.publish_to_last_ack_ms / 1000)

    def create_auth_call_series(self, methods: Iterable[str]) -> None:
        """Create the series of the usual outcomes, in a process that uses an auth-service."""
        for method, outcome in itertools.product(methods, ("answered", "deadline_exceeded", "unavailable")):
            self.auth_seconds.labels(method, outcome)

    def record_auth_call(self, method: str, outcome: str, seconds: float) -> None:
        """Record a call to the auth-service: `answered`, or the name of the gRPC status."""
        self.auth_seconds.labels(method, outcome).observe(seconds)

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"kataven_{name}", help_text, labels, registry=self.registry)

    def _live_sum(self, name: str, help_text: str, *labels: str) -> Gauge:
        return Gauge(f"kataven_{name}", help_text, labels, registry=self.registry, multiprocess_mode="livesum")

    def _histogram(self, name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"kataven_{name}", help_text, labels, registry=self.registry, buckets=buckets)
