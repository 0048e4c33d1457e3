"""The composition root: builds all objects and passes them to the packages. No package imports it.

Building opens no connections and starts no threads, so it can happen before a fork and without a network.
`Services.start()` starts a process's background work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask

from kataven import api, assembly, logs, process_services
from kataven.api import me, security_events, verify
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
from kataven.web.direct import DirectRequests
from kataven.web.operation import ApiBlueprint
from kataven.web.schema import MAX_BODY_BYTES
from kataven.web.services import Services
from kataven.web.third_party import register_blueprints

if TYPE_CHECKING:
    from kataven.hub.session_middleware import HubServices
    from kataven.people.receiver import SecurityEventReceiver


class SynchronousFlask(Flask):
    """A Flask app whose views and hooks are never coroutines, which saves a check per call."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


DIRECT = {"me.read_me": me.describe, "verify.verify": verify.describe}
"""The endpoints that are served without Flask."""
API_BLUEPRINTS = (*api.BLUEPRINTS, health.blueprint, scrape.blueprint, security_txt.blueprint, reference.blueprint)


def create_api(settings: Settings, blueprints: Iterable[ApiBlueprint] = ()) -> Flask:
    """The API: `/v1`, its aliases, the health checks and the API reference. `blueprints` are those of other packages,
    in addition to those that `settings` names."""
    return _api(settings, build_services(settings, "api"), blueprints)


def create_hub(settings: Settings) -> Flask:
    """The Hub: pages for users, and the legacy path `/hub-api/*`, in a separate process from the API."""
    return _hub(settings, build_services(settings, "hub"))


def create_app(settings: Settings) -> Flask:
    """The API and the Hub in one process, routed by the `Host` header. Returns the API's Flask app, for `flask …`."""
    services = build_services(settings, "api")
    app = _api(settings, services)
    hub = _hub(settings, services)
    app.wsgi_app = hosts.ByHost(settings.hub_host, hub.wsgi_app, otherwise=app.wsgi_app)  # type: ignore[method-assign]
    return app


def _api(settings: Settings, services: Services, blueprints: Iterable[ApiBlueprint] = ()) -> Flask:
    receiver = _event_receiver(settings, services)
    own = () if receiver is None else (security_events.blueprint_for(receiver),)
    return _create_flask("kataven-api", settings, services, blueprints, own)


def _event_receiver(settings: Settings, services: Services) -> SecurityEventReceiver | None:
    if settings.events_audience is None:
        return None

    def count(kind: str, outcome: str) -> None:
        services.metrics.security_events.labels(kind, outcome).inc()

    receiver = process_services.event_receiver(settings, services.people, count)
    services.closers.append(receiver.replays.close)
    return receiver


# The modules of the Hub are imported in its functions, so that a process that serves only the API doesn't load them.
def _hub(settings: Settings, services: Services) -> Flask:
    from kataven.hub import pages_app
    from kataven.hub.pages import try_it

    hub = _create_flask("kataven-hub", settings, services)
    hub_services = _hub_services(settings, services)
    services.closers.append(hub_services.close)
    pages = pages_app.create(services, hub_services)
    hub.extensions[pages_app.PAGES] = pages
    services.before_fork.append(partial(pages_app.load, pages))
    pages.extensions[try_it.API_EXTENSION] = try_it.ApiApp(partial(reference.document_of, hub), hub.wsgi_app)
    if services.traces is not None:
        services.traces.install(pages)
    hub.wsgi_app = paths.HubPaths(hub.wsgi_app, pages.wsgi_app)  # type: ignore[method-assign]
    return hub


def _hub_services(settings: Settings, services: Services) -> HubServices:
    from kataven.hub.provider import Client, Provider
    from kataven.hub.runner import Runner
    from kataven.hub.session_middleware import HubServices
    from kataven.hub.sessions import Sessions
    from kataven.identity.fetch import HttpFetcher
    from kataven.identity.jwks import JwksClient
    from kataven.identity.jwt import JwtVerifier
    from kataven.identity.jwt_use import IdTokens
    from kataven.people.replays import Replays
    from kataven.people.signed_events import SignedEvents
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
        events=SignedEvents(keys, settings.oidc_issuer, client.id, time.time),
        replays=Replays(settings.redis_url.get_secret_value()),
        api_meter=Meter(settings.redis_url.get_secret_value(), "api"),
        operators_org_id=settings.operators_org_id,
        role_claims=settings.oidc_role_claims,
        confirmations=services.confirmations,
        runner=Runner(Path(__file__).resolve().parents[1]),  # where a new process imports the same `kataven`
    )


def _create_flask(
    name: str,
    settings: Settings,
    services: Services,
    blueprints: Iterable[ApiBlueprint] = (),
    own: Iterable[ApiBlueprint] = (),
) -> Flask:
    logs.install()
    # No static folder: every path is declared together with its access rule.
    app = SynchronousFlask(name, static_folder=None, root_path=str(Path(__file__).parent))
    # One byte more than the limit: Flask truncates a chunked body at this length silently, and `read_body` counts.
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES + 1
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    services.attach(app)
    problems.install(app)
    url = settings.hub_url if name == "kataven-hub" else settings.public_url
    hardening.install(app, url)
    forward_auth.install(app)
    pipeline.install(app)
    http_conventions.install(app)
    cors.install(app)
    every = register_blueprints(app, (*API_BLUEPRINTS, *own), blueprints, settings.blueprints)
    for blueprint in every:
        services.scopes.add(sorted(blueprint.scopes))
    reference.install(app, every, settings.public_url, settings.hub_url, of_hub=name == "kataven-hub")
    services.before_fork.append(partial(reference.generate_documents, app))
    flask_commands.install(app, settings)
    direct = DirectRequests(app, services, url, DIRECT)
    app.wsgi_app = paths.Aliases(forward_auth.VerifyRequests(direct))  # type: ignore[method-assign]
    if services.traces is not None:
        services.traces.install(app)
    return app
