"""Authenticates this process as an OAuth client: a secret (RFC 6749, section 2.3.1), or a signed assertion
(`private_key_jwt`; RFC 7523, section 2.2; OpenID Connect Core, section 9)."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote_plus

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

from kataven.identity import strict

ASSERTION_SECONDS = 60
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ES256, _RS256 = ECAlgorithm(ECAlgorithm.SHA256), RSAAlgorithm(RSAAlgorithm.SHA256)


class ClientAuthentication(Protocol):
    """Adds what authenticates the client to a request with a form."""

    def authenticate(self, headers: dict[str, str], form: dict[str, str]) -> None: ...


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """`client_secret_basic`."""

    client_id: str
    secret: str = field(repr=False)

    def authenticate(self, headers: dict[str, str], form: dict[str, str]) -> None:
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self.secret)}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode('ascii')).decode()}"


@dataclass(frozen=True, slots=True)
class ClientKey:
    """`private_key_jwt`. The audience of the assertion is the issuer, which every issuer must accept, and which names
    no other server."""

    client_id: str
    issuer: str
    key_id: str | None
    private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = field(repr=False)
    clock: Callable[[], float] = time.time

    def authenticate(self, headers: dict[str, str], form: dict[str, str]) -> None:
        form |= {
            "client_id": self.client_id,
            "client_assertion_type": _ASSERTION_TYPE,
            "client_assertion": self._assertion(),
        }

    def _assertion(self) -> str:
        now = int(self.clock())
        algorithm = "RS256" if isinstance(self.private, rsa.RSAPrivateKey) else "ES256"
        header = {"alg": algorithm, "typ": "JWT"} | ({} if self.key_id is None else {"kid": self.key_id})
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": self.issuer,
            "iat": now,
            "exp": now + ASSERTION_SECONDS,
            "jti": secrets.token_urlsafe(16),
        }
        signed = f"{_encoded(_json(header))}.{_encoded(_json(claims))}"
        if isinstance(self.private, rsa.RSAPrivateKey):
            signature = _RS256.sign(signed.encode(), self.private)
        else:
            signature = _ES256.sign(signed.encode(), self.private)
        return f"{signed}.{_encoded(signature)}"


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A private key with the names that the issuer knows it by."""

    key_id: str | None
    client_id: str | None
    """None if the file does not name it."""
    private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = field(repr=False)


def read_key_file(path: Path) -> KeyFile:
    """Read a private JWK (RFC 7517), or the key file of an API application of Zitadel.

    Raises ValueError with the correction, without any part of the key.
    """
    try:
        content = strict.json_object(path.read_bytes())
    except OSError as error:
        raise ValueError(f"can't be read ({error.strerror or 'no such file'})") from None
    except ValueError:
        raise ValueError("is not JSON; use a private JWK or the key file of a Zitadel API application") from None
    key_id, client_id = content.get("kid", content.get("keyId")), content.get("clientId")
    if not isinstance(key_id, str | None) or not isinstance(client_id, str | None):
        raise ValueError("has a key id or client id that is not a string")
    return KeyFile(key_id, client_id, _private_key(content))


def _private_key(content: Mapping[str, Any]) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    private: object = None
    try:
        if isinstance(content.get("key"), str):
            private = load_pem_private_key(content["key"].encode(), password=None)
        elif content.get("kty") == "RSA":
            private = RSAAlgorithm.from_jwk(dict(content))
        elif content.get("kty") == "EC":
            private = ECAlgorithm.from_jwk(dict(content))
    except (InvalidKeyError, ValueError, TypeError, KeyError):
        pass  # reported below, without the exception's text
    if isinstance(private, rsa.RSAPrivateKey) and private.key_size >= 2048:
        return private
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name == "secp256r1":
        return private
    raise ValueError("contains no private RSA key of at least 2048 bits, and no private P-256 key")


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
