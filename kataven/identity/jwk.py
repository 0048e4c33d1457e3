"""Selects the keys of an issuer's key set that may verify a signature.

A key set is parsed as a whole, because each `kid` must be unique in it. Unusable keys are ignored and do not affect
others. PyJWT does not check this: it accepts encryption keys, 1024-bit RSA keys and repeated `kid`s.
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
"""A verification with a larger key takes milliseconds. Such keys are not used to sign tokens in practice."""

_RSA_ALGORITHMS = frozenset({"RS256", "PS256"})
_EC_ALGORITHMS = frozenset({"ES256"})
_OKP_ALGORITHMS = frozenset({"EdDSA"})
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A usable public key, and the algorithms that it may be used with."""

    kid: str
    algorithms: frozenset[str]
    public: PublicKey = field(repr=False)


def read_key_set(document: Mapping[str, Any]) -> dict[str, VerificationKey]:
    """The usable keys of a JWK Set (RFC 7517, section 5), by `kid`. Keys that share a `kid` are ignored.

    Raises ValueError if this is not a key set, or if it has more than `MAX_KEYS` keys.
    """
    entries = document.get("keys")
    if not isinstance(entries, list):
        raise ValueError("`keys` is not an array")
    if len(entries) > MAX_KEYS:
        raise ValueError(f"more than {MAX_KEYS} keys")
    jwks = [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("kid"), str)]
    # Counted before unusable keys are ignored: which key a `kid` refers to must not depend on what is supported here.
    occurrences = Counter(jwk["kid"] for jwk in jwks)
    keys = (_read_key(jwk) for jwk in jwks if occurrences[jwk["kid"]] == 1)
    return {key.kid: key for key in keys if key is not None}


def _read_key(jwk: Mapping[str, Any]) -> VerificationKey | None:
    """None for a key that must not verify signatures."""
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
    """RFC 7517, sections 4.2 and 4.3. False for a key that was published with its private part."""
    operations = jwk.get("key_ops", ["verify"])
    return (
        jwk.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
        and _PRIVATE_MEMBERS.isdisjoint(jwk)
    )


def _read_public(jwk: Mapping[str, Any]) -> tuple[PublicKey, frozenset[str]]:
    """Raises KeyError, TypeError or ValueError unless this is a sufficiently strong key of a supported type."""
    match jwk["kty"], jwk.get("crv"):
        case "RSA", _:
            return _read_rsa(jwk), _RSA_ALGORITHMS
        case "EC", "P-256":
            return _read_p256(jwk), _EC_ALGORITHMS
        case "OKP", "Ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(strict.base64url(jwk["x"])), _OKP_ALGORITHMS
    raise ValueError("unsupported key type")  # including `oct`: a published secret is not secret


def _read_rsa(jwk: Mapping[str, Any]) -> rsa.RSAPublicKey:
    modulus, exponent = _unsigned(jwk["n"]), _unsigned(jwk["e"])
    if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS:
        raise ValueError("RSA modulus has the wrong size")
    # FIPS 186-5, appendix A.1.1: odd and above 2^16. Its upper bound is higher; a long exponent only costs time.
    if exponent % 2 == 0 or not 2**16 < exponent < 2**64:
        raise ValueError("RSA exponent out of range")
    if roca.has_fingerprint(modulus):
        raise ValueError("RSA key from a generator whose keys can be factored (CVE-2017-15361)")
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def _unsigned(text: str) -> int:
    """Parse a Base64urlUInt (RFC 7518, section 2): big-endian, in the minimum number of bytes."""
    raw = strict.base64url(text)
    if raw[:1] in (b"", b"\0"):
        raise ValueError("the number is not in its shortest form")
    return int.from_bytes(raw, "big")


def _read_p256(jwk: Mapping[str, Any]) -> ec.EllipticCurvePublicKey:
    x, y = strict.base64url(jwk["x"]), strict.base64url(jwk["y"])
    if len(x) != 32 or len(y) != 32:
        raise ValueError("P-256 coordinates must have 32 bytes each (RFC 7518, section 6.2.1)")
    # Raises ValueError for a point that is not on the curve.
    return ec.EllipticCurvePublicNumbers(
        int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1()
    ).public_key()
