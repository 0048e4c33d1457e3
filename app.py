"""The composition root: builds all objects and passes them to the packages. No package imports it.

Building opens no connections and starts no threads, so it can happen before a fork and without a network.
`Services.start()` starts a process's background work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from flask import Flask

from kataven import api, assembly, commands, logs
from kataven.account import last_used_tracker
from kataven.assembly import Foundation
from kataven.authservice import codec
from kataven.authservice.client import AuthServiceChannel, RemoteIssuer, RemoteVerifier
from kataven.authservice.tls import TlsFiles
from kataven.hub import pages_app
from kataven.hub.provider import Client, Provider
from kataven.hub.runner import Runner
from kataven.hub.session_middleware import HubServices
from kataven.hub.sessions import Sessions
from kataven.identity.fetch import HttpFetcher
from kataven.identity.issuer import Issuer
from kataven.identity.jwks import JwksClient
from kataven.identity.jwt import JwtVerifier
from kataven.identity.jwt_use import IdTokens
from kataven.identity.signing import SigningRing
from kataven.identity.verifier import Verifier
from kataven.operations.journal_replay import JournalReplayer
from kataven.ratelimit.fallback_stats import FallbackCounters
from kataven.ratelimit.limiter import Limiter, Meter
from kataven.revocation.cache import CachingVerifier
from kataven.revocation.target import EVERYTHING
from kataven.settings import Settings
from kataven.system.sessions import AccountSessions
from kataven.web import cors, hardening, health, hosts, http_conventions, paths, pipeline, problems, reference, scrape
from kataven.web.internal_access import InternalAccess
from kataven.web.lookups import MeteredVerifier
from kataven.web.metrics import Metrics
from kataven.web.request_context import client_address
from kataven.web.schema import MAX_BODY_BYTES
from kataven.web.services import BackgroundService, Services
from kataven.widget.capacity import Capacity
from kataven.widget.flows import Widget
from kataven.widget.key_guard import WidgetKeyGuard
from kataven.widget.store import WidgetStore


class SynchronousFlask(Flask):
    """A Flask app whose views and hooks are never coroutines, which saves a check per call."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


API_BLUEPRINTS = (*api.BLUEPRINTS, health.blueprint, scrape.blueprint, reference.blueprint)


def create_api(settings: Settings) -> Flask:
    """The API: `/v1`, its aliases, the health checks and the API reference."""
    return _create_flask("kataven-api", settings, build_services(settings, "api"))


def create_hub(settings: Settings) -> Flask:
    """The Hub: pages for users, and the legacy path `/hub-api/*`, in a separate process from the API."""
    return _hub(settings, build_services(settings, "hub"))


def create_app(settings: Settings) -> Flask:
    """The API and the Hub in one process, routed by the `Host` header. Returns the API's Flask app, for `flask …`."""
    services = build_services(settings, "api")
    app = _create_flask("kataven-api", settings, services)
    hub = _hub(settings, services)
    app.wsgi_app = hosts.ByHost(settings.hub_host, hub.wsgi_app, otherwise=app.wsgi_app)  # type: ignore[method-assign]
    return app


def _hub(settings: Settings, services: Services) -> Flask:
    hub = _create_flask("kataven-hub", settings, services)
    hub_services = _hub_services(settings)
    services.closers.append(hub_services.close)
    pages = pages_app.create(services, hub_services)
    hub.extensions[pages_app.PAGES] = pages
    hub.wsgi_app = paths.HubPaths(hub.wsgi_app, pages.wsgi_app)  # type: ignore[method-assign]
    return hub


def _hub_services(settings: Settings) -> HubServices:
    fetcher = HttpFetcher()
    keys = JwksClient(settings.oidc_issuer, fetcher, allow_loopback_http=settings.development)
    secret = settings.hub_client_secret
    client = Client(
        settings.hub_client_id,
        None if secret is None else secret.get_secret_value(),
        f"{settings.hub_url}/auth/callback",
        settings.hub_scopes,
    )
    access_tokens = assembly.access_tokens(settings, keys)
    return HubServices(
        url=settings.hub_url,
        api_url=settings.public_url,
        measured_url=settings.api_url,
        sessions=Sessions(settings.redis_url.get_secret_value()),
        provider=Provider(
            settings.oidc_issuer,
            client,
            JwtVerifier(keys, settings.oidc_issuer, client.id, time.time, IdTokens(client.id)),
            access_tokens,
            fetcher,
            allow_loopback_http=settings.development,
        ),
        access_tokens=access_tokens,
        api_meter=Meter(settings.redis_url.get_secret_value(), "api"),
        operators_org_id=settings.operators_org_id,
        role_claims=settings.oidc_role_claims,
        runner=Runner(Path(__file__).parent),
    )


def build_services(settings: Settings, app_name: str) -> Services:
    """The services of a process. `app_name` is `api` or `hub`; each app has its own rate limits."""
    parts = assembly.foundation(settings)
    metrics = Metrics()
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
    )


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
    metrics.create_auth_call_series((codec.VERIFY, codec.ISSUE, codec.CANDIDATES))
    tls = TlsFiles(*settings.auth_tls) if settings.auth_tls else None
    return AuthServiceChannel(settings.auth_service, tls, observe=metrics.record_auth_call)


def _store_last_used(
    sessions: AccountSessions, account: str, uses: Mapping[str, datetime], browser_uses: Mapping[str, datetime]
) -> None:
    with sessions.recording_usage(account) as session:  # a worker that is paused here must not lock a key's row
        last_used_tracker.store(session, uses)
        if browser_uses:
            last_used_tracker.store_browser_uses(session, browser_uses)


def _create_flask(name: str, settings: Settings, services: Services) -> Flask:
    logs.install()
    # No static folder: every path is declared together with its access rule.
    app = SynchronousFlask(name, static_folder=None, root_path=str(Path(__file__).parent))
    # One byte more than the limit: Flask truncates a chunked body at this length silently, and `read_body` counts.
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES + 1
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    services.attach(app)
    problems.install(app)
    hardening.install(app, settings.hub_url if name == "kataven-hub" else settings.public_url)
    pipeline.install(app)
    http_conventions.install(app)
    cors.install(app)
    for blueprint in API_BLUEPRINTS:
        app.register_blueprint(blueprint)
    reference.install(app, API_BLUEPRINTS)
    commands.install(app, settings)
    app.wsgi_app = paths.Aliases(app.wsgi_app)  # type: ignore[method-assign]
    return app
