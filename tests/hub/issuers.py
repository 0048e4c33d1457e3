"""Hubs at independent issuers: the tokens of Zitadel, Keycloak, Auth0 and Okta, and the settings for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server

import app as factory
from kataven import settings
from kataven.dev.personas import org_id
from kataven.hub.pages_app import PAGES
from kataven.hub.session_middleware import EXTENSION
from kataven.hub.sessions import Session
from kataven.identity.credential import OPERATORS_ACCOUNT
from kataven.web.services import EXTENSION as SERVICES
from tests.hub.conftest import Hub
from tests.hub.hub_browser import HubBrowser
from tests.support.app_harness import AppHarness
from tests.support.independent_issuer import SCOPES, IndependentIssuers, Shape

Roles = Mapping[str, Mapping[str, str]]
OWNER_OF_ACME: Roles = {"owner": {org_id("acme"): "acme.example"}}

PROJECT = "285309842017386498"
ZITADEL_SCOPES = f"{SCOPES} urn:zitadel:iam:org:projects:roles urn:zitadel:iam:org:project:id:{PROJECT}:aud"
ROLES_IN_ONE = "urn:zitadel:iam:org:roles:id:{org_id}"


@dataclass(frozen=True)
class Product:
    """An issuer, with the Hub's settings from its documentation page."""

    shape: Shape
    settings: Mapping[str, str]

    def but(self, **changed: Any) -> Product:
        """A copy with another shape."""
        return replace(self, shape=replace(self.shape, **changed))

    def set(self, **variables: str) -> Product:
        """A copy with other settings."""
        return replace(self, settings={**self.settings, **variables})


def standard(hub_url: str) -> Product:
    """No specific product: RFC 9068 access tokens with a separate claim for roles."""
    shape = Shape(f"{hub_url}/auth/callback", f"{hub_url}/signed-out", access_claims={"kataven_roles": OWNER_OF_ACME})
    shape = replace(shape, id_claims={"name": "Alice", "email": "alice@acme.example"})
    settings = {"KATAVEN_OIDC_AUDIENCE": "kataven", "KATAVEN_OIDC_ROLE_CLAIMS": "kataven_roles"}
    return Product(shape, settings)


def zitadel_by_default(hub_url: str) -> Product:
    """A new web application: opaque tokens, no roles, no names, and the login page at another host."""
    shape = replace(
        standard(hub_url).shape,
        client_id="285309900000000001",
        subject="361592893423190017",
        scopes=f"{ZITADEL_SCOPES} {ROLES_IN_ONE}".replace("{org_id}", org_id("acme")),
        audience=None,
        access_type="JWT",
        access_claims={},
        id_audience=["285309900000000001", "285309900000000002", PROJECT],
        id_claims={},
        lifetime_seconds=12 * 3600,
        login_host="login.localhost",
        signs_out_elsewhere=True,
    )
    settings = {
        "KATAVEN_OIDC_AUDIENCE": PROJECT,
        "KATAVEN_HUB_CLIENT_ID": shape.client_id,
        "KATAVEN_HUB_SCOPES": ZITADEL_SCOPES,
    }
    return Product(shape, settings)


def zitadel(hub_url: str, roles: Roles = OWNER_OF_ACME) -> Product:
    """As docs/zitadel.md sets it up."""
    return zitadel_by_default(hub_url).but(
        audience=["285309900000000001", "285309900000000002", PROJECT],
        access_claims={
            "urn:zitadel:iam:org:project:roles": roles,
            f"urn:zitadel:iam:org:project:{PROJECT}:roles": roles,
        },
        id_claims={"name": "Alice", "email": "alice@acme.example"},
        lifetime_seconds=600,
    )


def keycloak_by_default(hub_url: str) -> Product:
    """A new client in a realm: `aud` of the account console, and realm roles in a nested claim."""
    made = standard(hub_url).but(
        path="/realms/customers",
        audience="account",
        access_type="JWT",
        access_omits=["client_id"],
        access_claims={
            "azp": "kataven-hub",
            "name": "Alice",
            "preferred_username": "alice",
            "realm_access": {"roles": ["owner", "offline_access", "uma_authorization"]},
            "resource_access": {"account": {"roles": ["manage-account", "view-profile"]}},
        },
    )
    return made.set(KATAVEN_HUB_SCOPES="openid profile email")


def keycloak(hub_url: str) -> Product:
    """As docs/issuers.md sets it up."""
    made = keycloak_by_default(hub_url)
    return made.but(
        audience=["kataven", "account"], access_claims={**made.shape.access_claims, "kataven_roles": OWNER_OF_ACME}
    )


def auth0_by_default(hub_url: str) -> Product:
    """A new application whose requests name no audience: opaque tokens."""
    made = standard(hub_url).but(path="/", subject="auth0|6717d1f0", audience=None, access_claims={})
    return made.set(KATAVEN_OIDC_AUDIENCE="https://api.kataven.ai", KATAVEN_OIDC_ROLE_CLAIMS="https://kataven.ai/roles")


def auth0_with_its_own_profile(hub_url: str) -> Product:
    """With a default audience, but with tokens of Auth0's own profile."""
    return auth0_by_default(hub_url).but(
        audience=["https://api.kataven.ai", "https://tenant.auth0.example/userinfo"],
        access_type="JWT",
        access_omits=["jti", "client_id"],
        access_claims={"azp": "kataven-hub", "https://kataven.ai/roles": OWNER_OF_ACME},
    )


def auth0(hub_url: str) -> Product:
    """As docs/issuers.md sets it up."""
    return auth0_with_its_own_profile(hub_url).but(
        access_type="at+jwt", access_omits=[], access_claims={"https://kataven.ai/roles": OWNER_OF_ACME}
    )


def okta_by_default(hub_url: str) -> Product:
    """The custom authorization server `default`: the access token's `sub` is the login name."""
    made = standard(hub_url).but(
        path="/oauth2/default",
        subject="00u1abcdEFGH",
        audience="api://default",
        access_type="JWT",
        access_omits=["client_id"],
        access_claims={
            "sub": "alice@acme.example",
            "uid": "00u1abcdEFGH",
            "cid": "kataven-hub",
            "ver": 1,
            "groups": ["Everyone", "kataven-owners"],
        },
    )
    return made.set(KATAVEN_OIDC_AUDIENCE="api://default")


def okta(hub_url: str) -> Product:
    """As docs/issuers.md sets it up."""
    made = okta_by_default(hub_url)
    said = {**made.shape.access_claims, "sub": "00u1abcdEFGH", "kataven_roles": OWNER_OF_ACME}
    return made.but(access_claims=said).set(KATAVEN_OIDC_CLIENT_IDS="kataven-hub")


@contextmanager
def opened_hub(
    harness: AppHarness,
    issuers: IndependentIssuers,
    make: Callable[[str], Product],
    port: int,
    spelled: Callable[[str], str] = str,
) -> Iterator[Hub]:
    """A Hub for a new issuer, with the databases and the Redis of the test app. `spelled` changes the issuer's URL."""
    hub_url = f"http://localhost:{port}"
    product = make(hub_url)
    environ = {
        **harness.environ,
        "KATAVEN_HUB_URL": hub_url,
        "KATAVEN_OPERATORS_ORG_ID": org_id(OPERATORS_ACCOUNT),
        "KATAVEN_OIDC_ISSUER": spelled(issuers.start(product.shape)),
        **product.settings,
    }
    app = factory.create_hub(settings.load(environ))
    services = app.extensions[SERVICES]
    services.start()
    try:
        pages = app.extensions[PAGES]
        yield Hub(app, pages, pages.extensions[EXTENSION])
    finally:
        services.stop()


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """Log nothing."""


@contextmanager
def served(hub: Hub, port: int) -> Iterator[None]:
    """The Hub in a thread of this process, for a browser."""
    server = make_server("127.0.0.1", port, hub.app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def session_of(hub: Hub, cookie: str) -> Session:
    """The session that belongs to a cookie."""
    session = hub.services.sessions.read(cookie)
    assert session is not None
    return session


def cookie_of(hub: Hub, browser: HubBrowser) -> str:
    """The session cookie of this browser."""
    cookie = browser.client.get_cookie(hub.services.cookie_name, "localhost")
    assert cookie is not None
    return cookie.value


def let_expire(hub: Hub, issuers: IndependentIssuers, cookie: str) -> str:
    """Replace the session's access token with an expired one from the issuer. Returns the expired token."""
    session = session_of(hub, cookie)
    assert session.user is not None
    expired = issuers.expired(session.user.access_token)
    hub.services.sessions.save(session.with_(user=replace(session.user, access_token=expired)))
    return expired
