"""Which JWTs are valid, and the errors for expired and not yet valid ones."""

from __future__ import annotations

import pytest

from kataven.identity.errors import ExpiredCredential, InvalidCredential, VerifierUnavailable
from kataven.identity.jwks import JwksClient
from kataven.identity.jwt import JwtVerifier
from tests.support.clock import Clock
from tests.support.jose import Signer, ec_signer, ed_signer, rsa_signer
from tests.support.key_server import ISSUER, KeyServer, good_claims

SIGNERS = (rsa_signer(), rsa_signer().named("rsa-pss").using("PS256"), ec_signer(), ed_signer())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server() -> KeyServer:
    return KeyServer(*(signer.jwk() for signer in SIGNERS))


@pytest.fixture
def verifier(server: KeyServer, clock: Clock) -> JwtVerifier:
    return JwtVerifier(JwksClient(ISSUER, server, clock=clock), ISSUER, "kataven", clock)


@pytest.mark.parametrize("signer", SIGNERS, ids=lambda signer: signer.algorithm)
def test_token_of_each_allowed_algorithm_is_accepted(verifier: JwtVerifier, clock: Clock, signer: Signer) -> None:
    claims = verifier.claims(signer.token(good_claims(clock.now)))
    assert (claims.subject, claims.name, claims.expires_at) == ("alice", "Alice", clock.now + 3600)
    assert claims.all["aud"] == ["kataven-hub", "kataven"]


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "kataven"},
        {"aud": ["kataven"]},
        {"aud": ["another", "kataven", "a third"]},
        {"exp": 1_800_000_600.75},
        {"exp": 1_800_000_060, "iat": 1_800_000_000.5, "nbf": 1_799_999_999.25},
        {"nbf": None},
        {"iat": None},
        {"sub": "2" * 255},
        {"sub": "272 183|sub@project"},
        {"jti": "1", "scope": "openid", "unknown": {"nested": [1, 2, {"a": None}]}},
        {"exp": 253_402_300_799},
    ],
    ids=str,
)
def test_valid_variants_of_claims_are_accepted(verifier: JwtVerifier, clock: Clock, claims: dict[str, object]) -> None:
    payload = good_claims(clock.now, **claims)
    assert verifier.claims(ec_signer().token(payload)).all == payload


@pytest.mark.parametrize("kind", [None, "JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "application/jwt"])
def test_types_of_access_and_id_tokens_are_accepted(verifier: JwtVerifier, clock: Clock, kind: str | None) -> None:
    assert verifier.claims(ec_signer().token(good_claims(clock.now), typ=kind)).subject == "alice"


def test_harmless_header_parameters_are_ignored(verifier: JwtVerifier, clock: Clock) -> None:
    token = ec_signer().token(good_claims(clock.now), x5t="c2hhMQ", cty="json", trace="abc")
    assert verifier.claims(token).subject == "alice"


@pytest.mark.parametrize(
    "members",
    [
        {"alg": None},
        {"use": None},
        {"alg": None, "use": None, "key_ops": None},
        {"key_ops": ["verify"]},
        {"use": None, "key_ops": ["sign", "verify"]},
        {"x5t": "c2hhMQ", "x5c": ["MIIB"], "unknown": {"a": 1}},
    ],
    ids=str,
)
@pytest.mark.parametrize("signer", SIGNERS, ids=lambda signer: signer.algorithm)
def test_keys_with_optional_members_absent_or_fitting_are_used(
    verifier: JwtVerifier, server: KeyServer, clock: Clock, signer: Signer, members: dict[str, object]
) -> None:
    server.publish(signer.jwk(**members))
    assert verifier.claims(signer.token(good_claims(clock.now))).subject == "alice"


def test_rsa_key_without_algorithm_serves_both_rsa_algorithms(
    verifier: JwtVerifier, server: KeyServer, clock: Clock
) -> None:
    server.publish(rsa_signer().jwk(alg=None))
    for algorithm in ("RS256", "PS256"):
        assert verifier.claims(rsa_signer().using(algorithm).token(good_claims(clock.now))).subject == "alice"


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"name": "Alice A.", "email": "alice@acme.example"}, "Alice A."),
        ({"name": None, "preferred_username": "alice@acme", "email": "a@acme.example"}, "alice@acme"),
        ({"name": "", "email": "alice@acme.example"}, "alice@acme.example"),
        ({"name": None}, "alice"),
        ({"name": ["Alice"]}, "alice"),
        ({"name": "Alice\nadmin: yes"}, "alice"),
        ({"name": "A" * 201}, "alice"),
        ({"name": "Zoë 🦊"}, "Zoë 🦊"),
    ],
)
def test_name_is_the_first_printable_claim_or_else_the_subject(
    verifier: JwtVerifier, clock: Clock, claims: dict[str, object], name: str
) -> None:
    assert verifier.claims(ec_signer().token(good_claims(clock.now, **claims))).name == name


def test_expiry_has_thirty_seconds_of_leeway(verifier: JwtVerifier, clock: Clock) -> None:
    token = ec_signer().token(good_claims(clock.now, exp=clock.now + 10))
    clock.advance(10 + 29.9)
    assert verifier.claims(token).expires_at == clock.now - 29.9
    clock.advance(0.1)
    with pytest.raises(ExpiredCredential):
        verifier.claims(token)


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_start_has_thirty_seconds_of_leeway(verifier: JwtVerifier, clock: Clock, claim: str) -> None:
    token = ec_signer().token(good_claims(clock.now, **{claim: clock.now + 31}))
    with pytest.raises(InvalidCredential):
        verifier.claims(token)
    clock.advance(1)
    assert verifier.claims(token).subject == "alice"


def test_expired_token_with_another_fault_is_invalid_and_not_expired(verifier: JwtVerifier, clock: Clock) -> None:
    old = good_claims(clock.now, exp=clock.now - 3600)
    genuine, forged = ec_signer().token(old), ec_signer("forger").named("ec-1").token(old)
    with pytest.raises(ExpiredCredential):
        verifier.claims(genuine)
    for token in (forged, ec_signer().token({**old, "iss": "https://other.example"}), ec_signer().token(old, typ="x")):
        with pytest.raises(InvalidCredential):
            verifier.claims(token)


def test_token_that_cannot_be_valid_is_rejected_without_a_fetch(
    verifier: JwtVerifier, server: KeyServer, clock: Clock
) -> None:
    server.down = True
    for claims in ({"iss": "https://other.example"}, {"aud": "other"}, {"sub": None}, {"exp": None}):
        with pytest.raises(InvalidCredential):
            verifier.claims(ec_signer().token(good_claims(clock.now, **claims)))
    with pytest.raises(InvalidCredential):
        verifier.claims(ec_signer().token(good_claims(clock.now), alg="none"))
    assert server.asked == []


def test_without_the_issuers_keys_the_verifier_is_unavailable(
    verifier: JwtVerifier, server: KeyServer, clock: Clock
) -> None:
    server.down = True
    with pytest.raises(VerifierUnavailable):
        verifier.claims(ec_signer().token(good_claims(clock.now)))


def test_repr_of_claims_contains_no_claim_values(verifier: JwtVerifier, clock: Clock) -> None:
    claims = verifier.claims(ec_signer().token(good_claims(clock.now, email="private@acme.example")))
    assert "private" not in repr(claims)
    assert "alice" in repr(claims)
