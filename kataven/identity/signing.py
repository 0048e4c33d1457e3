"""The keys that sign visitor tokens: a ring of ES256 keys. The first signs, and the public half of each is published.

A key is published before it signs and for as long as what it signed is good, so that a verifier that keeps the key set
for a while never meets a signature that it can't check. docs/widget.md has the steps.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from kataven.identity import strict

PRIVATE_BYTES: Final = 32
_KEY_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_ES256 = ECAlgorithm(ECAlgorithm.SHA256)
# The order of P-256's base point (FIPS 186-5; SEC 2): a private key lies between 1 and this.
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key of the ring. `id` is public, at most 32 of `a-z 0-9 -`, and stands as `kid` in tokens and key set."""

    id: str
    private: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> SigningKey:
        """From `id:base64url`, the private number in 32 bytes. Raises ValueError, without any part of the secret."""
        key_id, separator, encoded = text.partition(":")
        if not separator:
            raise ValueError("a signing key is written id:base64url")
        _check_id(key_id)
        try:
            raw = strict.base64url(encoded)
        except ValueError:
            raise ValueError(f"signing key {key_id!r} is not base64url") from None
        number = int.from_bytes(raw, "big")
        if len(raw) != PRIVATE_BYTES or not 0 < number < _ORDER:
            raise ValueError(f"signing key {key_id!r} is no P-256 key: it must be {PRIVATE_BYTES} random bytes")
        return cls(key_id, ec.derive_private_key(number, ec.SECP256R1()))

    def sign(self, claims: Mapping[str, Any], kind: str) -> str:
        """A JWT of the type `kind` (RFC 8725, section 3.11: so that no token of ours can be taken for another)."""
        header = {"alg": "ES256", "kid": self.id, "typ": kind}
        signing_input = f"{_encoded(_json(header))}.{_encoded(_json(claims))}"
        return f"{signing_input}.{_encoded(_ES256.sign(signing_input.encode(), self.private))}"

    def public_jwk(self) -> dict[str, str]:
        """RFC 7517, without any private member."""
        members = ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {"kid": self.id, "kty": "EC", "crv": "P-256", "x": members["x"], "y": members["y"]} | {
            "alg": "ES256",
            "use": "sig",
        }


class SigningRing:
    """One key that signs, and others that are published beside it: about to sign, or done with it."""

    def __init__(self, keys: Iterable[SigningKey]) -> None:
        self.keys = tuple(keys)
        if not self.keys:
            raise ValueError("at least one signing key is needed")
        if len({key.id for key in self.keys}) < len(self.keys):
            raise ValueError("two signing keys have the same id")

    @classmethod
    def parse(cls, text: str) -> SigningRing:
        """From `id:base64url,id:base64url`, the one that signs first. Raises ValueError, without any secret."""
        return cls(SigningKey.parse(part.strip()) for part in text.split(","))

    @property
    def current(self) -> SigningKey:
        return self.keys[0]

    def public_jwks(self) -> dict[str, Any]:
        """The key set to publish (RFC 7517, section 5)."""
        return {"keys": [key.public_jwk() for key in self.keys]}


def _check_id(key_id: str) -> None:
    if _KEY_ID.fullmatch(key_id) is None:
        raise ValueError("a signing key's id is 1 to 32 of a-z 0-9 and -, the first of them a letter or digit")


def new_key(key_id: str) -> str:
    """A new key as the setting takes it. Raises ValueError for an id that no key can have."""
    _check_id(key_id)
    number = 1 + secrets.randbelow(_ORDER - 1)
    text = f"{key_id}:{_encoded(number.to_bytes(PRIVATE_BYTES, 'big'))}"
    SigningKey.parse(text)
    return text


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
