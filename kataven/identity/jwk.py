"""Which of the keys that an issuer publishes may verify a signature here.

A key set is read as a whole, because a `kid` must be unique in it; a key that is not usable is left out and harms no
other. PyJWT's own reading accepts keys meant for encryption, 1024-bit RSA and repeated `kid`s, so this is the gate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from kataven.identity import roca, strict

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

MAX_KEYS = 100
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
"""Above it one verification costs milliseconds; nobody signs tokens with such keys."""

_RSA_ALGORITHMS = frozenset({"RS256", "PS256"})
_EC_ALGORITHMS = frozenset({"ES256"})
_OKP_ALGORITHMS = frozenset({"EdDSA"})
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key that passed the gate, and the algorithms that it may be used with."""

    kid: str
    algorithms: frozenset[str]
    public: PublicKey = field(repr=False)


def read_key_set(document: Mapping[str, Any]) -> dict[str, VerificationKey]:
    """The usable keys of a JWK Set (RFC 7517, section 5), by `kid`; none of those that share a `kid`.

    Raises ValueError if this is no key set, or one of more than `MAX_KEYS` keys.
    """
    entries = document.get("keys")
    if not isinstance(entries, list):
        raise ValueError("`keys` is not an array")
    if len(entries) > MAX_KEYS:
        raise ValueError(f"more than {MAX_KEYS} keys")
    jwks = [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("kid"), str)]
    # Counted before anything is left out: which of two keys a name means must not depend on what we happen to support.
    named = Counter(jwk["kid"] for jwk in jwks)
    keys = (_read_key(jwk) for jwk in jwks if named[jwk["kid"]] == 1)
    return {key.kid: key for key in keys if key is not None}


def _read_key(jwk: Mapping[str, Any]) -> VerificationKey | None:
    """None for a key that must not verify anything."""
    if not _is_for_verifying(jwk):
        return None
    try:
        public, algorithms = _read_public(jwk)
    except (KeyError, TypeError, ValueError):
        return None
    if "alg" in jwk:
        algorithms = algorithms & {jwk["alg"]} if isinstance(jwk["alg"], str) else frozenset()
    return VerificationKey(jwk["kid"], algorithms, public) if algorithms else None


def _is_for_verifying(jwk: Mapping[str, Any]) -> bool:
    """RFC 7517, sections 4.2 and 4.3. A key published with its private half is everybody's key, so it is nobody's."""
    operations = jwk.get("key_ops", ["verify"])
    return (
        jwk.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
        and _PRIVATE_MEMBERS.isdisjoint(jwk)
    )


def _read_public(jwk: Mapping[str, Any]) -> tuple[PublicKey, frozenset[str]]:
    """Raises KeyError, TypeError or ValueError for what is not a strong enough key of a kind that we know."""
    match jwk["kty"], jwk.get("crv"):
        case "RSA", _:
            return _read_rsa(jwk), _RSA_ALGORITHMS
        case "EC", "P-256":
            return _read_p256(jwk), _EC_ALGORITHMS
        case "OKP", "Ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(strict.base64url(jwk["x"])), _OKP_ALGORITHMS
    raise ValueError("a kind of key that is not used here")  # `oct` is among them: a published secret is none


def _read_rsa(jwk: Mapping[str, Any]) -> rsa.RSAPublicKey:
    modulus, exponent = _unsigned(jwk["n"]), _unsigned(jwk["e"])
    if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS:
        raise ValueError("RSA modulus of a wrong size")
    # FIPS 186-5, appendix A.1.1: odd and above 2^16. Its upper bound is looser; a long exponent only costs time.
    if exponent % 2 == 0 or not 2**16 < exponent < 2**64:
        raise ValueError("RSA exponent out of range")
    if roca.has_fingerprint(modulus):
        raise ValueError("RSA key of a generator whose keys can be factored (CVE-2017-15361)")
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def _unsigned(text: str) -> int:
    """A Base64urlUInt (RFC 7518, section 2): big-endian, in as few bytes as can be."""
    raw = strict.base64url(text)
    if raw[:1] in (b"", b"\0"):
        raise ValueError("not the shortest form of a number")
    return int.from_bytes(raw, "big")


def _read_p256(jwk: Mapping[str, Any]) -> ec.EllipticCurvePublicKey:
    x, y = strict.base64url(jwk["x"]), strict.base64url(jwk["y"])
    if len(x) != 32 or len(y) != 32:
        raise ValueError("P-256 coordinates are 32 bytes each (RFC 7518, section 6.2.1)")
    # Raises ValueError for a point that is not on the curve.
    return ec.EllipticCurvePublicNumbers(
        int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1()
    ).public_key()
