"""Tokens of one issuer, key, type and audience for different uses: each is accepted only for its own use."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest

from kataven.identity.errors import ExpiredCredential, InvalidCredential
from kataven.identity.jwks import JwksClient
from kataven.identity.jwt import JwtVerifier
from kataven.identity.jwt_use import AccessTokens, IdTokens, JwtUse
from kataven.logs import formatter
from tests.support.clock import Clock
from tests.support.jose import ec_signer
from tests.support.key_server import ISSUER, KeyServer, good_claims

NOW = 1_800_000_000
OF_ACCESS = {"client_id": "kataven-hub", "jti": "1"}
OF_ID = {"jti": None, "azp": "kataven-hub", "nonce": "n", "at_hash": "h", "auth_time": NOW, "amr": ["pwd"]}
EVENTS: dict[str, object] = {"http://schemas.openid.net/event/backchannel-logout": {}}


def verifier(use: JwtUse | None = None, audience: str = "kataven") -> JwtVerifier:
    keys = JwksClient(ISSUER, KeyServer(ec_signer().jwk()), clock=Clock())
    return JwtVerifier(keys, ISSUER, audience, Clock(NOW), use)


def token(typ: Any = "JWT", /, **claims: Any) -> str:
    return ec_signer().token(good_claims(NOW, **claims), typ=typ)


def broken_rule(verifying: JwtVerifier, text: str) -> str | None:
    try:
        verifying.claims(text)
    except InvalidCredential as refusal:
        return refusal.rule
    return None


def test_the_response_does_not_name_the_rule() -> None:
    with pytest.raises(InvalidCredential, match=f"^{InvalidCredential.explanation}$"):
        verifier().claims(token(**OF_ID))


@pytest.mark.parametrize(
    ("typ", "claims", "rule"),
    [
        ("JWT", OF_ACCESS, None),
        (None, OF_ACCESS, None),
        ("at+jwt", {"jti": None}, None),
        ("application/AT+JWT", {"jti": None}, None),
        # RFC 9068, section 2.2.1: access tokens may contain how and when the user signed in.
        ("JWT", {**OF_ACCESS, "auth_time": NOW, "amr": ["pwd"], "acr": "1", "azp": "kataven-hub"}, None),
        ("JWT", OF_ID, "id_token"),
        ("JWT", {**OF_ID, "jti": "1"}, "id_token"),
        ("JWT", {"nonce": "n"}, "id_token"),
        ("JWT", {"nonce": ""}, "id_token"),
        ("JWT", {"at_hash": "h"}, "id_token"),
        ("JWT", {"c_hash": "h"}, "id_token"),
        ("JWT", {"s_hash": "h"}, "id_token"),
        ("at+jwt", {"nonce": "n"}, "id_token"),
        ("JWT", {"events": EVENTS}, "event"),
        ("JWT", {"jti": None}, "no_jti"),
        ("JWT", {"jti": ""}, "no_jti"),
        ("JWT", {"jti": 1}, "no_jti"),
        ("application/jwt", {"jti": None}, "no_jti"),
        # ID tokens of a refresh, with none of the claims of ID tokens.
        ("JWT", {"jti": "1", "aud": "kataven-hub"}, "audience"),
        # Keycloak marks the kind of a token among its claims, and Amazon Cognito does.
        ("JWT", {**OF_ACCESS, "typ": "Bearer"}, None),
        ("JWT", {**OF_ACCESS, "typ": "ID"}, "id_token"),
        ("JWT", {**OF_ACCESS, "typ": "Refresh"}, "id_token"),
        ("JWT", {**OF_ACCESS, "token_use": "access"}, None),
        ("JWT", {**OF_ACCESS, "token_use": "id"}, "id_token"),
        ("JWT", {**OF_ACCESS, "token_use": ["id"]}, None),
    ],
    ids=str,
)
def test_the_api_accepts_only_access_tokens(typ: str | None, claims: dict[str, object], rule: str | None) -> None:
    assert broken_rule(verifier(), token(typ, **claims)) == rule


@pytest.mark.parametrize(
    ("typ", "claims", "rule"),
    [
        ("JWT", {"aud": "kataven-hub"}, "id_token"),
        ("JWT", {"aud": ["kataven-hub"]}, "id_token"),
        ("JWT", {"aud": ["kataven-hub", "the project"]}, None),
        ("at+jwt", {"aud": "kataven-hub"}, None),
    ],
    ids=str,
)
def test_an_id_token_of_the_hub_is_rejected_even_if_the_api_has_the_same_audience(
    typ: str, claims: dict[str, object], rule: str | None
) -> None:
    use = AccessTokens(sign_in_client="kataven-hub")
    assert broken_rule(verifier(use, audience="kataven-hub"), token(typ, **{**OF_ACCESS, **claims})) == rule


@pytest.mark.parametrize(
    ("typ", "rule"), [("at+jwt", None), ("application/at+jwt", None), ("JWT", "not_at_jwt"), (None, "not_at_jwt")]
)
def test_the_type_of_rfc_9068_can_be_required(typ: str | None, rule: str | None) -> None:
    assert broken_rule(verifier(AccessTokens(requires_type=True)), token(typ, **OF_ACCESS)) == rule


@pytest.mark.parametrize(
    ("typ", "claims", "rule"),
    [
        ("JWT", OF_ID, None),
        ("JWT", {**OF_ID, "aud": "kataven-hub"}, None),
        ("JWT", {**OF_ID, "azp": None, "aud": ["kataven-hub", "kataven"]}, None),
        ("JWT", {**OF_ID, "jti": "1"}, None),
        ("JWT", {**OF_ID, "azp": "another"}, "azp"),
        ("JWT", {**OF_ID, "azp": ["kataven-hub"]}, "azp"),
        ("at+jwt", OF_ID, "access_token"),
        ("JWT", {**OF_ID, "events": EVENTS}, "event"),
    ],
    ids=str,
)
def test_the_hub_accepts_only_its_own_id_tokens(typ: str | None, claims: dict[str, object], rule: str | None) -> None:
    assert broken_rule(verifier(IdTokens("kataven-hub"), "kataven-hub"), token(typ, **claims)) == rule


def test_an_id_token_for_another_client_is_rejected() -> None:
    with pytest.raises(InvalidCredential, match="`aud` does not contain"):
        verifier(IdTokens("kataven-hub"), "kataven-hub").claims(token(**{**OF_ID, "aud": ["kataven"]}))


@pytest.mark.parametrize(
    ("claims", "rule"),
    [
        ({"client_id": "kataven-hub"}, None),
        ({"azp": "kataven-ci"}, None),
        ({"client_id": "kataven-hub", "azp": "kataven-hub"}, None),
        ({"cid": "kataven-hub"}, None),  # Okta
        ({"client_id": "kataven-hub", "cid": "another"}, "client_not_allowed"),
        ({"client_id": "another"}, "client_not_allowed"),
        ({"client_id": "kataven-hub", "azp": "another"}, "client_not_allowed"),
        ({"client_id": "another", "azp": "kataven-hub"}, "client_not_allowed"),
        ({"client_id": ["kataven-hub"]}, "client_not_allowed"),
        ({"client_id": ""}, "client_not_allowed"),
        ({}, "client_not_allowed"),
    ],
    ids=str,
)
def test_with_allowed_clients_tokens_of_other_clients_are_rejected(claims: dict[str, object], rule: str | None) -> None:
    assert broken_rule(verifier(AccessTokens(["kataven-hub", "kataven-ci"])), token(**claims)) == rule


def test_without_allowed_clients_every_client_of_the_issuer_is_accepted() -> None:
    assert broken_rule(verifier(), token(client_id="any")) is None


def test_a_forged_or_expired_token_gets_its_own_reason() -> None:
    forged = ec_signer("forger").named("ec-1").token(good_claims(NOW, nonce="n"))
    with pytest.raises(InvalidCredential, match="signature"):
        verifier().claims(forged)
    old = {"exp": NOW - 3600, "iat": NOW - 7200, "nbf": NOW - 7200}
    with pytest.raises(ExpiredCredential):
        verifier().claims(token(**old))
    with pytest.raises(InvalidCredential) as refusal:
        verifier().claims(token(**old, nonce="n"))
    assert refusal.value.rule == "id_token"


def test_the_log_names_the_rule_and_contains_no_token(caplog: pytest.LogCaptureFixture) -> None:
    text, lines = token(**OF_ID, email="private@acme.example"), io.StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(formatter())
    logger = logging.getLogger("kataven.identity.jwt")
    caplog.set_level(logging.INFO, logger.name)
    logger.addHandler(handler)
    try:
        with pytest.raises(InvalidCredential):
            verifier().claims(text)
    finally:
        logger.removeHandler(handler)
    line = lines.getvalue()
    assert {"rule": "id_token", "sub": "alice"}.items() <= json.loads(line).items()
    assert "private" not in line
    assert text not in line
    assert text.rpartition(".")[2] not in line
