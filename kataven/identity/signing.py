"""The keys that sign visitor tokens: a ring of ES256 keys. The first key signs, and every public key is published.

A key must be published before it signs, and until every token that it signed has expired. A verifier that caches the
key set can then verify every token. docs/widget.md describes the steps.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from kataven.identity.signing_numbers import ORDER, PRIVATE_BYTES, check_id, read_key, require_distinct

_ES256 = ECAlgorithm(ECAlgorithm.SHA256)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key of the ring. `id` is public, at most 32 of `a-z 0-9 -`, and is the `kid` in tokens and key set."""

    id: str
    private: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> SigningKey:
        """Parse `id:base64url`, the private number in 32 bytes. Raises ValueError, without any part of the secret."""
        key_id, number = read_key(text)
        return cls(key_id, ec.derive_private_key(number, ec.SECP256R1()))

    def sign(self, claims: Mapping[str, Any], kind: str) -> str:
        """A JWT of type `kind` (RFC 8725, section 3.11: tokens of one type must not be accepted as another)."""
        header = {"alg": "ES256", "kid": self.id, "typ": kind}
        signing_input = f"{_encoded(_json(header))}.{_encoded(_json(claims))}"
        return f"{signing_input}.{_encoded(_ES256.sign(signing_input.encode(), self.private))}"

    def public_jwk(self) -> dict[str, str]:
        """The public key (RFC 7517), without private members."""
        members = ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {"kid": self.id, "kty": "EC", "crv": "P-256", "x": members["x"], "y": members["y"]} | {
            "alg": "ES256",
            "use": "sig",
        }


class SigningRing:
    """One key that signs, and others that are only published: they will sign later, or have signed earlier."""

    def __init__(self, keys: Iterable[SigningKey]) -> None:
        self.keys = tuple(keys)
        if not self.keys:
            raise ValueError("at least one signing key is required")
        require_distinct([key.id for key in self.keys])

    @classmethod
    def parse(cls, text: str) -> SigningRing:
        """Parse `id:base64url,id:base64url`, the signing key first. Raises ValueError, without any secret."""
        return cls(SigningKey.parse(part.strip()) for part in text.split(","))

    @property
    def current(self) -> SigningKey:
        return self.keys[0]

    def public_jwks(self) -> dict[str, Any]:
        """The key set to publish (RFC 7517, section 5)."""
        return {"keys": [key.public_jwk() for key in self.keys]}


def new_key(key_id: str) -> str:
    """A new key in the format of the setting. Raises ValueError for an invalid id."""
    check_id(key_id)
    number = 1 + secrets.randbelow(ORDER - 1)
    text = f"{key_id}:{_encoded(number.to_bytes(PRIVATE_BYTES, 'big'))}"
    SigningKey.parse(text)
    return text


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
