"""The development issuer, over HTTP, as the Hub and the API use it."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx2
import pytest

from kataven.dev.embedded.errors import DevError
from kataven.dev.issuer import AUDIENCE, CLIENT_ID, DevIssuer, sign
from kataven.dev.issuer.grants import CODE_LIFETIME_SECONDS, Grant, GrantStore, InvalidGrant, challenge_of
from kataven.dev.issuer.keys import Keyring
from kataven.dev.issuer.tokens import AUDIENCES, at_hash
from kataven.dev.personas import ALICE, BOB, CHARLIE, OLIVIA, PERSONAS, Persona, org_id
from kataven.identity import jws
from kataven.identity.errors import ExpiredCredential, InvalidCredential
from kataven.identity.fetch import HttpFetcher
from kataven.identity.grants import is_operator, organisations, role_claims_for, strongest_role
from kataven.identity.jwks import COOLDOWN_SECONDS, JwksClient
from kataven.identity.jwt import JwtVerifier
from kataven.identity.jwt_use import IdTokens, JwtUse
from kataven.identity.principal import Role
from tests.support.clock import Clock
from tests.support.oidc import IssuerWithPen, issuer

__all__ = ["issuer"]

VERIFIER = "v" * 43
CALLBACK = "http://localhost:8000/auth/callback"


@pytest.fixture
def browser(issuer: DevIssuer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=issuer.url, trust_env=False) as client:
        yield client


@pytest.fixture
def own_issuer(tmp_path: Path) -> Iterator[IssuerWithPen]:
    """A separate issuer, for tests that rotate its keys or stop it."""
    with IssuerWithPen(tmp_path) as running:
        yield running


def verifier(running: DevIssuer, audience: str = AUDIENCE, use: JwtUse | None = None) -> JwtVerifier:
    client = JwksClient(running.url, HttpFetcher(), allow_loopback_http=True)
    return JwtVerifier(client, running.url, audience, time.time, use)


def id_verifier(running: DevIssuer) -> JwtVerifier:
    return verifier(running, CLIENT_ID, IdTokens(CLIENT_ID))


class AnyUse:
    """A verifier that does not check the use of a token."""

    def broken_rule(self, header: Mapping[str, Any], payload: Mapping[str, Any]) -> str | None:
        return None


def authorization_request(**changes: str | None) -> dict[str, str]:
    parameters = {
        "client_id": CLIENT_ID,
        "redirect_uri": CALLBACK,
        "response_type": "code",
        "scope": "openid profile",
        "state": "a state & more",
        "nonce": "a nonce",
        "code_challenge": challenge_of(VERIFIER),
        "code_challenge_method": "S256",
        **changes,
    }
    return {name: value for name, value in parameters.items() if value is not None}


def redirect_parameters(response: httpx2.Response) -> dict[str, str]:
    assert response.status_code == 303
    return dict(parse_qsl(urlsplit(response.headers["Location"]).query))


def code_for(browser: httpx2.Client, person: Persona = ALICE, **changes: str | None) -> str:
    response = browser.post("/oauth/v2/authorize", data={**authorization_request(**changes), "person": person.subject})
    return redirect_parameters(response)["code"]


def redeem(browser: httpx2.Client, code: str, /, **changes: str | None) -> httpx2.Response:
    form = {
        "grant_type": "authorization_code",
        "client_id": CLIENT_ID,
        "code": code,
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
        **changes,
    }
    return browser.post("/oauth/v2/token", data={name: value for name, value in form.items() if value is not None})


# Tokens and keys


@pytest.mark.parametrize("person", PERSONAS, ids=lambda person: person.subject)
def test_signed_token_is_valid_for_the_api(issuer: IssuerWithPen, person: Persona) -> None:
    claims = verifier(issuer).claims(issuer.token(person))
    assert (claims.subject, claims.name) == (person.subject, person.name)
    assert organisations(claims.all) == {org_id(person.account)}


def test_personas_have_their_documented_roles(issuer: IssuerWithPen) -> None:
    api = verifier(issuer)
    held = {person.name: strongest_role(api.claims(issuer.token(person)).all, org_id("acme")) for person in PERSONAS}
    assert held == {"Alice": Role.OWNER, "Bob": Role.MEMBER, "Charlie": None, "Olivia": None}
    assert is_operator(api.claims(issuer.token(OLIVIA)).all, org_id("kataven-admin"))
    assert not is_operator(api.claims(issuer.token(CHARLIE)).all, org_id("kataven-admin"))


def test_invalid_tokens_can_be_created_for_tests(issuer: IssuerWithPen) -> None:
    api = verifier(issuer)
    with pytest.raises(ExpiredCredential):
        api.claims(issuer.token(claims={"exp": 1, "iat": None, "nbf": None}))
    with pytest.raises(InvalidCredential):
        api.claims(issuer.token(BOB, kid="unknown"))


def test_command_line_token_is_for_a_persona_or_an_invented_user(own_issuer: IssuerWithPen, tmp_path: Path) -> None:
    api = verifier(own_issuer)
    alice = api.claims(sign(tmp_path, own_issuer.url, "acme", Role.OWNER))
    assert alice.subject == "alice"
    admin = api.claims(sign(tmp_path, own_issuer.url, "initech", Role.ADMIN))
    assert strongest_role(admin.all, org_id("initech")) is Role.ADMIN
    named = api.claims(sign(tmp_path, own_issuer.url, "acme", Role.OWNER, subject="dana", ttl_seconds=60))
    assert (named.subject, named.name) == ("dana", "dana")
    assert named.expires_at - named.all["iat"] == 60


def test_key_files_have_mode_0600(own_issuer: IssuerWithPen, tmp_path: Path) -> None:
    assert own_issuer.token()
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert {path.name for path in files} == {"oidc-keys.json", "oidc-keys.lock"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_jwk_set_contains_no_private_members(browser: httpx2.Client) -> None:
    keys = browser.get("/oauth/v2/keys").json()["keys"]
    assert [key["alg"] for key in keys] == ["ES256", "RS256"]
    assert all(set(key) <= {"kid", "alg", "use", "kty", "crv", "x", "y", "n", "e"} for key in keys)


def test_concurrent_first_uses_create_one_set_of_keys(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        sets = list(threads.map(lambda _: json.dumps(Keyring(tmp_path).public_jwks()), range(4)))
    assert len(set(sets)) == 1


def test_damaged_key_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "oidc-keys.json").write_text("{")
    with pytest.raises(DevError, match=r"oidc-keys\.json is damaged"):
        DevIssuer(tmp_path).start()


def test_keys_in_the_format_of_earlier_versions_are_replaced(tmp_path: Path) -> None:
    stored = [{"kid": "dev-old", "alg": "ES256", "private_key": "-----BEGIN PRIVATE KEY-----"}]
    (tmp_path / "oidc-keys.json").write_text(json.dumps(stored))
    keys = Keyring(tmp_path).public_jwks()["keys"]
    assert [key["alg"] for key in keys] == ["ES256", "RS256"]
    assert "dev-old" not in {key["kid"] for key in keys}


def test_rotation_keeps_the_previous_keys_published(own_issuer: IssuerWithPen) -> None:
    clock = Clock()
    client = JwksClient(own_issuer.url, HttpFetcher(), allow_loopback_http=True, clock=clock)
    api = JwtVerifier(client, own_issuer.url, AUDIENCE, time.time)
    first = own_issuer.token()
    api.claims(first)
    own_issuer.keyring.rotate()
    second = own_issuer.token()
    clock.advance(COOLDOWN_SECONDS)
    assert api.claims(second).subject == api.claims(first).subject == "alice"
    own_issuer.keyring.rotate()
    third = own_issuer.token()
    clock.advance(COOLDOWN_SECONDS)
    assert api.claims(third).subject == api.claims(second).subject == "alice"
    with pytest.raises(InvalidCredential):
        api.claims(first)


def test_tokens_of_both_algorithms_verify(own_issuer: IssuerWithPen) -> None:
    api = verifier(own_issuer)
    for algorithm in ("ES256", "RS256"):
        assert api.claims(own_issuer.token(algorithm=algorithm)).subject == "alice"


# Sign-in


def test_discovery_lists_the_served_endpoints(browser: httpx2.Client, issuer: DevIssuer) -> None:
    document = browser.get("/.well-known/openid-configuration").json()
    assert document["issuer"] == issuer.url
    assert document["code_challenge_methods_supported"] == ["S256"]
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint", "end_session_endpoint"):
        assert browser.options(document[name]).status_code == 200


def test_sign_in_page_lists_the_personas_and_keeps_the_parameters(browser: httpx2.Client) -> None:
    page = browser.get("/oauth/v2/authorize", params=authorization_request())
    assert page.status_code == 200
    for person in PERSONAS:
        assert f'value="{person.subject}"' in page.text
    assert 'value="a state &amp; more"' in page.text


def test_sign_in_returns_tokens_for_hub_and_api(browser: httpx2.Client, issuer: DevIssuer) -> None:
    response = browser.post("/oauth/v2/authorize", data={**authorization_request(), "person": "bob"})
    assert response.headers["Location"].startswith(f"{CALLBACK}?")
    returned = redirect_parameters(response)
    assert (returned["state"], returned["iss"]) == ("a state & more", issuer.url)
    tokens = redeem(browser, returned["code"])
    assert tokens.headers["Cache-Control"] == "no-store"
    body = tokens.json()
    assert (body["token_type"], body["scope"]) == ("Bearer", "openid profile")
    identity = id_verifier(issuer).claims(body["id_token"])
    assert (identity.subject, identity.all["nonce"]) == ("bob", "a nonce")
    access = verifier(issuer).claims(body["access_token"])
    assert strongest_role(access.all, org_id("acme")) is Role.MEMBER


def test_access_and_id_tokens_differ_in_the_same_claims_as_zitadels(browser: httpx2.Client, issuer: DevIssuer) -> None:
    tokens = redeem(browser, code_for(browser)).json()
    access, identity = (jws.parse(tokens[name]) for name in ("access_token", "id_token"))
    assert access.header == identity.header
    assert access.header["typ"] == "JWT"
    assert access.payload["aud"] == identity.payload["aud"] == AUDIENCES
    assert AUDIENCE in AUDIENCES
    for claim in role_claims_for(AUDIENCE):
        assert access.payload[claim] == identity.payload[claim]
    of_id_tokens = {"nonce", "at_hash", "auth_time", "amr", "azp"}
    assert set(access.payload) - set(identity.payload) == {"jti"}
    assert set(identity.payload) - set(access.payload) == of_id_tokens
    assert identity.payload["at_hash"] == at_hash(tokens["access_token"])


def test_id_token_is_rejected_by_the_api_only_because_of_its_use(browser: httpx2.Client, issuer: DevIssuer) -> None:
    """A verifier that does not check the use of a token accepts it, with Alice's role."""
    id_token = redeem(browser, code_for(browser)).json()["id_token"]
    taken = verifier(issuer, use=AnyUse()).claims(id_token)
    assert strongest_role(taken.all, org_id("acme")) is Role.OWNER
    with pytest.raises(InvalidCredential) as refusal:
        verifier(issuer).claims(id_token)
    assert refusal.value.rule == "id_token"


def test_unknown_scope_is_omitted_and_rejected_at_a_refresh(browser: httpx2.Client) -> None:
    scope = "openid offline_access urn:zitadel:iam:org:projects:roles address"
    granted = redeem(browser, code_for(browser, scope=scope)).json()
    assert granted["scope"] == "openid offline_access urn:zitadel:iam:org:projects:roles"

    def refresh(**more: str) -> httpx2.Response:
        form = {
            "grant_type": "refresh_token",
            "client_id": CLIENT_ID,
            "refresh_token": granted["refresh_token"],
            **more,
        }
        return browser.post("/oauth/v2/token", data=form)

    assert refresh(scope=scope).json()["error"] == "invalid_scope"
    assert refresh().status_code == 400  # the attempt invalidated the token


def test_refresh_without_a_scope_keeps_the_granted_scopes(browser: httpx2.Client) -> None:
    granted = redeem(browser, code_for(browser, scope="openid offline_access address")).json()
    form = {"grant_type": "refresh_token", "client_id": CLIENT_ID, "refresh_token": granted["refresh_token"]}
    assert browser.post("/oauth/v2/token", data=form).json()["scope"] == "openid offline_access"


def test_nonce_and_state_are_returned_only_if_sent(browser: httpx2.Client, issuer: DevIssuer) -> None:
    returned = redirect_parameters(
        browser.post("/oauth/v2/authorize", data={**authorization_request(state=None, nonce=None), "person": "alice"})
    )
    assert set(returned) == {"code", "iss"}
    claims = id_verifier(issuer).claims(redeem(browser, returned["code"]).json()["id_token"])
    assert "nonce" not in claims.all


@pytest.mark.parametrize(
    "redirect_uri",
    [
        "http://localhost:8000/auth/callback",
        "http://127.0.0.1/auth/callback",
        "http://[::1]:9/auth/callback",
        "http://hub.localhost:8000/auth/callback",
    ],
)
def test_callback_can_use_any_loopback_name_and_port(browser: httpx2.Client, redirect_uri: str) -> None:
    assert redeem(browser, code_for(browser, redirect_uri=redirect_uri), redirect_uri=redirect_uri).status_code == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "other"},
        {"client_id": None},
        {"redirect_uri": None},
        {"redirect_uri": "https://evil.example/auth/callback"},
        {"redirect_uri": "http://localhost.evil.example/auth/callback"},
        {"redirect_uri": "http://localhost@evil.example/auth/callback"},
        {"redirect_uri": "http://evil.example\\@localhost/auth/callback"},
        {"redirect_uri": "http://localhost:8000/elsewhere"},
        {"redirect_uri": "http://localhost:8000/auth/callback#fragment"},
        {"redirect_uri": "http://localhost:port/auth/callback"},
        {"redirect_uri": "javascript:alert(1)"},
        {"redirect_uri": "//localhost/auth/callback"},
    ],
    ids=str,
)
def test_untrusted_client_or_redirect_uri_returns_an_error_page(
    browser: httpx2.Client, changes: dict[str, str | None]
) -> None:
    for response in (
        browser.get("/oauth/v2/authorize", params=authorization_request(**changes)),
        browser.post("/oauth/v2/authorize", data={**authorization_request(**changes), "person": "alice"}),
    ):
        assert response.status_code == 400
        assert "Location" not in response.headers


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "unsupported_response_type"),
        ({"scope": "profile"}, "invalid_scope"),
        ({"scope": None}, "invalid_scope"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"prompt": "none"}, "login_required"),
    ],
)
def test_other_errors_are_redirected_to_the_client_with_its_state(
    browser: httpx2.Client, changes: dict[str, str | None], error: str
) -> None:
    returned = redirect_parameters(
        browser.post("/oauth/v2/authorize", data={**authorization_request(**changes), "person": "alice"})
    )
    assert (returned["error"], returned["state"]) == (error, "a state & more")
    assert "code" not in returned


def test_repeated_parameter_is_rejected(browser: httpx2.Client) -> None:
    returned = redirect_parameters(
        browser.get("/oauth/v2/authorize", params=[*authorization_request().items(), ("scope", "openid")])
    )
    assert returned["error"] == "invalid_request"


def test_only_personas_can_sign_in(browser: httpx2.Client) -> None:
    response = browser.post("/oauth/v2/authorize", data={**authorization_request(), "person": "mallory"})
    assert response.status_code == 400


# Codes


def test_code_can_be_redeemed_once(browser: httpx2.Client) -> None:
    code = code_for(browser)
    assert redeem(browser, code).status_code == 200
    again = redeem(browser, code)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"code_verifier": "w" * 43}, 400, "invalid_grant"),
        ({"code_verifier": "v" * 42}, 400, "invalid_grant"),
        ({"code_verifier": "é" * 43}, 400, "invalid_grant"),
        ({"code_verifier": challenge_of(VERIFIER)}, 400, "invalid_grant"),
        ({"code_verifier": None}, 400, "invalid_grant"),
        ({"redirect_uri": CALLBACK.replace("8000", "8001")}, 400, "invalid_grant"),
        ({"redirect_uri": None}, 400, "invalid_grant"),
        ({"code": "invented"}, 400, "invalid_grant"),
        ({"code": None}, 400, "invalid_grant"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"client_id": "other"}, 401, "invalid_client"),
        ({"client_secret": "guessed"}, 401, "invalid_client"),
    ],
    ids=str,
)
def test_code_can_be_redeemed_only_by_the_client_that_requested_it(
    browser: httpx2.Client, changes: dict[str, str | None], status: int, error: str
) -> None:
    response = redeem(browser, code_for(browser), **changes)
    assert (response.status_code, response.json()["error"]) == (status, error)
    assert response.headers["Cache-Control"] == "no-store"


def test_wrong_verifier_invalidates_the_code(browser: httpx2.Client) -> None:
    code = code_for(browser)
    redeem(browser, code, code_verifier="w" * 43)
    assert redeem(browser, code).json()["error"] == "invalid_grant"


def test_code_expires_after_60_seconds() -> None:
    clock = Clock()
    codes = GrantStore(CODE_LIFETIME_SECONDS, clock)
    grant = Grant(ALICE, CALLBACK, "openid", None, challenge_of(VERIFIER))
    late, in_time = codes.issue(grant), codes.issue(grant)
    clock.advance(CODE_LIFETIME_SECONDS - 1)
    assert codes.redeem(in_time) == grant
    clock.advance(1)
    with pytest.raises(InvalidGrant):
        codes.redeem(late)


def test_concurrent_requests_redeem_a_code_once(issuer: DevIssuer, browser: httpx2.Client) -> None:
    code = code_for(browser)
    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(lambda _: redeem(browser, code).status_code, range(8)))
    assert sorted(statuses) == [200] + [400] * 7


# Userinfo and sign-out


def test_userinfo_returns_the_subject_of_the_access_token(browser: httpx2.Client, issuer: IssuerWithPen) -> None:
    userinfo = browser.get("/oidc/v1/userinfo", headers={"Authorization": f"Bearer {issuer.token(CHARLIE)}"}).json()
    assert (userinfo["sub"], userinfo["email"]) == ("charlie", "charlie@globex.example")


@pytest.mark.parametrize("authorization", ["Bearer eyJ.eyJ.x", "Bearer", "Basic YTpi", None])
def test_userinfo_requires_an_access_token(browser: httpx2.Client, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    response = browser.get("/oidc/v1/userinfo", headers=headers)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


RETURN = {"post_logout_redirect_uri": "http://localhost:8000/", "state": "s"}


def test_sign_out_redirects_to_the_hub(browser: httpx2.Client) -> None:
    hint = redeem(browser, code_for(browser)).json()["id_token"]
    for identification in ({"id_token_hint": hint}, {"client_id": CLIENT_ID}):
        response = browser.get("/oidc/v1/end_session", params={**identification, **RETURN})
        assert response.headers["Location"] == "http://localhost:8000/?state=s"


def test_sign_out_of_an_unknown_client_does_not_redirect(browser: httpx2.Client) -> None:
    assert browser.get("/oidc/v1/end_session", params=RETURN).status_code == 200
    assert browser.get("/oidc/v1/end_session", params={"client_id": "other", **RETURN}).status_code == 400


def test_sign_out_accepts_an_expired_hint_and_rejects_a_foreign_one(
    browser: httpx2.Client, issuer: IssuerWithPen
) -> None:
    old = issuer.id_token(exp=10, iat=1, nbf=1)
    assert browser.get("/oidc/v1/end_session", params={"id_token_hint": old}).status_code == 200
    for foreign in (issuer.id_token(iss="https://other.example"), issuer.id_token(azp="other")):
        assert browser.get("/oidc/v1/end_session", params={"id_token_hint": foreign}).status_code == 400


def test_sign_out_redirects_only_to_loopback_urls(browser: httpx2.Client) -> None:
    target = {"client_id": CLIENT_ID, "post_logout_redirect_uri": "https://evil.example/"}
    assert browser.get("/oidc/v1/end_session", params=target).status_code == 400


# Loopback only


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "", "login.example", "127.0.0.1.evil.example"])  # noqa: S104
def test_issuer_listens_only_on_loopback(tmp_path: Path, host: str) -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1"):
        DevIssuer(tmp_path, host=host)


def test_foreign_host_header_is_rejected(browser: httpx2.Client) -> None:
    response = browser.get("/oauth/v2/keys", headers={"Host": "evil.example"})
    assert response.status_code == 400


def test_pages_cannot_be_framed_or_scripted(browser: httpx2.Client) -> None:
    page = browser.get("/oauth/v2/authorize", params=authorization_request(state='"><script>alert(1)</script>'))
    assert "<script>" not in page.text
    assert "<script>" in unescape(page.text)
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def test_stylesheet_is_served(browser: httpx2.Client) -> None:
    assert browser.get("/static/issuer.css").status_code == 200


def test_issuer_restarts_on_the_same_port(own_issuer: IssuerWithPen) -> None:
    token, url = own_issuer.token(), own_issuer.url
    own_issuer.stop()
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(url, trust_env=False)
    own_issuer.start()
    assert own_issuer.url == url
    assert verifier(own_issuer).claims(token).subject == "alice"


def test_process_serves_until_sigterm(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "kataven.dev.issuer", "--port", str(port), "--data-dir", str(tmp_path)]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        document = discovery_once_ready(url, process)
        assert document["issuer"] == url
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        process.terminate()
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert second.returncode == 1
    assert second.stderr.splitlines() == [f"development issuer: cannot listen on {url}: Address already in use"]


def discovery_once_ready(url: str, process: subprocess.Popen[bytes]) -> dict[str, object]:
    while process.poll() is None:
        try:
            document: dict[str, object] = httpx2.get(f"{url}/.well-known/openid-configuration", trust_env=False).json()
        except httpx2.TransportError:
            continue
        return document
    raise AssertionError("the issuer exited unexpectedly")


def test_process_rejects_other_hosts(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "kataven.dev.issuer",
        "--host",
        "192.0.2.1",
        "--port",
        "1",
        "--data-dir",
        str(tmp_path),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "invalid choice" in result.stderr


def test_redirect_keeps_the_query_of_the_callback(browser: httpx2.Client) -> None:
    callback = f"{CALLBACK}?next=%2Fagents"
    response = browser.post(
        "/oauth/v2/authorize", data={**authorization_request(redirect_uri=callback), "person": "alice"}
    )
    query = parse_qs(urlsplit(response.headers["Location"]).query)
    assert query["next"] == ["/agents"]
    assert len(query["code"]) == 1
