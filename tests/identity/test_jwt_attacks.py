"""Attacks on JWT verification (RFC 8725 and later ones): the tokens are rejected, and no foreign URL is fetched.

"Malformed" is what has no one meaning as a token; "invalid" is a token that the issuer did not make for us.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kataven.identity.errors import InvalidCredential, MalformedToken, Refused
from kataven.identity.grants import roles_for
from kataven.identity.jwks import JwksClient
from kataven.identity.jwt import JwtVerifier
from tests.support.clock import Clock
from tests.support.jose import Signer, as_json, b64, ec_signer, ed_signer, rsa_signer
from tests.support.key_server import ISSUER, KeyServer, asked_only_the_issuer, good_claims

NOW = 1_800_000_000
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
ROLES = "urn:zitadel:iam:org:project:roles"


@pytest.fixture(scope="module")
def server() -> KeyServer:
    return KeyServer(rsa_signer().jwk(alg=None), ec_signer().jwk(), ed_signer().jwk())


@pytest.fixture(scope="module")
def verifier(server: KeyServer) -> JwtVerifier:
    return JwtVerifier(JwksClient(ISSUER, server, clock=Clock()), ISSUER, "kataven", Clock(NOW))


@pytest.fixture(autouse=True)
def _nothing_foreign_is_fetched(server: KeyServer) -> Iterator[None]:
    yield
    assert asked_only_the_issuer(server.asked)


def claims(**changes: object) -> dict[str, Any]:
    return good_claims(NOW, **changes)


def attacker(kid: str = "ec-1") -> Signer:
    """The attacker's key under a key id of the issuer."""
    return ec_signer("attacker").named(kid)


def genuine() -> str:
    return ec_signer().token(claims())


def parts_of(token: str) -> tuple[str, str, str]:
    header, payload, signature = token.split(".")
    return header, payload, signature


def unsigned(algorithm: object) -> str:
    return f"{b64(as_json({'alg': algorithm, 'kid': 'ec-1', 'typ': 'JWT'}))}.{b64(as_json(claims()))}."


def with_signature(change: Callable[[bytes], bytes], signer: Signer) -> str:
    header, payload, signature = parts_of(signer.token(claims()))
    return f"{header}.{payload}.{b64(change(base64.urlsafe_b64decode(signature + '==')))}"


def hmac_signed(secret: bytes, **header: object) -> str:
    start = f"{b64(as_json({'alg': 'HS256', 'kid': 'rsa-1', **header}))}.{b64(as_json(claims()))}"
    return f"{start}.{b64(hmac.digest(secret, start.encode(), hashlib.sha256))}"


def signed_with_algorithm_named(algorithm: str) -> str:
    """Signed with the issuer's key, with a valid algorithm that is not allowed."""
    return ec_signer().token(claims(), alg=algorithm)


def der_signature(raw: bytes) -> bytes:
    return encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))


def rsa_plus_modulus(raw: bytes) -> bytes:
    private = rsa_signer().private
    assert isinstance(private, rsa.RSAPrivateKey)
    modulus = private.public_key().public_numbers().n
    return (int.from_bytes(raw, "big") + modulus).to_bytes(257, "big")


def ed25519_plus_order(raw: bytes) -> bytes:
    return raw[:32] + (int.from_bytes(raw[32:], "little") + ED25519_ORDER).to_bytes(32, "little")


ATTACKS_INVALID: dict[str, Callable[[], str]] = {
    # No signature.
    "alg none": lambda: unsigned("none"),
    "alg None": lambda: unsigned("None"),
    "alg NONE": lambda: unsigned("NONE"),
    "alg nOnE": lambda: unsigned("nOnE"),
    "alg none with a signature": lambda: ec_signer().token(claims(), alg="none"),
    "alg empty": lambda: unsigned(""),
    "alg null": lambda: unsigned(None),
    "alg absent": lambda: ec_signer().token(claims(), alg=None),
    "alg a list": lambda: ec_signer().token(claims(), alg=["ES256"]),
    "alg an object": lambda: ec_signer().token(claims(), alg={"ES256": True}),
    "alg a number": lambda: ec_signer().token(claims(), alg=256),
    "alg in lower case": lambda: ec_signer().token(claims(), alg="es256"),
    "alg with a blank": lambda: ec_signer().token(claims(), alg="ES256 "),
    "empty signature": lambda: ".".join(parts_of(genuine())[:2]) + ".",
    # An algorithm that the key does not allow.
    "HS256 with the public key as PEM": lambda: hmac_signed(rsa_signer().pem()),
    "HS256 with the public key as PEM, no last newline": lambda: hmac_signed(rsa_signer().pem().strip()),
    "HS256 with the public key as JWK": lambda: hmac_signed(as_json(rsa_signer().jwk())),
    "HS256 with nothing": lambda: hmac_signed(b""),
    "RS256 named over an HMAC": lambda: hmac_signed(rsa_signer().pem(), alg="RS256"),
    "ES256 named over an RSA signature": lambda: rsa_signer().token(claims(), alg="ES256"),
    "RS256 named over an EC signature": lambda: ec_signer().named("rsa-1").token(claims(), alg="RS256"),
    "PS256 named over an RS256 signature": lambda: rsa_signer().token(claims(), alg="PS256"),
    "EdDSA named over an EC signature": lambda: ec_signer().token(claims(), alg="EdDSA"),
    "EC key asked for an RSA algorithm": lambda: rsa_signer().named("ec-1").token(claims()),
    "another key of the issuer's": lambda: ec_signer().named("ed-1").token(claims()),
    "alg ES384": lambda: signed_with_algorithm_named("ES384"),
    "alg ES256K": lambda: signed_with_algorithm_named("ES256K"),
    "alg RS512": lambda: signed_with_algorithm_named("RS512"),
    "alg HS256": lambda: signed_with_algorithm_named("HS256"),
    # A key in the token.
    "embedded jwk": lambda: attacker().token(claims(), jwk=attacker().jwk()),
    "embedded jwk without kid": lambda: attacker().token(claims(), kid=None, jwk=attacker().jwk()),
    "embedded jwk, named by its own kid": lambda: attacker("mine").token(claims(), jwk=attacker("mine").jwk()),
    "embedded jwk beside a good signature": lambda: ec_signer().token(claims(), jwk=attacker().jwk()),
    "jku": lambda: attacker().token(claims(), jku="https://evil.example/keys"),
    "jku that begins like the issuer": lambda: attacker().token(claims(), jku=f"{ISSUER}@evil.example/keys"),
    "jku beside a good signature": lambda: ec_signer().token(claims(), jku="https://evil.example/keys"),
    "x5u": lambda: attacker().token(claims(), x5u="https://evil.example/chain.pem"),
    "x5u as a file": lambda: attacker().token(claims(), x5u="file:///dev/null"),
    "x5u beside a good signature": lambda: ec_signer().token(claims(), x5u="https://evil.example/chain.pem"),
    "x5u as a file beside a good signature": lambda: ec_signer().token(claims(), x5u="file:///dev/null"),
    "x5c": lambda: attacker().token(claims(), x5c=["MIIB"]),
    "x5c beside a good signature": lambda: ec_signer().token(claims(), x5c=["MIIB"]),
    # A key id with an injection.
    "kid with a path": lambda: attacker("../../../../dev/null").token(claims()),
    "kid with SQL": lambda: attacker("ec-1' OR '1'='1").token(claims()),
    "kid with a command": lambda: attacker("ec-1|/usr/bin/true").token(claims()),
    "kid that is a URL": lambda: attacker("https://evil.example/key").token(claims()),
    "kid with NUL": lambda: attacker("ec-1\x00").token(claims()),
    "kid with a newline": lambda: ec_signer().token(claims(), kid="ec-1\n"),
    "kid in another case": lambda: ec_signer().token(claims(), kid="EC-1"),
    "kid with a look-alike": lambda: ec_signer().token(claims(), kid="\u0435c-1"),
    "kid huge": lambda: ec_signer().token(claims(), kid="k" * 4000),
    "kid empty": lambda: ec_signer().token(claims(), kid=""),
    "kid absent": lambda: ec_signer().token(claims(), kid=None),
    "kid a number": lambda: ec_signer().token(claims(), kid=1),
    "kid a list": lambda: ec_signer().token(claims(), kid=["ec-1"]),
    "kid an object": lambda: ec_signer().token(claims(), kid={"ec-1": 1}),
    "kid unknown": lambda: ec_signer().token(claims(), kid="ec-2"),
    # Extensions that change the meaning.
    "crit": lambda: ec_signer().token(claims(), crit=["exp"]),
    "crit empty": lambda: ec_signer().token(claims(), crit=[]),
    "crit of an unknown name": lambda: ec_signer().token(claims(), crit=["x-ext"], **{"x-ext": 1}),
    "b64 false": lambda: ec_signer().token(claims(), b64=False),
    "b64 false and critical": lambda: ec_signer().token(claims(), b64=False, crit=["b64"]),
    # Other tokens of the same issuer.
    "logout token": lambda: ec_signer().token(claims(), typ="logout+jwt"),
    "proof of possession": lambda: ec_signer().token(claims(), typ="dpop+jwt"),
    "security event": lambda: ec_signer().token(claims(), typ="secevent+jwt"),
    "typ a number": lambda: ec_signer().token(claims(), typ=1),
    "typ empty": lambda: ec_signer().token(claims(), typ=""),
    # Signatures.
    "forged": lambda: attacker().token(claims()),
    "payload exchanged": lambda: ".".join(
        (parts_of(genuine())[0], b64(as_json(claims(sub="mallory"))), parts_of(genuine())[2])
    ),
    "header exchanged": lambda: ".".join((b64(as_json({"alg": "ES256", "kid": "ec-1"})), *parts_of(genuine())[1:])),
    "signature of zeros": lambda: with_signature(lambda raw: bytes(64), ec_signer()),
    "r and s are the order": lambda: with_signature(lambda raw: P256_ORDER.to_bytes(32, "big") * 2, ec_signer()),
    "r zero": lambda: with_signature(lambda raw: bytes(32) + raw[32:], ec_signer()),
    "s zero": lambda: with_signature(lambda raw: raw[:32] + bytes(32), ec_signer()),
    "DER signature": lambda: with_signature(der_signature, ec_signer()),
    "ES256 signature cut": lambda: with_signature(lambda raw: raw[:-1], ec_signer()),
    "ES256 signature with a byte more": lambda: with_signature(lambda raw: raw + b"\0", ec_signer()),
    "ES256 signature with a byte before": lambda: with_signature(lambda raw: b"\0" + raw, ec_signer()),
    "ES256 signature with wider numbers": lambda: with_signature(
        lambda raw: b"\0" + raw[:32] + b"\0" + raw[32:], ec_signer()
    ),
    "RS256 signature with a zero before": lambda: with_signature(lambda raw: b"\0" + raw, rsa_signer()),
    "RS256 signature cut": lambda: with_signature(lambda raw: raw[:-1], rsa_signer()),
    "RS256 signature plus modulus": lambda: with_signature(rsa_plus_modulus, rsa_signer()),
    "RS256 signature of zeros": lambda: with_signature(lambda raw: bytes(256), rsa_signer()),
    "RS256 signature of one": lambda: with_signature(lambda raw: bytes(255) + b"\1", rsa_signer()),
    "EdDSA signature plus order": lambda: with_signature(ed25519_plus_order, ed_signer()),
    "EdDSA signature of zeros": lambda: with_signature(lambda raw: bytes(64), ed_signer()),
    "EdDSA signature cut": lambda: with_signature(lambda raw: raw[:-1], ed_signer()),
    # Claims.
    "issuer other": lambda: ec_signer().token(claims(iss="https://evil.example")),
    "issuer with a slash": lambda: ec_signer().token(claims(iss=ISSUER + "/")),
    "issuer in capitals": lambda: ec_signer().token(claims(iss=ISSUER.upper())),
    "issuer a list": lambda: ec_signer().token(claims(iss=[ISSUER])),
    "issuer absent": lambda: ec_signer().token(claims(iss=None)),
    "audience other": lambda: ec_signer().token(claims(aud="kataven-hub")),
    "audience list without us": lambda: ec_signer().token(claims(aud=["kataven-hub", "other"])),
    "audience list nested": lambda: ec_signer().token(claims(aud=[["kataven"]])),
    "audience list with a number": lambda: ec_signer().token(claims(aud=["kataven", 1])),
    "audience list empty": lambda: ec_signer().token(claims(aud=[])),
    "audience with us inside": lambda: ec_signer().token(claims(aud="not-kataven-at-all")),
    "audience of several in one string": lambda: ec_signer().token(claims(aud="kataven kataven-hub")),
    "audience an object": lambda: ec_signer().token(claims(aud={"kataven": True})),
    "audience in another case": lambda: ec_signer().token(claims(aud="Kataven")),
    "audience absent": lambda: ec_signer().token(claims(aud=None)),
    "exp absent": lambda: ec_signer().token(claims(exp=None)),
    "exp null": lambda: ec_signer().token(as_json(claims()).replace(b'"exp":1800003600', b'"exp":null')),
    "exp a string": lambda: ec_signer().token(claims(exp=str(NOW + 3600))),
    "exp true": lambda: ec_signer().token(claims(exp=True)),
    "exp a list": lambda: ec_signer().token(claims(exp=[NOW + 3600])),
    "exp a date": lambda: ec_signer().token(claims(exp="2099-01-01T00:00:00Z")),
    "exp in milliseconds": lambda: ec_signer().token(claims(exp=(NOW + 3600) * 1000)),
    "exp huge": lambda: ec_signer().token(claims(exp=10**300)),
    "exp huge float": lambda: ec_signer().token(claims(exp=1e300)),
    "exp negative": lambda: ec_signer().token(claims(exp=-1)),
    "nbf in the future": lambda: ec_signer().token(claims(nbf=NOW + 31)),
    "nbf a string": lambda: ec_signer().token(claims(nbf=str(NOW))),
    "nbf false": lambda: ec_signer().token(claims(nbf=False)),
    "iat far in the future": lambda: ec_signer().token(claims(iat=NOW + 10**9, exp=NOW + 2 * 10**9)),
    "iat a string": lambda: ec_signer().token(claims(iat=str(NOW))),
    "iat true": lambda: ec_signer().token(claims(iat=True)),
    "sub absent": lambda: ec_signer().token(claims(sub=None)),
    "sub empty": lambda: ec_signer().token(claims(sub="")),
    "sub a number": lambda: ec_signer().token(claims(sub=1)),
    "sub a list": lambda: ec_signer().token(claims(sub=["alice"])),
    "sub too long": lambda: ec_signer().token(claims(sub="a" * 256)),
    "sub with NUL": lambda: ec_signer().token(claims(sub="alice\x00")),
    "sub with a newline": lambda: ec_signer().token(claims(sub="alice\nadmin")),
    "sub with a look-alike": lambda: ec_signer().token(claims(sub="\u0430lice")),
}

ATTACKS_MALFORMED: dict[str, Callable[[], str]] = {
    # Other encodings of the same bytes.
    "header padded": lambda: "{}==.{}.{}".format(*parts_of(genuine())),
    "payload padded": lambda: "{}.{}=.{}".format(*parts_of(genuine())),
    "signature padded": lambda: genuine() + "==",
    "signature with stray bits": lambda: genuine()[:-1] + chr(ord(genuine()[-1]) + 1),
    "plain base64 for base64url": lambda: "{}.{}.".format(*parts_of(genuine())) + "ab+/" * 21 + "ag",
    "newline at the end": lambda: genuine() + "\n",
    "newline inside": lambda: genuine()[:40] + "\n" + genuine()[40:],
    "blank inside": lambda: genuine()[:40] + " " + genuine()[40:],
    "blank before": lambda: " " + genuine(),
    "NUL at the end": lambda: genuine() + "\x00",
    "full-width characters": lambda: genuine()[:-1] + "\uff21",
    "impossible length": lambda: genuine() + "AAA",
    # Not three parts.
    "two parts": lambda: genuine().rpartition(".")[0],
    "four parts": lambda: genuine() + ".AAAA",
    "five parts, as of an encrypted token": lambda: f"{b64(as_json({'alg': 'dir', 'enc': 'A256GCM'}))}..AAAA.AAAA.AAAA",
    "nothing": lambda: "",
    "dots": lambda: "..",
    "over 8 KiB": lambda: ec_signer().token(claims(filling="x" * 8192)),
    "JSON serialisation": lambda: json.dumps(
        dict(zip(("protected", "payload", "signature"), parts_of(genuine()), strict=True))
    ),
    # Not JSON objects.
    "nested token": lambda: ec_signer().token(genuine().encode(), cty="JWT"),
    "nested token in quotes": lambda: ec_signer().token(genuine(), cty="JWT"),
    "payload a list": lambda: ec_signer().token([claims()]),
    "payload null": lambda: ec_signer().token(b"null"),
    "payload empty": lambda: ec_signer().token(b""),
    "payload cut": lambda: ec_signer().token(as_json(claims())[:-1]),
    "payload with a tail": lambda: ec_signer().token(as_json(claims()) + b"{}"),
    "payload in single quotes": lambda: ec_signer().token(str(claims()).encode()),
    "payload in UTF-16": lambda: ec_signer().token(json.dumps(claims()).encode("utf-16")),
    "payload with a byte order mark": lambda: ec_signer().token(b"\xef\xbb\xbf" + as_json(claims())),
    "payload not UTF-8": lambda: ec_signer().token(as_json(claims(name="X")).replace(b'"X"', b'"\xff"')),
    "payload with an overlong character": lambda: ec_signer().token(
        as_json(claims(name="X")).replace(b"X", b"\xc0\xaf")
    ),
    "payload with half a surrogate pair": lambda: ec_signer().token(claims(name="\ud800")),
    "payload with half a surrogate pair as a name": lambda: ec_signer().token({**claims(), "\udfff": 1}),
    "payload nested deeply": lambda: ec_signer().token(b'{"a":' + b"[" * 2500 + b"]" * 2500 + b"}"),
    "header a list": lambda: ec_signer().token_of([{"alg": "ES256", "kid": "ec-1"}], claims()),
    "header empty": lambda: ec_signer().token_of(b"", claims()),
    "header nested deeply": lambda: ec_signer().token_of(b'{"alg":' + b"[" * 2500 + b"]" * 2500 + b"}", claims()),
    # Numbers that JSON does not allow.
    "exp NaN": lambda: ec_signer().token(claims(exp=float("nan"))),
    "exp Infinity": lambda: ec_signer().token(claims(exp=float("inf"))),
    "exp beyond any float": lambda: ec_signer().token(as_json(claims()).replace(b'"exp":1800003600', b'"exp":1e999')),
    "exp of 5,000 digits": lambda: ec_signer().token(
        as_json(claims()).replace(b'"exp":1800003600', b'"exp":' + b"9" * 5000)
    ),
    "exp with a leading zero": lambda: ec_signer().token(
        as_json(claims()).replace(b'"exp":1800003600', b'"exp":01800003600')
    ),
    # Ambiguous documents.
    "two roles claims": lambda: ec_signer().token(
        as_json(claims(**{ROLES: {"member": {"org-acme": "a"}}}))[:-1]
        + b',"'
        + ROLES.encode()
        + b'":{"owner":{"org-acme":"a"}}}'
    ),
    "two roles claims, one of them escaped": lambda: ec_signer().token(
        as_json(claims(**{ROLES: {}}))[:-1]
        + b',"'
        + ROLES.replace("r", "\\u0072", 1).encode()
        + b'":{"owner":{"org-acme":"a"}}}'
    ),
    "two times the same role": lambda: ec_signer().token(
        as_json(claims())[:-1] + b',"' + ROLES.encode() + b'":{"owner":{"org-a":"a"},"owner":{"org-acme":"a"}}}'
    ),
    "two subjects": lambda: ec_signer().token(as_json(claims())[:-1] + b',"sub":"mallory"}'),
    "two expiries": lambda: ec_signer().token(as_json(claims())[:-1] + b',"exp":9999999999}'),
    "two algorithms": lambda: ec_signer().token_of(b'{"alg":"none","alg":"ES256","kid":"ec-1"}', claims()),
    "two key names": lambda: ec_signer().token_of(b'{"alg":"ES256","kid":"x","kid":"ec-1"}', claims()),
}


def test_the_unmodified_token_is_accepted(verifier: JwtVerifier) -> None:
    for signer in (ec_signer(), ed_signer(), rsa_signer(), rsa_signer().using("PS256")):
        assert verifier.claims(signer.token(claims())).subject == "alice"
    assert verifier.claims(with_signature(lambda raw: raw, ec_signer())).subject == "alice"
    assert verifier.claims(ec_signer().token(as_json(claims()))).subject == "alice"


@pytest.mark.parametrize("attack", ATTACKS_INVALID.values(), ids=ATTACKS_INVALID)
def test_token_not_issued_for_this_audience_is_invalid(verifier: JwtVerifier, attack: Callable[[], str]) -> None:
    with pytest.raises(InvalidCredential):
        verifier.claims(attack())


@pytest.mark.parametrize("attack", ATTACKS_MALFORMED.values(), ids=ATTACKS_MALFORMED)
def test_ambiguous_text_is_malformed(verifier: JwtVerifier, attack: Callable[[], str]) -> None:
    with pytest.raises(MalformedToken):
        verifier.claims(attack())


def test_refusal_never_repeats_the_token(verifier: JwtVerifier) -> None:
    for attack in (*ATTACKS_INVALID.values(), *ATTACKS_MALFORMED.values()):
        token = attack()
        with pytest.raises(Refused) as refusal:
            verifier.claims(token)
        assert not any(part in str(refusal.value) for part in token.split(".") if len(part) > 8)
        assert "mallory" not in str(refusal.value)


def test_ecdsa_signature_with_the_complementary_s_is_accepted(verifier: JwtVerifier) -> None:
    """RFC 7518 does not require a low s, and signers produce both. Tokens are not used as unique session ids."""
    token = with_signature(
        lambda raw: raw[:32] + (P256_ORDER - int.from_bytes(raw[32:], "big")).to_bytes(32, "big"), ec_signer()
    )
    assert verifier.claims(token).subject == "alice"


def test_escapes_and_whitespace_in_json_are_accepted(verifier: JwtVerifier) -> None:
    payload = json.dumps(claims(name="\U0001f98a"), indent=2).replace("alice", "\\u0061lice").encode()
    assert verifier.claims(ec_signer().token(payload)).name == "\U0001f98a"


def test_roles_of_a_rejected_token_are_not_read(verifier: JwtVerifier) -> None:
    good = verifier.claims(ec_signer().token(claims(**{ROLES: {"member": {"org-acme": "acme.example"}}})))
    assert [role.value for role in roles_for(good.all, "org-acme")] == ["member"]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_character_is_rejected(verifier: JwtVerifier, data: st.DataObject) -> None:
    token = rsa_signer().token(claims())
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(exclude_characters=token[place]))
    with pytest.raises(Refused):
        verifier.claims(token[:place] + other + token[place + 1 :])


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=300) | st.from_regex(r"eyJ[\w-]{0,80}\.[\w-]{0,80}\.[\w-]{0,80}", fullmatch=True))
def test_any_text_is_rejected_without_an_error(verifier: JwtVerifier, text: str) -> None:
    with pytest.raises(Refused):
        verifier.claims(text)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "crit", "jwk"]),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats()
            | st.text(max_size=9)
            | st.sampled_from(["ES256", "ec-1"]),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=4,
        ),
    ),
    payload=st.dictionaries(
        st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=9)
        | st.just(ISSUER)
        | st.just(["kataven"]),
    ),
)
def test_unexpected_types_are_rejected_without_an_error(
    verifier: JwtVerifier, header: dict[str, object], payload: dict[str, object]
) -> None:
    with pytest.raises(Refused):
        verifier.claims(attacker().token_of(header, payload))
