"""Introspection (RFC 7662): the requests to the issuer, and the API and the Hub with a bound.

The issuer of these tests is held to npm's `oidc-provider`, which introspects opaque tokens only: see the tests marked
`node`.
"""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from flask import Flask
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

import app as factory
from kataven import settings
from kataven.dev.personas import ALICE, BOB
from kataven.identity.client_assertion import ClientKey, ClientSecret, read_key_file
from kataven.people.confirmations import IntrospectionFailed
from kataven.people.introspection import Introspector
from kataven.settings import SettingsError
from kataven.web.services import EXTENSION, Services
from tests.hub.conftest import Hub, hub
from tests.support.app_harness import AppHarness
from tests.support.independent_issuer import IndependentIssuers, Shape, independent_issuers
from tests.support.introspecting_issuer import CLIENT_ID, SECRET, IntrospectingIssuer, introspecting, introspector_for
from tests.support.waiting import wait_until

__all__ = ["hub", "independent_issuers"]

BOUND = 60


@pytest.fixture
def fake() -> Iterator[IntrospectingIssuer]:
    with introspecting() as issuer:
        yield issuer


@pytest.fixture
def introspector(fake: IntrospectingIssuer) -> Iterator[Introspector]:
    found = introspector_for(fake.url, ClientSecret(CLIENT_ID, SECRET))
    yield found
    found.close()


def test_the_issuer_says_whether_a_token_is_active(fake: IntrospectingIssuer, introspector: Introspector) -> None:
    fake.inactive.add("ended")
    assert introspector.ask("a token", "alice").result(30) is True
    assert introspector.ask("ended", "alice").result(30) is False
    assert fake.forms[0] == {"token": "a token", "token_type_hint": "access_token"}


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        ("401 Unauthorized", b"{}", "refused the client"),
        ("500 Internal Server Error", b"{}", "status 500"),
        ("302 Found", b"", "status 302"),
        ("200 OK", b"active", "not a JSON object"),
        ("200 OK", b'{"active":"true"}', "not a boolean"),
        ("200 OK", b'{"active":1}', "not a boolean"),
        ("200 OK", b"{}", "not a boolean"),
        ("200 OK", b'{"active":true,"sub":"bob"}', "another user"),
        ("200 OK", b'{"active":true,"iss":"https://another.example"}', "another user or issuer"),
        ("200 OK", b" " * 300_000, "too long"),
    ],
    ids=str,
)
def test_other_responses_confirm_nothing(
    fake: IntrospectingIssuer, introspector: Introspector, status: str, body: bytes, reason: str
) -> None:
    fake.replies = status, body
    with pytest.raises(IntrospectionFailed, match=reason):
        introspector.ask("a token", "alice").result(30)


def test_a_compressed_response_is_not_decompressed(fake: IntrospectingIssuer, introspector: Introspector) -> None:
    fake.compressed, fake.replies = True, ("200 OK", gzip.compress(b'{"active":true}'))
    with pytest.raises(IntrospectionFailed, match="not a JSON object"):
        introspector.ask("a token", "alice").result(30)


def test_a_silent_issuer_fails_in_time(fake: IntrospectingIssuer) -> None:
    fake.held = threading.Event()
    introspector = introspector_for(fake.url, ClientSecret(CLIENT_ID, SECRET), timeout_seconds=0.2)
    try:
        with pytest.raises(IntrospectionFailed, match="in time"):
            introspector.ask("a token", "alice").result(30)
    finally:
        fake.held.set()
        introspector.close()


def test_an_issuer_without_an_endpoint_confirms_nothing(harness: AppHarness) -> None:
    introspector = introspector_for(harness.issuer.url, ClientSecret(CLIENT_ID, SECRET))
    with pytest.raises(IntrospectionFailed, match="no introspection endpoint"):
        introspector.ask("a token", "alice").result(30)
    introspector.close()


RSA, EC = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
PEM = RSA.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
ZITADEL = {"type": "application", "keyId": "zitadel-1", "key": PEM, "appId": "1", "clientId": "1@kataven"}
KEY_FILES = {
    "rsa": {**RSAAlgorithm.to_jwk(RSA, as_dict=True), "kid": "rsa-1"},
    "ec": {**ECAlgorithm.to_jwk(EC, as_dict=True), "kid": "ec-1"},
    "zitadel": ZITADEL,
}


@pytest.mark.parametrize("kind", KEY_FILES)
def test_a_key_signs_an_assertion_for_the_issuer(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(KEY_FILES[kind]))
    key = read_key_file(path)
    assert key.client_id == ("1@kataven" if kind == "zitadel" else None)
    form: dict[str, str] = {}
    ClientKey("me", "https://issuer.example", key.key_id, key.private).authenticate({}, form)
    public: Any = (EC if kind == "ec" else RSA).public_key()
    token = form["client_assertion"]
    claims = jwt.decode(token, public, algorithms=["RS256", "ES256"], audience="https://issuer.example")
    assert (claims["iss"], claims["sub"], form["client_id"]) == ("me", "me", "me")
    assert 0 < claims["exp"] - time.time() <= 60
    assert jwt.get_unverified_header(token)["kid"] == key.key_id
    assert PEM not in repr(key)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is not JSON"),
        ("{}", "contains no private RSA key"),
        (json.dumps(RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True)), "contains no private RSA key"),
        (json.dumps({**ZITADEL, "key": "-----BEGIN"}), "contains no private RSA key"),
        (json.dumps({**ZITADEL, "keyId": 1}), "has a key id"),
        (None, "can't be read"),
    ],
    ids=["no json", "empty", "public", "no pem", "key id", "no file"],
)
def test_an_unusable_key_file_is_a_problem_of_the_settings(
    harness: AppHarness, tmp_path: Path, content: str | None, problem: str
) -> None:
    path = tmp_path / "key.json"
    if content is not None:
        path.write_text(content)
    environ = {
        **harness.environ,
        "KATAVEN_OIDC_INTROSPECTION_SECONDS": "60",
        "KATAVEN_OIDC_INTROSPECTION_KEY": str(path),
    }
    with pytest.raises(SettingsError) as error:
        settings.load(environ)
    assert [line for line in error.value.problems if line.startswith(f"KATAVEN_OIDC_INTROSPECTION_KEY: {problem}")]


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"GRACE_SECONDS": "5"}, "KATAVEN_OIDC_INTROSPECTION_SECONDS: is missing"),
        ({"SECONDS": "60"}, "KATAVEN_OIDC_INTROSPECTION_CLIENT_SECRET: is missing"),
        ({"SECONDS": "5", "CLIENT_SECRET": "s"}, "KATAVEN_OIDC_INTROSPECTION_SECONDS: "),
        ({"SECONDS": "60", "CLIENT_SECRET": "s", "KEY": "x"}, "KATAVEN_OIDC_INTROSPECTION_KEY: must not be set"),
    ],
    ids=str,
)
def test_incomplete_settings_are_reported(harness: AppHarness, environ: dict[str, str], problem: str) -> None:
    given = {f"KATAVEN_OIDC_INTROSPECTION_{name}": value for name, value in environ.items()}
    with pytest.raises(SettingsError) as error:
        settings.load({**harness.environ, **given})
    assert any(line.startswith(problem) for line in error.value.problems), error.value.problems


@pytest.fixture
def bounded(harness: AppHarness, fake: IntrospectingIssuer) -> Iterator[Flask]:
    """The API with a bound, whose tokens are introspected at the fake issuer."""
    environ = {
        **harness.environ,
        "KATAVEN_OIDC_INTROSPECTION_SECONDS": str(BOUND),
        "KATAVEN_OIDC_INTROSPECTION_CLIENT_ID": CLIENT_ID,
        "KATAVEN_OIDC_INTROSPECTION_CLIENT_SECRET": SECRET,
    }
    app = factory.create_api(settings.load(environ))
    services: Services = app.extensions[EXTENSION]
    assert services.confirmations is not None
    services.confirmations._introspector = introspector_for(fake.url, ClientSecret(CLIENT_ID, SECRET))
    services.start()
    wait_until(services.revocation.guard.leases_valid, 60)  # until then, nothing is cached
    yield app
    services.stop()


def call(app: Flask, token: str) -> str:
    headers = {"Authorization": f"Bearer {token}", "X-Account-ID": "acme"}
    response = app.test_client().get("/v1/me", headers=headers)
    return "accepted" if response.status_code == 200 else str(response.get_json()["code"])


def test_the_api_accepts_what_the_issuer_confirms(
    harness: AppHarness, bounded: Flask, fake: IntrospectingIssuer
) -> None:
    dana = replace(ALICE, subject=f"dana-{uuid4()}")
    fresh = harness.issuer.token(dana)
    old, ended = (harness.issuer.token(dana, claims={"iat": int(time.time()) - 300, "jti": jti}) for jti in "12")
    fake.inactive.add(ended)
    assert [call(bounded, fresh), call(bounded, old), call(bounded, old)] == ["accepted"] * 3
    assert [call(bounded, ended), call(bounded, ended)] == ["session_ended"] * 2
    assert fake.asked == [old, ended], "neither the fresh token, nor a token that was asked about before"
    fake.replies = "503 Service Unavailable", b""
    older = harness.issuer.token(dana, claims={"iat": int(time.time()) - 300, "jti": "3"})
    assert call(bounded, older) == "unavailable"
    assert call(bounded, fresh) == "accepted"


def test_unverified_tokens_are_not_introspected(harness: AppHarness, bounded: Flask, fake: IntrospectingIssuer) -> None:
    old = harness.issuer.token(ALICE, claims={"iat": int(time.time()) - 300})
    head, payload, signature = old.split(".")
    elsewhere = harness.issuer.token(replace(BOB, account="globex"), claims={"iat": int(time.time()) - 300})
    assert call(bounded, f"{head}.{payload}.{signature[:-8]}AAAAAAAA") == "invalid_credential"
    assert call(bounded, harness.issuer.token(ALICE, claims={"exp": 1})) == "expired_credential"
    assert call(bounded, elsewhere) == "account_mismatch"
    assert fake.asked == []


def test_the_hub_ends_a_session_whose_token_is_not_active(
    hub: Hub, harness: AppHarness, bounded: Flask, fake: IntrospectingIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirmations = bounded.extensions[EXTENSION].confirmations
    object.__setattr__(hub.services, "confirmations", confirmations)
    try:
        browser = hub.signed_in(BOB)
        assert browser.get("/accounts").status_code == 200
        confirmations._wall_clock = lambda: time.time() + 300
        monkeypatch.setattr(confirmations, "_remembered", type(confirmations._remembered)(10))
        fake.replies = "200 OK", b'{"active":false}'
        ended = browser.get("/accounts")
        assert (ended.status_code, "ended=revoked" in ended.headers["Location"]) == (303, True)
    finally:
        object.__setattr__(hub.services, "confirmations", None)


@pytest.mark.node
@pytest.mark.parametrize("method", ["client_secret_basic", "private_key_jwt"])
def test_an_independent_issuer_introspects(independent_issuers: IndependentIssuers, method: str) -> None:
    client: Any = {"client_id": CLIENT_ID, "redirect_uris": [], "response_types": [], "grant_types": []}
    client["token_endpoint_auth_method"] = method
    if method == "private_key_jwt":
        public = RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True)
        client["jwks"] = {"keys": [{**public, "kid": "rsa-1", "use": "sig", "alg": "RS256"}]}
    else:
        client["client_secret"] = SECRET
    issuer = independent_issuers.start(
        Shape("http://localhost/callback", "http://localhost/out", audience=None, introspection_clients=[client])
    )
    authentication = (
        ClientKey(CLIENT_ID, issuer, "rsa-1", RSA) if method == "private_key_jwt" else ClientSecret(CLIENT_ID, SECRET)
    )
    token = independent_issuers.opaque_token(issuer, "alice")
    introspector = introspector_for(issuer, authentication)
    wrong = introspector_for(issuer, ClientSecret(CLIENT_ID, "another secret"))
    try:
        assert introspector.ask(token, "alice").result(30) is True
        with pytest.raises(IntrospectionFailed, match="another user"):
            introspector.ask(token, "bob").result(30)
        independent_issuers.revoke_token(issuer, token)
        assert introspector.ask(token, "alice").result(30) is False
        assert introspector.ask("unknown", "alice").result(30) is False
        with pytest.raises(IntrospectionFailed, match="refused the client"):
            wrong.ask(token, "alice").result(30)
        with pytest.raises(IntrospectionFailed, match="status 400"):  # it introspects no JWTs: nothing is confirmed
            introspector.ask(independent_issuers.access_token(issuer, "alice"), "alice").result(30)
    finally:
        introspector.close()
        wrong.close()


def test_the_fake_issuer_refuses_clients_as_the_independent_one_does(fake: IntrospectingIssuer) -> None:
    form = {"token": "a token"}
    assert httpx2.post(f"{fake.url}/introspect", data=form, trust_env=False).status_code == 401
    wrong = httpx2.post(f"{fake.url}/introspect", data=form, auth=(CLIENT_ID, "another"), trust_env=False)
    assert wrong.status_code == 401
