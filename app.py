"""Where the house is put together: every collaborator is built here and handed to the rooms. Nothing imports it back.

Building connects to nothing and starts nothing, so that it may happen before a fork and without a network;
`Services.start()` begins the work of a process.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from pathlib import Path

from flask import Flask

from kataven import api, commands
from kataven.account import last_used
from kataven.account.key_store import SqlKeyStore
from kataven.identity.fetch import HttpFetcher
from kataven.identity.issuer import LocalIssuer
from kataven.identity.jwks import JwksClient
from kataven.identity.jwt import JwtVerifier
from kataven.identity.peppers import PepperRing
from kataven.identity.verifier import LocalVerifier
from kataven.ratelimit.limiter import Limiter
from kataven.revocation.cache import CachingVerifier
from kataven.revocation.revocation import Revocation
from kataven.settings import Settings
from kataven.system.database import SystemDatabase
from kataven.system.directory import Directory
from kataven.system.sessions import AccountSessions
from kataven.tenancy.limits import Limits as RegistryLimits
from kataven.tenancy.registry import EngineRegistry
from kataven.web import health, hosts, logs, paths, pipeline, problems, reference
from kataven.web.schema import MAX_BODY_BYTES
from kataven.web.services import Services

API_ROOMS = (*api.ROOMS, health.room, reference.room)


def create_api(settings: Settings) -> Flask:
    """The API: `/v1`, its aliases, and what load balancers and readers of the reference ask for."""
    return _surface("kataven-api", settings, build_services(settings, "api"))


def create_hub(settings: Settings) -> Flask:
    """The Hub: today the legacy path `/hub-api/*`, served apart from the API."""
    hub = _surface("kataven-hub", settings, build_services(settings, "hub"))
    hub.wsgi_app = paths.OnlyHubPaths(hub.wsgi_app)  # type: ignore[method-assign]
    return hub


def create_app(settings: Settings) -> Flask:
    """Both in one process, told apart by the `Host` header. It is the API's Flask object, so `flask …` works on it."""
    services = build_services(settings, "api")
    app = _surface("kataven-api", settings, services)
    hub = _surface("kataven-hub", settings, services)
    hub.wsgi_app = paths.OnlyHubPaths(hub.wsgi_app)  # type: ignore[method-assign]
    app.wsgi_app = hosts.ByHost(settings.hub_host, hub.wsgi_app, otherwise=app.wsgi_app)  # type: ignore[method-assign]
    return app


def build_services(settings: Settings, surface: str) -> Services:
    """Every collaborator of a process. Each `surface` has rate limits of its own."""
    revocation = Revocation(settings.redis_url.get_secret_value(), lease_seconds=settings.lease_seconds)
    directory = Directory(SystemDatabase(settings.database_url.get_secret_value()), revocation.guard)
    registry = EngineRegistry(
        RegistryLimits(
            engines=settings.registry_engines,
            connections=settings.registry_connections,
            connections_per_account=settings.account_connections,
        )
    )
    sessions = AccountSessions(directory, registry)
    peppers = PepperRing.parse(settings.peppers.get_secret_value())
    verifier = LocalVerifier(
        directory,
        SqlKeyStore(sessions.reading, sessions.writing),
        peppers,
        _jwt_verifier(settings),
        settings.oidc_role_claims,
    )
    return Services(
        trusted_proxies=settings.trusted_proxies,
        directory=directory,
        registry=registry,
        verifier=CachingVerifier(verifier, revocation.guard),
        issuer=LocalIssuer(peppers),
        limiter=Limiter.at(settings.redis_url.get_secret_value(), surface=surface),
        revocation=revocation,
        last_used=last_used.LastUsed(partial(_store_last_used, sessions)),
    )


def _store_last_used(sessions: AccountSessions, account: str, uses: Mapping[str, datetime]) -> None:
    with sessions.writing(account) as session:
        last_used.store(session, uses)


def _jwt_verifier(settings: Settings) -> JwtVerifier:
    keys = JwksClient(settings.oidc_issuer, HttpFetcher(), allow_loopback_http=settings.development)
    return JwtVerifier(keys, settings.oidc_issuer, settings.oidc_audience, time.time)


def _surface(name: str, settings: Settings, services: Services) -> Flask:
    logs.install()
    # No static folder: every path is declared, with who may use it.
    app = Flask(name, static_folder=None, root_path=str(Path(__file__).parent))
    # One byte more than is accepted: a chunked body is cut at this length without a word, and `read_body` counts.
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES + 1
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    services.attach(app)
    problems.install(app)
    pipeline.install(app)
    for room in API_ROOMS:
        app.register_blueprint(room)
    reference.install(app, API_ROOMS)
    commands.install(app, settings)
    app.wsgi_app = paths.Aliases(app.wsgi_app)  # type: ignore[method-assign]
    return app
