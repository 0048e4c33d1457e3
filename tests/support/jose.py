"""Keys and signed tokens for tests: valid ones, and the invalid ones that an attacker would try."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from kataven.identity.jws import ALGORITHMS

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def b64(raw: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def as_json(value: object) -> bytes:
    """JSON without whitespace. Bytes are used unchanged, however malformed."""
    return value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Signer:
    """A private key and the form in which its public key is published."""

    kid: str
    algorithm: str
    private: PrivateKey

    def named(self, kid: str) -> Signer:
        return replace(self, kid=kid)

    def using(self, algorithm: str) -> Signer:
        return replace(self, algorithm=algorithm)

    def sign(self, signing_input: bytes) -> bytes:
        return ALGORITHMS[self.algorithm].sign(signing_input, self.private)

    def jwk(self, **members: object) -> dict[str, Any]:
        """The public key with `kid`, `alg` and `use`. `members` replace members; None removes one."""
        public = self.private.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            jwk = RSAAlgorithm.to_jwk(public, as_dict=True)
        elif isinstance(public, ec.EllipticCurvePublicKey):
            jwk = ECAlgorithm.to_jwk(public, as_dict=True)
        else:
            jwk = OKPAlgorithm.to_jwk(public, as_dict=True)
        jwk.pop("key_ops", None)
        return without_none({**jwk, "kid": self.kid, "alg": self.algorithm, "use": "sig", **members})

    def pem(self) -> bytes:
        """The public key as an HMAC secret, as in an HMAC confusion attack."""
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def token(self, payload: object, **header: object) -> str:
        """A compact token. `header` replaces or adds members; None removes one."""
        return self.token_of(without_none({"alg": self.algorithm, "kid": self.kid, "typ": "JWT", **header}), payload)

    def token_of(self, header: object, payload: object) -> str:
        """A compact token with exactly this header and payload, each as an object or as raw bytes."""
        signing_input = f"{b64(as_json(header))}.{b64(as_json(payload))}"
        return f"{signing_input}.{b64(self.sign(signing_input.encode()))}"


def without_none(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


@cache
def rsa_signer(bits: int = 2048, kid: str = "rsa-1") -> Signer:
    return Signer(kid, "RS256", rsa.generate_private_key(public_exponent=65537, key_size=bits))


@cache
def ec_signer(kid: str = "ec-1") -> Signer:
    return Signer(kid, "ES256", ec.generate_private_key(ec.SECP256R1()))


@cache
def ed_signer(kid: str = "ed-1") -> Signer:
    return Signer(kid, "EdDSA", ed25519.Ed25519PrivateKey.generate())
