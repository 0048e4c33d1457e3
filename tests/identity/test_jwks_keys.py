"""Which published keys are used: only strong ones that are intended for verification."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm

from kataven.identity.errors import InvalidCredential
from kataven.identity.jwk import MAX_KEYS, read_key_set
from kataven.identity.jwks import JwksClient
from kataven.identity.jwt import JwtVerifier
from tests.support.clock import Clock
from tests.support.jose import Signer, b64, ec_signer, ed_signer, rsa_signer
from tests.support.key_server import ISSUER, KeyServer, good_claims

NOW = 1_800_000_000


def names(*jwks: object) -> set[str]:
    return set(read_key_set({"keys": list(jwks)}))


def rsa_numbers(n: int, e: int) -> dict[str, str]:
    return {
        "n": b64(n.to_bytes((n.bit_length() + 7) // 8, "big")),
        "e": b64(e.to_bytes((e.bit_length() + 7) // 8, "big")),
    }


def modulus() -> int:
    private = rsa_signer().private
    assert isinstance(private, rsa.RSAPrivateKey)
    return private.public_key().public_numbers().n


def coordinate(name: str) -> bytes:
    return base64.urlsafe_b64decode(ec_signer().jwk()[name] + "==")


def other_curve(curve: ec.EllipticCurve) -> dict[str, Any]:
    return {**ECAlgorithm.to_jwk(ec.generate_private_key(curve).public_key(), as_dict=True), "kid": "k", "use": "sig"}


UNUSABLE: dict[str, object] = {
    # Intended for another use.
    "use enc": rsa_signer().jwk(use="enc"),
    "use in another case": rsa_signer().jwk(use="SIG"),
    "use a list": rsa_signer().jwk(use=["sig"]),
    "use null": {**rsa_signer().jwk(), "use": None},
    "key_ops to sign": rsa_signer().jwk(key_ops=["sign"]),
    "key_ops to encrypt": rsa_signer().jwk(key_ops=["encrypt", "wrapKey"]),
    "key_ops empty": rsa_signer().jwk(key_ops=[]),
    "key_ops a string": rsa_signer().jwk(key_ops="verify"),
    "key_ops an object": rsa_signer().jwk(key_ops={"verify": True}),
    "key_ops in another case": rsa_signer().jwk(key_ops=["Verify"]),
    "key_ops null": {**rsa_signer().jwk(), "key_ops": None},
    "use sig and key_ops to encrypt": rsa_signer().jwk(use="sig", key_ops=["encrypt"]),
    "use enc and key_ops to verify": rsa_signer().jwk(use="enc", key_ops=["verify"]),
    "alg for encryption": rsa_signer().jwk(alg="RSA-OAEP"),
    "alg not allowed": rsa_signer().jwk(alg="RS512"),
    "alg of another kind of key": ec_signer().jwk(alg="RS256"),
    "alg symmetric": rsa_signer().jwk(alg="HS256"),
    "alg none": rsa_signer().jwk(alg="none"),
    "alg empty": rsa_signer().jwk(alg=""),
    "alg a list": rsa_signer().jwk(alg=["RS256"]),
    "alg null": {**rsa_signer().jwk(), "alg": None},
    # Weak.
    "RSA 1024": rsa_signer(1024, "weak").jwk(),
    "RSA 2047": rsa_signer().jwk(**rsa_numbers(modulus() >> 1 | 1, 65537)),
    "RSA 1024, zeros before": rsa_signer(1024, "weak").jwk(n=b64(bytes(128) + modulus().to_bytes(256, "big")[:128])),
    "RSA of 16,384 bits": rsa_signer().jwk(**rsa_numbers((1 << 16383) | 1, 65537)),
    "RSA exponent 1": rsa_signer().jwk(**rsa_numbers(modulus(), 1)),
    "RSA exponent 2": rsa_signer().jwk(**rsa_numbers(modulus(), 2)),
    "RSA exponent 3": rsa_signer().jwk(**rsa_numbers(modulus(), 3)),
    "RSA exponent even": rsa_signer().jwk(**rsa_numbers(modulus(), 65538)),
    "RSA exponent as long as the modulus": rsa_signer().jwk(**rsa_numbers(modulus(), modulus() - 2)),
    "RSA exponent empty": rsa_signer().jwk(e=""),
    "RSA exponent a number": rsa_signer().jwk(e=65537),
    # Symmetric, or private.
    "symmetric": {"kty": "oct", "kid": "k", "k": b64(b"s" * 64), "alg": "HS256", "use": "sig"},
    "symmetric that says RS256": {"kty": "oct", "kid": "k", "k": b64(b"s" * 64), "alg": "RS256"},
    "RSA with its private half": rsa_signer().jwk(d=b64(modulus().to_bytes(256, "big"))),
    "EC with its private half": ec_signer().jwk(d=b64(bytes(31) + b"\1")),
    # Another curve, or not on the curve.
    "P-384": other_curve(ec.SECP384R1()),
    "P-521": other_curve(ec.SECP521R1()),
    "secp256k1": other_curve(ec.SECP256K1()),
    "secp256k1 that says P-256": {**other_curve(ec.SECP256K1()), "crv": "P-256"},
    "point off the curve": ec_signer().jwk(y=b64(coordinate("y")[:-1] + bytes([coordinate("y")[-1] ^ 1]))),
    "point at infinity": ec_signer().jwk(x=b64(bytes(32)), y=b64(bytes(32))),
    "coordinate cut": ec_signer().jwk(x=b64(coordinate("x")[1:])),
    "coordinate with a zero more": ec_signer().jwk(x=b64(b"\0" + coordinate("x"))),
    "coordinate beyond the field": ec_signer().jwk(x=b64(b"\xff" * 32)),
    "coordinate missing": ec_signer().jwk(y=None),
    "curve missing": ec_signer().jwk(crv=None),
    "curve a list": ec_signer().jwk(crv=["P-256"]),
    "Ed448": ed_signer().jwk(crv="Ed448"),
    "X25519": ed_signer().jwk(crv="X25519"),
    "Ed25519 cut": ed_signer().jwk(x=b64(b"x" * 31)),
    "Ed25519 in an EC key": ed_signer().jwk(kty="EC"),
    # Not a key, or without a key id.
    "padded": rsa_signer().jwk(n=rsa_signer().jwk()["n"] + "=="),
    "plain base64": rsa_signer().jwk(e="+/8B"),
    "modulus a number": rsa_signer().jwk(n=modulus()),
    "modulus missing": rsa_signer().jwk(n=None),
    "modulus with a zero before": rsa_signer().jwk(n=b64(b"\0" + modulus().to_bytes(256, "big"))),
    "kty missing": rsa_signer().jwk(kty=None),
    "kty in another case": rsa_signer().jwk(kty="rsa"),
    "kty a list": rsa_signer().jwk(kty=["RSA"]),
    "kid missing": rsa_signer().jwk(kid=None),
    "kid a number": {**rsa_signer().jwk(), "kid": 1},
    "empty": {},
    "a string": "key",
    "null": None,
    "a list": [rsa_signer().jwk()],
}


@pytest.mark.parametrize("jwk", UNUSABLE.values(), ids=UNUSABLE)
def test_unusable_key_is_ignored_and_others_are_used(jwk: object) -> None:
    assert names(jwk, ed_signer("good").jwk()) == {"good"}


WEAK_OR_WRONG: dict[str, tuple[Signer, dict[str, Any]]] = {
    "RSA 1024": (rsa_signer(1024, "weak"), {}),
    "use enc": (rsa_signer(), {"use": "enc"}),
    "key_ops to sign": (rsa_signer(), {"key_ops": ["sign"]}),
    "alg of the other RSA scheme": (rsa_signer(), {"alg": "PS256"}),
    "no name": (rsa_signer(), {"kid": None}),
}


@pytest.mark.parametrize(("signer", "members"), WEAK_OR_WRONG.values(), ids=WEAK_OR_WRONG)
def test_token_signed_with_an_unusable_key_is_rejected(signer: Signer, members: dict[str, Any]) -> None:
    server = KeyServer(signer.jwk(**members), ed_signer().jwk())
    verifier = JwtVerifier(JwksClient(ISSUER, server, clock=Clock()), ISSUER, "kataven", Clock(NOW))
    with pytest.raises(InvalidCredential):
        verifier.claims(signer.token(good_claims(NOW)))
    assert verifier.claims(ed_signer().token(good_claims(NOW))).subject == "alice"


@pytest.mark.parametrize(
    "second",
    [
        ec_signer("other").named("same").jwk(),
        ec_signer().named("same").jwk(),
        rsa_signer(1024, "weak").named("same").jwk(),
        rsa_signer().named("same").jwk(use="enc"),
        {"kid": "same", "kty": "oct", "k": "c2VjcmV0"},
        {"kid": "same"},
    ],
    ids=["another key", "the same key", "a weak key", "a key for encryption", "a symmetric key", "no key"],
)
def test_keys_that_share_a_key_id_are_ignored(second: dict[str, Any]) -> None:
    first, third = ec_signer().named("same").jwk(), ed_signer("other").jwk()
    assert names(first, second, third) == {"other"}
    assert names(second, third, first) == {"other"}


def test_key_ids_are_compared_exactly() -> None:
    keys = [ec_signer().named(name).jwk() for name in ("a", "A", "a ", "á", "a\u0301")]
    assert len(names(*keys)) == 5


def test_key_is_limited_to_the_algorithms_of_its_type_and_its_alg() -> None:
    keys = read_key_set(
        {
            "keys": [
                rsa_signer(kid="rsa-1").named("any").jwk(alg=None),
                rsa_signer().named("pss").jwk(alg="PS256"),
                ec_signer().jwk(alg=None),
                ed_signer().jwk(alg=None),
            ]
        }
    )
    assert {name: set(key.algorithms) for name, key in keys.items()} == {
        "any": {"RS256", "PS256"},
        "pss": {"PS256"},
        "ec-1": {"ES256"},
        "ed-1": {"EdDSA"},
    }


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_strong_rsa_keys_are_used(bits: int) -> None:
    n = (1 << (bits - 1)) | 1
    assert names(rsa_signer().jwk(**rsa_numbers(n, 65537))) == {"rsa-1"}


@pytest.mark.parametrize("document", [{}, {"keys": None}, {"keys": {}}, {"keys": "k"}, {"keys": [{}] * (MAX_KEYS + 1)}])
def test_invalid_key_set_is_rejected(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="keys"):
        read_key_set(document)


def test_key_set_may_be_empty_or_full() -> None:
    assert names() == set()
    assert len(names(*(ed_signer().named(str(number)).jwk() for number in range(MAX_KEYS)))) == MAX_KEYS
