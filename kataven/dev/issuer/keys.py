"""The development issuer's signing keys: one for ES256 and one for RS256, as JWKs in one private file."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from filelock import FileLock
from jwt import PyJWK
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from kataven.dev.embedded.errors import DevError
from kataven.dev.embedded.files import passable_folder, read_text, write_private
from kataven.identity.jwk import VerificationKey, read_key_set

SigningAlgorithm = Literal["ES256", "RS256"]
PUBLIC_MEMBERS = ("kid", "alg", "use", "kty", "crv", "x", "y", "n", "e")


class Keyring:
    """The keys in a data directory, created on first use. Processes can share it: each call reads the file again.

    Every method raises DevError if the file cannot be read or written.
    """

    def __init__(self, data_dir: Path) -> None:
        self._file = data_dir / "oidc-keys.json"
        self._lock = FileLock(data_dir / "oidc-keys.lock", mode=0o600, preserve_lock_file=True)

    def signing_key(self, algorithm: SigningAlgorithm = "ES256") -> PyJWK:
        """The newest key for `algorithm`."""
        return PyJWK(next(jwk for jwk in self._keys() if jwk["alg"] == algorithm))

    def rotate(self) -> None:
        """Create new signing keys. The previous pair remains published, so its tokens are valid until they expire."""
        with self._lock:
            self._write(_new_pair() + self._read()[:2])

    def public_jwks(self) -> dict[str, Any]:
        """The JWK Set to publish (RFC 7517), without private members."""
        return {"keys": [{name: jwk[name] for name in PUBLIC_MEMBERS if name in jwk} for jwk in self._keys()]}

    def key(self, kid: str) -> VerificationKey | None:
        """Implements KeySource, so that the issuer verifies its own tokens with the same code as the API."""
        return read_key_set(self.public_jwks()).get(kid)

    def _keys(self) -> list[dict[str, Any]]:
        """The private JWKs, newest first."""
        if not (keys := self._read()):
            passable_folder(self._file.parent)
            with self._lock:  # so that processes that start together create one pair
                if not (keys := self._read()):
                    keys = _new_pair()
                    self._write(keys)
        return keys

    def _read(self) -> list[dict[str, Any]]:
        try:
            # Earlier versions stored PEM texts. Those keys are replaced.
            return [jwk for jwk in json.loads(read_text(self._file) or "[]") if "private_key" not in jwk]
        except (TypeError, ValueError):
            raise DevError(f"{self._file} is damaged; remove it, and the issuer creates new keys") from None

    def _write(self, keys: list[dict[str, Any]]) -> None:
        write_private(self._file, json.dumps(keys, indent=2))


def _new_pair() -> list[dict[str, Any]]:
    pair = {
        "ES256": ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True),
        "RS256": RSAAlgorithm.to_jwk(rsa.generate_private_key(public_exponent=65537, key_size=2048), as_dict=True),
    }
    return [{**jwk, "kid": f"dev-{secrets.token_hex(8)}", "alg": name, "use": "sig"} for name, jwk in pair.items()]
