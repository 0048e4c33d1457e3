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
    """One to rotate and to stop."""
    with IssuerWithPen(tmp_path) as running:
        yield running


def verifier(running: DevIssuer, audience: str = AUDIENCE, use: JwtUse | None = None) -> JwtVerifier:
    client = JwksClient(running.url, HttpFetcher(), allow_loopback_http=True)
    return JwtVerifier(client, running.url, audience, time.time, use)


def id_verifier(running: DevIssuer) -> JwtVerifier:
    return verifier(running, CLIENT_ID, IdTokens(CLIENT_ID))


class AnyUse:
    """What a verifier without rules for uses would do."""

    def broken_rule(self, header: Mapping[str, Any], payload: Mapping[str, Any]) -> str | None:
        return None


def question(**changes: str | None) -> dict[str, str]:
    asked = {
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
    return {name: value for name, value in asked.items() if value is not None}


def answer_in(response: httpx2.Response) -> dict[str, str]:
    assert response.status_code == 303
    return dict(parse_qsl(urlsplit(response.headers["Location"]).query))


def code_for(browser: httpx2.Client, person: Persona = ALICE, **changes: str | None) -> str:
    response = browser.post("/oauth/v2/authorize", data={**question(**changes), "person": person.subject})
    return answer_in(response)["code"]


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


# Tokens and keys.


@pytest.mark.parametrize("person", PERSONAS, ids=lambda person: person.subject)
def test_signed_token_is_good_for_the_api(issuer: IssuerWithPen, person: Persona) -> None:
    claims = verifier(issuer).claims(issuer.token(person))
    assert (claims.subject, claims.name) == (person.subject, person.name)
    assert organisations(claims.all) == {org_id(person.account)}


def test_cast_holds_the_roles_of_its_story(issuer: IssuerWithPen) -> None:
    api = verifier(issuer)
    held = {person.name: strongest_role(api.claims(issuer.token(person)).all, org_id("acme")) for person in PERSONAS}
    assert held == {"Alice": Role.OWNER, "Bob": Role.MEMBER, "Charlie": None, "Olivia": None}
    assert is_operator(api.claims(issuer.token(OLIVIA)).all, org_id("kataven-admin"))
    assert not is_operator(api.claims(issuer.token(CHARLIE)).all, org_id("kataven-admin"))


def test_token_can_be_made_wrong_in_any_way_for_tests(issuer: IssuerWithPen) -> None:
    api = verifier(issuer)
    with pytest.raises(ExpiredCredential):
        api.claims(issuer.token(claims={"exp": 1, "iat": None, "nbf": None}))
    with pytest.raises(InvalidCredential):
        api.claims(issuer.token(BOB, kid="unknown"))


def test_command_line_token_is_for_the_cast_or_for_somebody_made_up(own_issuer: IssuerWithPen, tmp_path: Path) -> None:
    api = verifier(own_issuer)
    alice = api.claims(sign(tmp_path, own_issuer.url, "acme", Role.OWNER))
    assert alice.subject == "alice"
    admin = api.claims(sign(tmp_path, own_issuer.url, "initech", Role.ADMIN))
    assert strongest_role(admin.all, org_id("initech")) is Role.ADMIN
    named = api.claims(sign(tmp_path, own_issuer.url, "acme", Role.OWNER, subject="dana", ttl_seconds=60))
    assert (named.subject, named.name) == ("dana", "dana")
    assert named.expires_at - named.all["iat"] == 60


def test_keys_are_private_to_their_owner(own_issuer: IssuerWithPen, tmp_path: Path) -> None:
    assert own_issuer.token()
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert {path.name for path in files} == {"oidc-keys.json", "oidc-keys.lock"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_published_keys_are_public_halves_only(browser: httpx2.Client) -> None:
    keys = browser.get("/oauth/v2/keys").json()["keys"]
    assert [key["alg"] for key in keys] == ["ES256", "RS256"]
    assert all(set(key) <= {"kid", "alg", "use", "kty", "crv", "x", "y", "n", "e"} for key in keys)


def test_processes_that_start_together_agree_on_one_set_of_keys(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        sets = list(threads.map(lambda _: json.dumps(Keyring(tmp_path).public_jwks()), range(4)))
    assert len(set(sets)) == 1


def test_damaged_key_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "oidc-keys.json").write_text("{")
    with pytest.raises(DevError, match=r"oidc-keys\.json is damaged"):
        DevIssuer(tmp_path).start()


def test_rotation_keeps_what_was_signed_before_for_one_more_round(own_issuer: IssuerWithPen) -> None:
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


def test_both_algorithms_verify(own_issuer: IssuerWithPen) -> None:
    api = verifier(own_issuer)
    for algorithm in ("ES256", "RS256"):
        assert api.claims(own_issuer.token(algorithm=algorithm)).subject == "alice"


# Signing in.


def test_discovery_names_what_is_served(browser: httpx2.Client, issuer: DevIssuer) -> None:
    document = browser.get("/.well-known/openid-configuration").json()
    assert document["issuer"] == issuer.url
    assert document["code_challenge_methods_supported"] == ["S256"]
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint", "end_session_endpoint"):
        assert browser.options(document[name]).status_code == 200


def test_page_offers_the_cast_and_keeps_the_question(browser: httpx2.Client) -> None:
    page = browser.get("/oauth/v2/authorize", params=question())
    assert page.status_code == 200
    for person in PERSONAS:
        assert f'value="{person.subject}"' in page.text
    assert 'value="a state &amp; more"' in page.text


def test_sign_in_ends_with_tokens_for_hub_and_api(browser: httpx2.Client, issuer: DevIssuer) -> None:
    response = browser.post("/oauth/v2/authorize", data={**question(), "person": "bob"})
    assert response.headers["Location"].startswith(f"{CALLBACK}?")
    answer = answer_in(response)
    assert (answer["state"], answer["iss"]) == ("a state & more", issuer.url)
    tokens = redeem(browser, answer["code"])
    assert tokens.headers["Cache-Control"] == "no-store"
    body = tokens.json()
    assert (body["token_type"], body["scope"]) == ("Bearer", "openid profile")
    identity = id_verifier(issuer).claims(body["id_token"])
    assert (identity.subject, identity.all["nonce"]) == ("bob", "a nonce")
    access = verifier(issuer).claims(body["access_token"])
    assert strongest_role(access.all, org_id("acme")) is Role.MEMBER


def test_access_and_id_token_differ_in_what_those_of_zitadel_differ_in(
    browser: httpx2.Client, issuer: DevIssuer
) -> None:
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


def test_nothing_but_its_use_keeps_the_id_token_from_the_api(browser: httpx2.Client, issuer: DevIssuer) -> None:
    """The peer shows the confusion: a verifier that does not ask what a token is for takes it, with Alice's role."""
    id_token = redeem(browser, code_for(browser)).json()["id_token"]
    taken = verifier(issuer, use=AnyUse()).claims(id_token)
    assert strongest_role(taken.all, org_id("acme")) is Role.OWNER
    with pytest.raises(InvalidCredential) as refusal:
        verifier(issuer).claims(id_token)
    assert refusal.value.rule == "id_token"


def test_a_scope_that_there_is_not_is_left_out_and_can_not_be_asked_for_at_a_refresh(browser: httpx2.Client) -> None:
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
    assert refresh().status_code == 400  # used up by the attempt


def test_a_refresh_without_a_scope_has_all_that_was_granted(browser: httpx2.Client) -> None:
    granted = redeem(browser, code_for(browser, scope="openid offline_access address")).json()
    form = {"grant_type": "refresh_token", "client_id": CLIENT_ID, "refresh_token": granted["refresh_token"]}
    assert browser.post("/oauth/v2/token", data=form).json()["scope"] == "openid offline_access"


def test_nonce_and_state_are_given_back_only_if_sent(browser: httpx2.Client, issuer: DevIssuer) -> None:
    answer = answer_in(
        browser.post("/oauth/v2/authorize", data={**question(state=None, nonce=None), "person": "alice"})
    )
    assert set(answer) == {"code", "iss"}
    claims = id_verifier(issuer).claims(redeem(browser, answer["code"]).json()["id_token"])
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
def test_callback_may_be_on_any_loopback_name_and_port(browser: httpx2.Client, redirect_uri: str) -> None:
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
def test_untrusted_client_or_redirect_is_told_to_the_person_and_not_followed(
    browser: httpx2.Client, changes: dict[str, str | None]
) -> None:
    for response in (
        browser.get("/oauth/v2/authorize", params=question(**changes)),
        browser.post("/oauth/v2/authorize", data={**question(**changes), "person": "alice"}),
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
def test_other_refusals_go_back_to_the_client_with_its_state(
    browser: httpx2.Client, changes: dict[str, str | None], error: str
) -> None:
    answer = answer_in(browser.post("/oauth/v2/authorize", data={**question(**changes), "person": "alice"}))
    assert (answer["error"], answer["state"]) == (error, "a state & more")
    assert "code" not in answer


def test_repeated_parameter_is_refused(browser: httpx2.Client) -> None:
    answer = answer_in(browser.get("/oauth/v2/authorize", params=[*question().items(), ("scope", "openid")]))
    assert answer["error"] == "invalid_request"


def test_nobody_outside_the_cast_signs_in(browser: httpx2.Client) -> None:
    response = browser.post("/oauth/v2/authorize", data={**question(), "person": "mallory"})
    assert response.status_code == 400


# Codes.


def test_code_is_good_once(browser: httpx2.Client) -> None:
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
def test_code_is_for_the_one_who_asked(
    browser: httpx2.Client, changes: dict[str, str | None], status: int, error: str
) -> None:
    response = redeem(browser, code_for(browser), **changes)
    assert (response.status_code, response.json()["error"]) == (status, error)
    assert response.headers["Cache-Control"] == "no-store"


def test_wrong_verifier_uses_the_code_up(browser: httpx2.Client) -> None:
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


def test_only_one_of_many_who_show_a_code_gets_tokens(issuer: DevIssuer, browser: httpx2.Client) -> None:
    code = code_for(browser)
    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(lambda _: redeem(browser, code).status_code, range(8)))
    assert sorted(statuses) == [200] + [400] * 7


# Afterwards.


def test_userinfo_tells_who_the_access_token_is_for(browser: httpx2.Client, issuer: IssuerWithPen) -> None:
    told = browser.get("/oidc/v1/userinfo", headers={"Authorization": f"Bearer {issuer.token(CHARLIE)}"}).json()
    assert (told["sub"], told["email"]) == ("charlie", "charlie@globex.example")


@pytest.mark.parametrize("authorization", ["Bearer eyJ.eyJ.x", "Bearer", "Basic YTpi", None])
def test_userinfo_needs_an_access_token(browser: httpx2.Client, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    response = browser.get("/oidc/v1/userinfo", headers=headers)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


BACK = {"post_logout_redirect_uri": "http://localhost:8000/", "state": "s"}


def test_sign_out_leads_back_to_the_hub(browser: httpx2.Client) -> None:
    hint = redeem(browser, code_for(browser)).json()["id_token"]
    for known_by in ({"id_token_hint": hint}, {"client_id": CLIENT_ID}):
        response = browser.get("/oidc/v1/end_session", params={**known_by, **BACK})
        assert response.headers["Location"] == "http://localhost:8000/?state=s"


def test_sign_out_of_an_unknown_client_leads_nowhere(browser: httpx2.Client) -> None:
    assert browser.get("/oidc/v1/end_session", params=BACK).status_code == 200
    assert browser.get("/oidc/v1/end_session", params={"client_id": "other", **BACK}).status_code == 400


def test_sign_out_takes_an_old_hint_and_no_foreign_one(browser: httpx2.Client, issuer: IssuerWithPen) -> None:
    old = issuer.id_token(exp=10, iat=1, nbf=1)
    assert browser.get("/oidc/v1/end_session", params={"id_token_hint": old}).status_code == 200
    for foreign in (issuer.id_token(iss="https://other.example"), issuer.id_token(azp="other")):
        assert browser.get("/oidc/v1/end_session", params={"id_token_hint": foreign}).status_code == 400


def test_sign_out_leads_nowhere_else(browser: httpx2.Client) -> None:
    target = {"client_id": CLIENT_ID, "post_logout_redirect_uri": "https://evil.example/"}
    assert browser.get("/oidc/v1/end_session", params=target).status_code == 400


# Being local.


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "", "login.example", "127.0.0.1.evil.example"])  # noqa: S104
def test_it_listens_on_loopback_alone(tmp_path: Path, host: str) -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1"):
        DevIssuer(tmp_path, host=host)


def test_web_page_that_rebinds_its_name_is_not_answered(browser: httpx2.Client) -> None:
    response = browser.get("/oauth/v2/keys", headers={"Host": "evil.example"})
    assert response.status_code == 400


def test_pages_can_not_be_framed_or_scripted(browser: httpx2.Client) -> None:
    page = browser.get("/oauth/v2/authorize", params=question(state='"><script>alert(1)</script>'))
    assert "<script>" not in page.text
    assert "<script>" in unescape(page.text)
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def test_style_of_the_page_is_served(browser: httpx2.Client) -> None:
    assert browser.get("/static/issuer.css").status_code == 200


def test_it_stops_and_starts_again_on_the_same_port(own_issuer: IssuerWithPen) -> None:
    token, url = own_issuer.token(), own_issuer.url
    own_issuer.stop()
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(url, trust_env=False)
    own_issuer.start()
    assert own_issuer.url == url
    assert verifier(own_issuer).claims(token).subject == "alice"


def test_process_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
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


def test_process_refuses_to_listen_for_others(tmp_path: Path) -> None:
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


def test_redirect_keeps_a_query_of_the_callback(browser: httpx2.Client) -> None:
    callback = f"{CALLBACK}?next=%2Fagents"
    response = browser.post("/oauth/v2/authorize", data={**question(redirect_uri=callback), "person": "alice"})
    query = parse_qs(urlsplit(response.headers["Location"]).query)
    assert query["next"] == ["/agents"]
    assert len(query["code"]) == 1
