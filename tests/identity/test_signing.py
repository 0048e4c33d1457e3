"""The ring of signing keys: strict parsing, no private members in the key set, rotation without failures."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from kataven.identity import signing
from kataven.identity.signing import SigningKey, SigningRing

# The key pair of RFC 6979, section A.2.5: the published key must equal the one in the standard.
RFC_6979 = "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721"
RFC_6979_X = "60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6"
RFC_6979_Y = "7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299"


def b64(hexadecimal: str) -> str:
    return base64.urlsafe_b64encode(bytes.fromhex(hexadecimal)).rstrip(b"=").decode()


def read(token: str, ring: SigningRing) -> dict[str, Any]:
    """The claims as another library verifies them with the published keys."""
    claims: dict[str, Any] = jwt.decode(token, KeySet.import_key_set(ring.public_jwks()), algorithms=["ES256"]).claims
    return claims


def test_the_public_key_matches_the_standards_test_vector() -> None:
    [jwk] = SigningRing.parse(f"2026a:{b64(RFC_6979)}").public_jwks()["keys"]
    assert jwk == {
        "kid": "2026a",
        "kty": "EC",
        "crv": "P-256",
        "x": b64(RFC_6979_X),
        "y": b64(RFC_6979_Y),
        "alg": "ES256",
        "use": "sig",
    }


def test_another_library_verifies_the_signature() -> None:
    ring = SigningRing.parse(signing.new_key("2026a"))
    token = ring.current.sign({"sub": "\u00fc"}, "kataven-visitor+jwt")
    assert read(token, ring) == {"sub": "\u00fc"}
    header, payload, signature = token.split(".")
    changed = "A" if signature[9] != "A" else "B"
    for forged in (
        f"{header}.{payload}.{signature[:9]}{changed}{signature[10:]}",
        f"{header}.{payload}.",
        SigningKey.parse(signing.new_key("2026a")).sign({"sub": "x"}, "kataven-visitor+jwt"),
    ):
        with pytest.raises(JoseError):
            read(forged, ring)


def test_a_rotation_causes_no_verification_failure() -> None:
    old, new = signing.new_key("2026a"), signing.new_key("2026b")
    before = SigningRing.parse(old)
    published = SigningRing.parse(f"{old},{new}")
    switched = SigningRing.parse(f"{new},{old}")
    after = SigningRing.parse(new)
    # A verifier with the keys of the previous or the next step can verify every token of each step.
    steps = [before, published, switched, after]
    for step, signs in zip(steps, ["2026a", "2026a", "2026b", "2026b"], strict=True):
        assert step.current.id == signs
    for signer, readers in ((before, [before, published, switched]), (switched, [published, switched, after])):
        token = signer.current.sign({"sub": "x"}, "t")
        for reader in readers:
            assert read(token, reader) == {"sub": "x"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must have the format id:base64url"),
        ("2026a", "must have the format id:base64url"),
        (":AAAA", "must be 1 to 32"),
        ("2026A:AAAA", "must be 1 to 32"),
        ("2026a:not base64", "is not base64url"),
        ("2026a:AAAA", "must be 32 random bytes"),
        ("2026a:" + b64("00" * 32), "not a P-256 key"),
        ("2026a:" + b64("FF" * 32), "not a P-256 key"),
        ("2026a:" + b64(RFC_6979) + "=", "is not base64url"),
        (f"a:{b64(RFC_6979)},a:{b64(RFC_6979)}", "the same id"),
        (f"a:{b64(RFC_6979)},", "must have the format id:base64url"),
    ],
    ids=range(11),
)
def test_an_unusable_ring_is_rejected_without_a_secret_in_the_message(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        SigningRing.parse(text)
    assert b64(RFC_6979) not in str(refused.value)


def test_repr_and_key_set_contain_no_private_key() -> None:
    text = signing.new_key("2026a")
    secret = text.partition(":")[2]
    ring = SigningRing.parse(text)
    for shown in (repr(ring), repr(ring.current), str(ring.public_jwks())):
        assert secret not in shown
    assert {"d", "k"}.isdisjoint(ring.public_jwks()["keys"][0])


def test_a_new_key_needs_a_valid_id() -> None:
    assert signing.new_key("a") != signing.new_key("a")
    with pytest.raises(ValueError, match="must be 1 to 32"):
        signing.new_key("Not an id")
