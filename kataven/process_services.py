"""Builds the services of one process that handles requests: of the API, the Hub, or an application that embeds Kataven.

Building opens no connections and starts no threads. `Services.start()` starts a process's background work.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from flask import Flask, g

from kataven import assembly
from kataven.account import last_used_tracker
from kataven.assembly import Foundation
from kataven.identity.issuer import Issuer
from kataven.identity.signing import SigningRing
from kataven.identity.verifier import Verifier
from kataven.operations.journal_replay import JournalReplayer
from kataven.ratelimit.fallback_stats import FallbackCounters
from kataven.ratelimit.limiter import Limiter
from kataven.revocation.cache import CachingVerifier
from kataven.revocation.target import EVERYTHING
from kataven.settings import Settings
from kataven.system.sessions import AccountSessions
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


def build_services(settings: Settings, app_name: str) -> Services:
    """The services of a process. `app_name` is `api` or `hub`; each app has its own rate limits."""
    metrics = Metrics()
    # Before the clients of Redis are created, which keep references to their own methods.
    traces = _traces(settings, f"kataven-{app_name}", metrics)
    parts = assembly.foundation(settings)
    parts.revocation.canary.subscribe(metrics.record_receipt)
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

        verifier, issuer = RemoteVerifier(auth_service), RemoteIssuer(auth_service)
    last_used = last_used_tracker.LastUsedTracker(partial(_store_last_used, parts.sessions))
    # A worker acknowledges a key's revocation only after it has stored the key's first use on this worker, if any, so
    # that the revoking process can tell whether the key was ever used. This waits up to 50 ms, only at a first use.
    parts.revocation.subscribe(
        lambda target: last_used.wait_until_written(target.key_id) if target.key_id or target == EVERYTHING else None,
    )
    fallback_stats = FallbackCounters()
    limiter = Limiter.at(
        settings.redis_url.get_secret_value(), app=app_name, workers=settings.workers, stats=fallback_stats
    )
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
        metrics=metrics,
        auth_service=auth_service,
        issuer_keys=issuer_keys,
        internal_access=InternalAccess(
            None if metrics_token is None else metrics_token.get_secret_value(), trust_loopback=settings.development
        ),
        traces=traces,
        security_contact=_security_contact(settings),
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


def _store_last_used(sessions: AccountSessions, account: str, uses: Mapping[str, datetime]) -> None:
    with sessions.recording_usage(account) as session:  # a worker that is paused here must not lock a key's row
        last_used_tracker.store(session, uses)
