"""Builds the services of one process that handles requests: of the API, the Hub, or an application that embeds Kataven.

Building opens no connections and starts no threads. `Services.start()` starts a process's background work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING

from flask import Flask, g
from sqlalchemy.orm import configure_mappers

from kataven import assembly
from kataven.account import last_used_tracker, rotation
from kataven.account import people as seen_people
from kataven.account.last_used_tracker import Uses
from kataven.account.people import SeenPeopleTracker, Sighting
from kataven.assembly import Foundation
from kataven.identity.issuer import Issuer
from kataven.identity.issuer_connection import IssuerConnection
from kataven.identity.scopes import KnownScopes
from kataven.identity.signing import SigningRing
from kataven.identity.verifier import Verifier
from kataven.operations.journal_replay import JournalReplayer
from kataven.people.access import PeopleAccess
from kataven.people.confirmations import Bound, Confirmations, ConfirmingVerifier
from kataven.ratelimit.fallback_stats import FallbackCounters
from kataven.ratelimit.limiter import Limiter
from kataven.revocation.cache import CachingVerifier
from kataven.revocation.revocation import Revocation
from kataven.revocation.target import EVERYTHING, RevocationTarget
from kataven.settings import OnOff, Settings
from kataven.system.response_history import ResponseHistory
from kataven.system.revocation_history import RevocationHistory
from kataven.system.sessions import AccountSessions
from kataven.usage import refused_origins
from kataven.usage import store as usage_store
from kataven.usage.pending import Batch
from kataven.usage.policy import UsagePolicy
from kataven.usage.recorder import UsageRecorder
from kataven.usage.refused_origins import Counts, RefusedOrigins
from kataven.web import observe
from kataven.web.internal_access import InternalAccess
from kataven.web.lookups import MeteredVerifier
from kataven.web.metrics import Metrics
from kataven.web.request_context import client_address
from kataven.web.services import BackgroundService, SecurityContact, Services, TraceExport
from kataven.widget.capacity import Capacity
from kataven.widget.flows import Widget
from kataven.widget.key_guard import WidgetKeyGuard
from kataven.widget.store import WidgetStore

if TYPE_CHECKING:
    from kataven.authservice.client import AuthServiceChannel
    from kataven.people.receiver import SecurityEventReceiver


def build_services(settings: Settings, app_name: str) -> Services:
    """The services of a process. `app_name` is `api` or `hub`; each app has its own rate limits."""
    metrics = Metrics()
    # Before the clients of Redis are created, which keep references to their own methods.
    traces = _traces(settings, f"kataven-{app_name}", metrics)
    parts = assembly.foundation(settings)
    parts.revocation.canary.subscribe(metrics.record_receipt)
    history = RevocationHistory(parts.directory.database)
    parts.revocation.canary.subscribe(history.record)
    auth_service = _auth_service(settings, metrics)
    verifier: Verifier
    issuer: Issuer
    issuer_keys = None
    if auth_service is None:
        issuer_keys = assembly.issuer_keys(settings)
        verifier = assembly.local_verifier(settings, parts, issuer_keys)
        issuer = assembly.local_issuer(settings)
    else:  # this process has no peppers
        from kataven.authservice.client import RemoteIssuer, RemoteVerifier  # loads gRPC

        verifier, issuer = RemoteVerifier(auth_service, parts.directory.version), RemoteIssuer(auth_service)
    last_used = last_used_tracker.LastUsedTracker(partial(_store_last_used, parts.sessions, parts.revocation))
    # A worker acknowledges a key's revocation only after it has stored the key's first use on this worker, if any, so
    # that the revoking process can tell whether the key was ever used. This waits up to 50 ms, only at a first use.
    parts.revocation.subscribe(
        lambda target: last_used.wait_until_written(target.key_id) if target.key_id or target == EVERYTHING else None,
    )
    fallback_stats = FallbackCounters()
    limiter = Limiter.at(
        settings.redis_url.get_secret_value(), app=app_name, workers=settings.workers, stats=fallback_stats
    )
    confirmations = _confirmations(settings, parts, metrics)
    if confirmations is not None:
        verifier = ConfirmingVerifier(verifier, confirmations)
    metered = MeteredVerifier(verifier, limiter.addresses, client_address, metrics.record_lookup)
    metrics_token = settings.metrics_token
    replayer = JournalReplayer(parts.directory.database, parts.sessions, parts.revocation, parts.histories)
    return Services(
        trusted_proxies=settings.trusted_proxies,
        directory=parts.directory,
        registry=parts.registry,
        verifier=CachingVerifier(metered, parts.revocation.guard),
        issuer=issuer,
        limiter=limiter,
        fallback_stats=fallback_stats,
        revocation=parts.revocation,
        histories=parts.histories,
        journal_replay=BackgroundService("journal replay", replayer.start, replayer.stop),
        last_used=last_used,
        widget=_widget(settings, parts, issuer),
        people=PeopleAccess(parts.directory.database, parts.revocation, settings.oidc_issuer),
        confirmations=confirmations,
        people_seen=SeenPeopleTracker(partial(_store_people, parts.sessions, settings.oidc_issuer)),
        metrics=metrics,
        usage=_usage(settings, parts, metrics),
        response_history=ResponseHistory(parts.directory.database),
        refused_origins=None if settings.usage is OnOff.OFF else RefusedOrigins(_RefusalStore(parts.sessions)),
        revocation_history=BackgroundService("revocation history", history.start, history.stop),
        auth_service=auth_service,
        issuer_keys=issuer_keys,
        internal_access=InternalAccess(
            None if metrics_token is None else metrics_token.get_secret_value(), trust_loopback=settings.development
        ),
        traces=traces,
        security_contact=_security_contact(settings),
        scopes=KnownScopes(settings.scopes),
        closers=[] if confirmations is None else [confirmations.close],
        before_fork=[configure_mappers],
    )


def _confirmations(settings: Settings, parts: Foundation, metrics: Metrics) -> Confirmations | None:
    if settings.oidc_introspection_seconds is None:
        return None
    from kataven.identity.fetch import HttpFetcher
    from kataven.people.introspection import Introspector

    connection = assembly.issuer_connection(settings)
    introspector = Introspector(
        settings.oidc_issuer,
        assembly.introspection_client(settings),
        HttpFetcher(connection),
        connection.client_options(),
        allow_loopback_http=settings.development,
    )
    bound = Bound(settings.oidc_introspection_seconds, settings.oidc_introspection_grace_seconds)
    count = metrics.record_introspection
    return Confirmations(introspector, parts.revocation.guard, bound, count)


def event_receiver(
    settings: Settings, people: PeopleAccess, count: Callable[[str, str], None]
) -> SecurityEventReceiver:
    """The receiver of security event tokens. Raises RuntimeError if no audience is configured.

    `count` is called with each event's type and what was done. The caller closes `replays`.
    """
    if settings.events_audience is None:
        raise RuntimeError("KATAVEN_EVENTS_AUDIENCE is not set")
    from kataven.identity.fetch import HttpFetcher
    from kataven.identity.jwks import JwksClient
    from kataven.people.receiver import SecurityEventReceiver
    from kataven.people.replays import Replays
    from kataven.people.signed_events import SignedEvents

    issuer = settings.events_issuer or settings.oidc_issuer
    # The connection to the OIDC issuer may have its own authorities and proxy; another transmitter does not.
    connection = assembly.issuer_connection(settings) if issuer == settings.oidc_issuer else IssuerConnection()
    keys = JwksClient(issuer, HttpFetcher(connection), allow_loopback_http=settings.development)
    return SecurityEventReceiver(
        SignedEvents(keys, issuer, settings.events_audience, time.time),
        issuer,
        people,
        Replays(settings.redis_url.get_secret_value()),
        count,
    )


class _UsageStore:
    """The databases of the accounts, for the usage recorder."""

    def __init__(self, sessions: AccountSessions, policy: UsagePolicy) -> None:
        self._sessions = sessions
        self._policy = policy

    def write(self, account: str, batch: Batch) -> None:
        with self._sessions.recording_usage(account) as session:
            usage_store.write(session, batch)

    def trim(self, account: str) -> bool:
        with self._sessions.recording_usage(account) as session:
            return usage_store.trim(session, self._policy)


class _RefusalStore:
    """The databases of the accounts, for the refused origins."""

    def __init__(self, sessions: AccountSessions) -> None:
        self._sessions = sessions

    def write(self, account: str, counts: Counts) -> None:
        with self._sessions.recording_usage(account) as session:
            refused_origins.write(session, counts)


def _usage(settings: Settings, parts: Foundation, metrics: Metrics) -> UsageRecorder | None:
    if settings.usage is OnOff.OFF:
        return None
    policy = UsagePolicy(settings.usage_days, settings.request_log_hours, settings.request_log_successes)
    return UsageRecorder(
        _UsageStore(parts.sessions, policy),
        policy,
        lambda outcome, calls: metrics.usage.labels(outcome).inc(calls),
        recorded=metrics.usage.labels("recorded").inc,
    )


def _traces(settings: Settings, service: str, metrics: Metrics) -> TraceExport | None:
    telemetry = assembly.telemetry(settings, service, lambda outcome, n: metrics.spans.labels(outcome).inc(n))
    if telemetry is None:
        return None
    from kataven.telemetry import instruments  # loads OpenTelemetry

    def install(app: Flask) -> None:
        instruments.flask(app, telemetry, lambda: observe.span_attributes(g.get("kataven")))

    return TraceExport(BackgroundService("traces", telemetry.start, telemetry.stop), install)


def _security_contact(settings: Settings) -> SecurityContact | None:
    if settings.security_contact is None:
        return None
    return SecurityContact(settings.security_contact, settings.security_policy, (settings.public_url, settings.hub_url))


def _widget(settings: Settings, parts: Foundation, issuer: Issuer) -> Widget:
    keys = settings.widget_signing_keys
    return Widget(
        key_guard=WidgetKeyGuard(parts.directory, parts.registry, issuer),
        store=WidgetStore(settings.redis_url.get_secret_value()),
        ring=SigningRing.parse(keys.get_secret_value()) if keys else None,
        public_url=settings.public_url,
        voice_url=settings.voice_url,
        capacity=Capacity(settings.widget_visits, settings.widget_account_visits),
    )


def _auth_service(settings: Settings, metrics: Metrics) -> AuthServiceChannel | None:
    if settings.auth_service is None:
        return None
    from kataven.authservice import codec
    from kataven.authservice.client import AuthServiceChannel
    from kataven.authservice.tls import TlsFiles

    metrics.create_auth_call_series((codec.VERIFY, codec.ISSUE, codec.CANDIDATES))
    tls = TlsFiles(*settings.auth_tls) if settings.auth_tls else None
    return AuthServiceChannel(settings.auth_service, tls, observe=metrics.record_auth_call)


def _store_last_used(sessions: AccountSessions, revocation: Revocation, account: str, uses: Uses) -> None:
    # Before the commit, so that workers evict the former secrets even if this process dies: see `Revocation`.
    targets = [RevocationTarget(account, key_id) for key_id in sorted(set(uses.completed.values()))]
    intents = [revocation.write_intent(target) for target in targets]
    with sessions.recording_usage(account) as session:  # a worker that is paused here must not lock a key's row
        last_used_tracker.store(session, uses.keys)
        if uses.by_browsers:
            last_used_tracker.store_browser_uses(session, uses.by_browsers)
        if uses.completed:
            rotation.start_grace(session, uses.completed)
        if uses.late:
            rotation.store_late_uses(session, uses.late)
    for intent in intents:
        # Workers have cached the former secret without an end. This thread must not wait for a receipt: a worker
        # acknowledges a key only after this thread has stored its first use.
        revocation.announce(intent.target)


def _store_people(sessions: AccountSessions, issuer: str, account: str, seen: Collection[Sighting]) -> None:
    with sessions.recording_usage(account) as session:
        seen_people.store(session, issuer, seen)
