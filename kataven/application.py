"""The composition root: builds all objects and passes them to the packages. No package imports it.

Building opens no connections and starts no threads, so it can happen before a fork and without a network.
`Services.start()` starts a process's background work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask

from kataven import api, assembly, logs
from kataven.commands import flask_commands
from kataven.process_services import build_services
from kataven.settings import Settings
from kataven.web import (
    cors,
    forward_auth,
    hardening,
    health,
    hosts,
    http_conventions,
    paths,
    pipeline,
    problems,
    reference,
    scrape,
    security_txt,
)
from kataven.web.operation import ApiBlueprint
from kataven.web.schema import MAX_BODY_BYTES
from kataven.web.services import Services
from kataven.web.third_party import register_blueprints

if TYPE_CHECKING:
    from kataven.hub.session_middleware import HubServices


class SynchronousFlask(Flask):
    """A Flask app whose views and hooks are never coroutines, which saves a check per call."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


API_BLUEPRINTS = (*api.BLUEPRINTS, health.blueprint, scrape.blueprint, security_txt.blueprint, reference.blueprint)


def create_api(settings: Settings, blueprints: Iterable[ApiBlueprint] = ()) -> Flask:
    """The API: `/v1`, its aliases, the health checks and the API reference. `blueprints` are those of other packages,
    in addition to those that `settings` names."""
    return _create_flask("kataven-api", settings, build_services(settings, "api"), blueprints)


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


# The modules of the Hub are imported in its functions, so that a process that serves only the API doesn't load them.
def _hub(settings: Settings, services: Services) -> Flask:
    from kataven.hub import pages_app

    hub = _create_flask("kataven-hub", settings, services)
    hub_services = _hub_services(settings)
    services.closers.append(hub_services.close)
    pages = pages_app.create(services, hub_services)
    hub.extensions[pages_app.PAGES] = pages
    if services.traces is not None:
        services.traces.install(pages)
    hub.wsgi_app = paths.HubPaths(hub.wsgi_app, pages.wsgi_app)  # type: ignore[method-assign]
    return hub


def _hub_services(settings: Settings) -> HubServices:
    from kataven.hub.provider import Client, Provider
    from kataven.hub.runner import Runner
    from kataven.hub.session_middleware import HubServices
    from kataven.hub.sessions import Sessions
    from kataven.identity.fetch import HttpFetcher
    from kataven.identity.jwks import JwksClient
    from kataven.identity.jwt import JwtVerifier
    from kataven.identity.jwt_use import IdTokens
    from kataven.ratelimit.limiter import Meter

    connection = assembly.issuer_connection(settings)
    fetcher = HttpFetcher(connection)
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
            connection=connection,
            allow_loopback_http=settings.development,
        ),
        access_tokens=access_tokens,
        api_meter=Meter(settings.redis_url.get_secret_value(), "api"),
        operators_org_id=settings.operators_org_id,
        role_claims=settings.oidc_role_claims,
        runner=Runner(Path(__file__).resolve().parents[1]),  # where a new process imports the same `kataven`
    )


def _create_flask(name: str, settings: Settings, services: Services, blueprints: Iterable[ApiBlueprint] = ()) -> Flask:
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
    forward_auth.install(app)
    pipeline.install(app)
    http_conventions.install(app)
    cors.install(app)
    every = register_blueprints(app, API_BLUEPRINTS, blueprints, settings.blueprints)
    reference.install(app, every, settings.public_url)
    flask_commands.install(app, settings)
    app.wsgi_app = paths.Aliases(forward_auth.VerifyRequests(app.wsgi_app))  # type: ignore[method-assign]
    if services.traces is not None:
        services.traces.install(app)
    return app
