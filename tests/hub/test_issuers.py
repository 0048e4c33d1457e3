"""Sign-in at an independent, certified OpenID Connect provider with the tokens of Zitadel, Keycloak, Auth0 and Okta.

Each product is configured as documented. With its defaults, the page and the log name the required change.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from werkzeug.test import TestResponse

from kataven.dev.personas import org_id
from tests.hub import issuers
from tests.hub.conftest import Hub
from tests.hub.hub_browser import HubBrowser, redirect_target
from tests.hub.issuers import PROJECT, Product, opened_hub
from tests.support.app_harness import AppHarness
from tests.support.independent_issuer import IndependentIssuers, signed_in

pytestmark = [pytest.mark.programs, pytest.mark.node]

PORT = 4712
Make = Callable[[str], Product]
ROLES_IN_ONE = f"{issuers.ZITADEL_SCOPES} {issuers.ROLES_IN_ONE}"


def sign_in_via_issuer(hub: Hub, browser: HubBrowser, account: str = "acme") -> TestResponse:
    """Sign in via the issuer. Returns the response of the callback."""
    browser.get("/sign-in")
    to_issuer = redirect_target(browser.post("/sign-in", {"account": account}))
    back = urlsplit(signed_in(to_issuer, f"{hub.services.url}/auth/callback"))
    return browser.get(f"{back.path}?{back.query}")


def browser_of(hub: Hub) -> HubBrowser:
    return HubBrowser(hub.app, hub.services.url)


def with_algorithm(algorithm: str) -> Make:
    return lambda hub_url: issuers.standard(hub_url).but(id_algorithm=algorithm, access_algorithm=algorithm)


def roles_by_project_id_only(hub_url: str) -> Product:
    """As for a service user, and for an application that requests the scope with the project's id."""
    return issuers.zitadel(hub_url).but(
        access_claims={f"urn:zitadel:iam:org:project:{PROJECT}:roles": issuers.OWNER_OF_ACME}
    )


def with_a_secret(hub_url: str) -> Product:
    secret = "50% of a+b:c/d&e"
    return issuers.standard(hub_url).but(client_secret=secret).set(KATAVEN_HUB_CLIENT_SECRET=secret)


def fewer_scopes(hub_url: str) -> Product:
    return issuers.standard(hub_url).but(granted_scopes="openid profile")


GOOD: dict[str, Make] = {
    **{algorithm: with_algorithm(algorithm) for algorithm in ("RS256", "PS256", "ES256", "EdDSA")},
    "Zitadel": issuers.zitadel,
    "Zitadel, roles by project id only": roles_by_project_id_only,
    "Keycloak": issuers.keycloak,
    "Auth0": issuers.auth0,
    "Okta": issuers.okta,
    "a client secret": with_a_secret,
    "fewer scopes than requested": fewer_scopes,
}


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD.keys())
def test_sign_in_refresh_and_sign_out(harness: AppHarness, independent_issuers: IndependentIssuers, make: Make) -> None:
    with opened_hub(harness, independent_issuers, make, PORT) as hub:
        browser = browser_of(hub)
        answer = sign_in_via_issuer(hub, browser)
        assert (answer.status_code, answer.location) == (303, "/"), answer.text
        page = browser.get("/")
        assert page.status_code == 200, page.text
        assert ">Alice<" in page.text

        expired = issuers.let_expire(hub, independent_issuers, cookie := issuers.cookie_of(hub, browser))
        assert browser.get("/settings/api-keys").status_code == 200
        renewed = issuers.session_of(hub, cookie).user
        assert renewed is not None
        assert renewed.access_token != expired

        at_issuer = redirect_target(browser.post("/sign-out"))
        assert "eyJ" not in at_issuer
        assert httpx2.get(at_issuer, trust_env=False).status_code in {200, 302, 303}
        assert hub.services.sessions.read(cookie) is None


def many_organisations(hub_url: str) -> Product:
    held = {"owner": {org_id("acme"): "acme.example"}, "member": {str(number): f"{number}.example" for number in MANY}}
    return issuers.zitadel(hub_url, held)


def many_organisations_one_at_a_time(hub_url: str) -> Product:
    return many_organisations(hub_url).set(KATAVEN_HUB_SCOPES=ROLES_IN_ONE)


def with_wrong_secret(hub_url: str) -> Product:
    return with_a_secret(hub_url).set(KATAVEN_HUB_CLIENT_SECRET="another")


def with_roles_elsewhere(hub_url: str) -> Product:
    return issuers.zitadel(hub_url, {"owner": {org_id("globex"): "globex.example"}})


def with_roles_elsewhere_one_at_a_time(hub_url: str) -> Product:
    return with_roles_elsewhere(hub_url).set(KATAVEN_HUB_SCOPES=ROLES_IN_ONE)


def zitadel_without_roles(hub_url: str) -> Product:
    return issuers.zitadel(hub_url).but(access_claims={})


def zitadel_without_the_project(hub_url: str) -> Product:
    return issuers.zitadel(hub_url).but(audience=["285309900000000001"])


def keycloak_with_realm_roles(hub_url: str) -> Product:
    return issuers.keycloak_by_default(hub_url).but(audience=["kataven", "account"])


def keycloak_reading_realm_roles(hub_url: str) -> Product:
    """Configured to read a nested claim with a list of roles, which Kataven doesn't support."""
    return keycloak_with_realm_roles(hub_url).set(KATAVEN_OIDC_ROLE_CLAIMS="realm_access")


def keycloak_24(hub_url: str) -> Product:
    made = issuers.keycloak(hub_url)
    return made.but(access_claims={**made.shape.access_claims, "nonce": "of the ID token"})


def okta_with_groups(hub_url: str) -> Product:
    made = issuers.okta(hub_url)
    said = {name: value for name, value in made.shape.access_claims.items() if name != "kataven_roles"}
    return made.but(access_claims=said).set(KATAVEN_OIDC_ROLE_CLAIMS="groups")


def of_another_client(hub_url: str) -> Product:
    return issuers.standard(hub_url).but(access_claims={"azp": "another"}).set(KATAVEN_OIDC_CLIENT_IDS="kataven-hub")


def with_par(hub_url: str) -> Product:
    return issuers.standard(hub_url).but(requires_par=True)


def with_id_algorithm(algorithm: str) -> Make:
    return lambda hub_url: issuers.standard(hub_url).but(id_algorithm=algorithm)


def with_access_algorithm(algorithm: str) -> Make:
    return lambda hub_url: issuers.standard(hub_url).but(access_algorithm=algorithm)


MANY = range(361592893423190000, 361592893423190070)

# The reason on the page and in the log, the failed check in the log, and the advice on the page.
REJECTED: dict[str, tuple[Make, str, str | None, str]] = {
    "Zitadel by default": (issuers.zitadel_by_default, "opaque_access_token", None, "“Auth token type”: JWT"),
    "Zitadel without the project": (
        zitadel_without_the_project,
        "access_token",
        "audience",
        "KATAVEN_OIDC_AUDIENCE is",
    ),
    "Zitadel, 71 organisations": (many_organisations, "access_token_too_long", None, "org:roles:id:{org_id}"),
    "Keycloak by default": (issuers.keycloak_by_default, "access_token", "audience", "Audience mapper"),
    "Keycloak 24": (keycloak_24, "access_token", "id_token", "Nonce backwards compatible"),
    "Auth0 by default": (issuers.auth0_by_default, "opaque_access_token", None, "“Default Audience”"),
    "Auth0's own profile": (issuers.auth0_with_its_own_profile, "access_token", "no_jti", "RFC 9068"),
    "Okta by default": (issuers.okta_by_default, "other_person", None, "(user != null) ? user.id"),
    "another client": (of_another_client, "access_token", "client_not_allowed", "KATAVEN_OIDC_CLIENT_IDS"),
    "a wrong secret": (with_wrong_secret, "client_refused", None, "KATAVEN_HUB_CLIENT_SECRET"),
    "PAR": (with_par, "refused", None, "Pushed authorization requests must not be required"),
    "ID tokens with ES384": (with_id_algorithm("ES384"), "id_token", "algorithm", "RS256, PS256, ES256 or EdDSA"),
    "ID tokens with RS512": (with_id_algorithm("RS512"), "id_token", "algorithm", "RS256, PS256, ES256 or EdDSA"),
    "access tokens with ES384": (with_access_algorithm("ES384"), "access_token", "algorithm", "instance's web key"),
    "access tokens with RS512": (with_access_algorithm("RS512"), "access_token", "algorithm", "instance's web key"),
}


def lines(said: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


def advised(page: TestResponse) -> str:
    """The advice for the administrator."""
    found = re.search(r"For the administrator:</strong> (.*?)</p>", page.text)
    assert found is not None, page.text
    return html.unescape(re.sub("</?code>", "", found[1]))


@pytest.mark.parametrize(("make", "reason", "check", "words"), REJECTED.values(), ids=REJECTED.keys())
def test_failed_sign_in_shows_what_to_change(
    harness: AppHarness,
    independent_issuers: IndependentIssuers,
    capsys: pytest.CaptureFixture[str],
    make: Make,
    reason: str,
    check: str | None,
    words: str,
) -> None:
    with opened_hub(harness, independent_issuers, make, PORT) as hub:
        browser = browser_of(hub)
        page = sign_in_via_issuer(hub, browser)
        assert page.status_code == 400
        assert words in advised(page)
        assert f"sign_in_failed · {reason} ·" in page.text
        assert f'href="/help/sign-in#{reason}"' in page.text
        assert f'id="{reason}"' in browser.get("/help/sign-in").text
        (line,) = [line for line in lines(capsys.readouterr().err) if line["message"] == "sign-in refused"]
        assert line["reason"] == reason
        if check is not None:
            assert line["check"] == check
        assert browser.get("/").location == "/sign-in"


def test_issuer_error_description_is_logged(
    harness: AppHarness, independent_issuers: IndependentIssuers, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened_hub(harness, independent_issuers, with_par, PORT) as hub:
        sign_in_via_issuer(hub, browser_of(hub))
    (line,) = [line for line in lines(capsys.readouterr().err) if line["message"] == "sign-in refused"]
    assert line["error"] == "invalid_request"
    assert line["error_description"] == "Pushed Authorization Request must be used"


WITHOUT_ROLE: dict[str, tuple[Make, str, str]] = {
    "Zitadel, roles not asserted": (zitadel_without_roles, "no_role_claim", "“Add user roles to the access token”"),
    "Zitadel, another organisation": (
        with_roles_elsewhere,
        "roles_elsewhere",
        "grant the project to that organisation",
    ),
    "Zitadel, roles in one": (with_roles_elsewhere_one_at_a_time, "no_role_claim", "in the account's organisation"),
    "Keycloak's realm roles": (keycloak_with_realm_roles, "no_role_claim", "KATAVEN_OIDC_ROLE_CLAIMS"),
    "Keycloak's realm_access": (keycloak_reading_realm_roles, "roles_not_readable", '{"owner": {"<organisation id>"'),
    "Okta's groups": (okta_with_groups, "roles_not_readable", '{"owner": {"<organisation id>"'),
}


@pytest.mark.parametrize(("make", "reason", "words"), WITHOUT_ROLE.values(), ids=WITHOUT_ROLE.keys())
def test_token_without_a_role_shows_what_to_change(
    harness: AppHarness,
    independent_issuers: IndependentIssuers,
    capsys: pytest.CaptureFixture[str],
    make: Make,
    reason: str,
    words: str,
) -> None:
    with opened_hub(harness, independent_issuers, make, PORT) as hub:
        browser = browser_of(hub)
        assert sign_in_via_issuer(hub, browser).status_code == 303
        page = browser.get("/")
        assert page.status_code == 403
        assert "You have no role in this account" in page.text
        assert words in advised(page)
        (line,) = [line for line in lines(capsys.readouterr().err) if line["message"] == "signed in"]
        assert line["reason"] == reason


def test_org_scope_limits_the_token_to_one_organisation(
    harness: AppHarness, independent_issuers: IndependentIssuers
) -> None:
    with opened_hub(harness, independent_issuers, many_organisations_one_at_a_time, PORT) as hub:
        browser = browser_of(hub)
        assert sign_in_via_issuer(hub, browser).status_code == 303
        assert browser.get("/").status_code == 200
        person = issuers.session_of(hub, issuers.cookie_of(hub, browser)).user
        assert person is not None
        assert len(person.access_token) < 2_000


def test_session_without_a_refresh_token_ends_with_its_token(
    harness: AppHarness, independent_issuers: IndependentIssuers, capsys: pytest.CaptureFixture[str]
) -> None:
    """OpenID Connect Core, section 11, requires `prompt=consent` for `offline_access`. Most products don't."""

    def strict(hub_url: str) -> Product:
        return issuers.standard(hub_url).but(refreshes_without_consent=False)

    with opened_hub(harness, independent_issuers, strict, PORT) as hub:
        browser = browser_of(hub)
        assert sign_in_via_issuer(hub, browser).status_code == 303
        issuers.let_expire(hub, independent_issuers, issuers.cookie_of(hub, browser))
        assert browser.get("/").location == "/sign-in"
        (line,) = [line for line in lines(capsys.readouterr().err) if "not renewed" in line["message"]]
        assert line["reason"] == "no_refresh_token"


def test_mismatched_issuer_url_is_explained(
    harness: AppHarness, independent_issuers: IndependentIssuers, capsys: pytest.CaptureFixture[str]
) -> None:
    """Auth0's issuer URLs end with a slash, and settings often omit it."""
    with opened_hub(harness, independent_issuers, issuers.auth0, PORT, lambda issuer: issuer.removesuffix("/")) as hub:
        browser = browser_of(hub)
        browser.get("/sign-in")
        page = browser.post("/sign-in", {"account": "acme"})
        assert page.status_code == 503
        assert page.headers["Retry-After"]
        assert "with the slash at the end at Auth0" in advised(page)
        (line,) = [line for line in lines(capsys.readouterr().err) if "discovery document" in line["message"]]
        assert line["reason"] == "other_issuer"
