"""The secrets that keys are hashed with: HMAC-SHA256(pepper, token), stored with the pepper's id.

A stolen database is useless without the pepper. Peppers form a ring with one current pepper and others that are still
accepted, so that a pepper can be rotated while every key continues to work: a key that is verified with an older pepper
is hashed again with the current one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

MIN_PEPPER_BYTES = 32
_DERIVATION = b"kataven secret derivation 1"
_PEPPER_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class KeyHash:
    """What the account's database stores of a key."""

    pepper_id: str
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Pepper:
    """One secret of the ring. `id` is public, at most 32 of `a-z 0-9 -`; `secret` is at least 32 bytes."""

    id: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if _PEPPER_ID.fullmatch(self.id) is None:
            raise ValueError("the id of a pepper must be 1 to 32 of a-z 0-9 and -, starting with a letter or a digit")
        if len(self.secret) < MIN_PEPPER_BYTES:
            raise ValueError(f"pepper {self.id} must have at least {MIN_PEPPER_BYTES} bytes")

    def hash(self, token: str) -> KeyHash:
        """The form in which a key is stored."""
        return KeyHash(self.id, hmac.digest(self.secret, token.encode(), hashlib.sha256))

    def derive(self, data: bytes) -> bytes:
        """64 bytes that only a holder of the pepper can compute from `data`, and that do not depend on any hash."""
        key = hmac.digest(self.secret, _DERIVATION, hashlib.sha512)
        return hmac.digest(key, data, hashlib.sha512)


class PepperRing:
    """The current pepper, which hashes new keys, and older peppers that are still accepted."""

    def __init__(self, peppers: Iterable[Pepper]) -> None:
        self._peppers = tuple(peppers)
        if not self._peppers:
            raise ValueError("at least one pepper is required")
        if len({pepper.id for pepper in self._peppers}) < len(self._peppers):
            raise ValueError("two peppers have the same id")

    @classmethod
    def parse(cls, text: str) -> PepperRing:
        """Parse `id:base64url,id:base64url`, the current one first. Raises ValueError, without any part of a secret."""
        return cls(_parse_pepper(part.strip()) for part in text.split(","))

    @property
    def current(self) -> Pepper:
        return self._peppers[0]

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all peppers, the current one first."""
        return tuple(pepper.id for pepper in self._peppers)

    def find(self, pepper_id: str) -> Pepper | None:
        """None if the ring does not have this pepper, or no longer."""
        return next((pepper for pepper in self._peppers if pepper.id == pepper_id), None)

    def candidates(self, token: str) -> tuple[KeyHash, ...]:
        """Every hash under which this key may be stored, that of the current pepper first."""
        return tuple(pepper.hash(token) for pepper in self._peppers)


def _parse_pepper(text: str) -> Pepper:
    pepper_id, separator, encoded = text.partition(":")
    if not separator:
        raise ValueError("a pepper must have the format id:base64url")
    try:
        secret = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"pepper {pepper_id[:32]!r} is not base64url") from None
    return Pepper(pepper_id, secret)
