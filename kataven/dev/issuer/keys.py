"""The development issuer's signing keys: one ES256 and one RS256, kept in one file that only its owner can read."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from kataven.dev.errors import DevError
from kataven.dev.files import passable_folder, read_text, write_private
from kataven.identity.jwk import VerificationKey, read_key_set

SigningAlgorithm = Literal["ES256", "RS256"]
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class IssuerSigningKey:
    """A private key and the `kid` under which its public half is published."""

    kid: str
    algorithm: SigningAlgorithm
    private: PrivateKey = field(repr=False)

    @classmethod
    def generate(cls, algorithm: SigningAlgorithm) -> IssuerSigningKey:
        private: PrivateKey = (
            ec.generate_private_key(ec.SECP256R1())
            if algorithm == "ES256"
            else rsa.generate_private_key(public_exponent=65537, key_size=2048)
        )
        return cls(f"dev-{secrets.token_hex(8)}", algorithm, private)

    def public_jwk(self) -> dict[str, Any]:
        """RFC 7517, without any private member."""
        public = self.private.public_key()
        members = (
            ECAlgorithm.to_jwk(public, as_dict=True)
            if isinstance(public, ec.EllipticCurvePublicKey)
            else RSAAlgorithm.to_jwk(public, as_dict=True)
        )
        return {"kid": self.kid, "alg": self.algorithm, "use": "sig"} | {
            name: members[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in members
        }

    def to_storage(self) -> dict[str, str]:
        pem = self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return {"kid": self.kid, "alg": self.algorithm, "private_key": pem.decode()}

    @classmethod
    def from_storage(cls, stored: Mapping[str, Any]) -> IssuerSigningKey:
        # The file is our own, and checking an RSA key's primes takes 40 ms at each reading.
        private = load_pem_private_key(stored["private_key"].encode(), None, unsafe_skip_rsa_key_validation=True)
        if not isinstance(private, PrivateKey):
            raise TypeError("not one of the development issuer's keys")
        return cls(stored["kid"], stored["alg"], private)


class Keyring:
    """The keys in a data directory, made on first use. Processes may share it; each call reads the file anew.

    Every method raises DevError if the file can't be read or written.
    """

    def __init__(self, data_dir: Path) -> None:
        self._file = data_dir / "oidc-keys.json"

    def signing_key(self, algorithm: SigningAlgorithm = "ES256") -> IssuerSigningKey:
        """The newest key for `algorithm`."""
        return next(key for key in self._keys() if key.algorithm == algorithm)

    def rotate(self) -> None:
        """Make new keys the current ones. The last ones stay published: what they signed is good until it expires."""
        with self._locked():
            self._write(_generation() + self._read()[:2])

    def public_jwks(self) -> dict[str, Any]:
        """The JWK Set to publish."""
        return {"keys": [key.public_jwk() for key in self._keys()]}

    def key(self, kid: str) -> VerificationKey | None:
        """Makes a keyring a KeySource, so that the issuer verifies its own tokens as everybody else does."""
        return read_key_set(self.public_jwks()).get(kid)

    def _keys(self) -> list[IssuerSigningKey]:
        """Newest first."""
        with self._locked():
            keys = self._read()
            if not keys:
                keys = _generation()
                self._write(keys)
            return keys

    def _read(self) -> list[IssuerSigningKey]:
        try:
            return [IssuerSigningKey.from_storage(stored) for stored in json.loads(read_text(self._file) or "[]")]
        except (KeyError, TypeError, ValueError):
            raise DevError(f"{self._file} is damaged: remove it, and new keys are made") from None

    def _write(self, keys: list[IssuerSigningKey]) -> None:
        write_private(self._file, json.dumps([key.to_storage() for key in keys], indent=2))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process and thread at a time, so that two first uses don't make two sets of keys."""
        passable_folder(self._file.parent)
        with open(os.open(self._file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _generation() -> list[IssuerSigningKey]:
    return [IssuerSigningKey.generate("ES256"), IssuerSigningKey.generate("RS256")]
