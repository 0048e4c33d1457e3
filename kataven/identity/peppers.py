"""The secrets that turn a key into what is stored: HMAC-SHA256(pepper, token), with the pepper's id beside it.

A stolen database is useless without the pepper. Peppers are a ring, one current and several accepted, so that a pepper
can be replaced while every key goes on working: a key verified under an old one is hashed again under the current one.
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
_PEPPER_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class KeyHash:
    """What the account's database keeps of a key."""

    pepper_id: str
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Pepper:
    """One secret of the ring. `id` is public, at most 32 of `a-z 0-9 -`; `secret` is at least 32 bytes."""

    id: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if _PEPPER_ID.fullmatch(self.id) is None:
            raise ValueError("a pepper's id is 1 to 32 of a-z 0-9 and -")
        if len(self.secret) < MIN_PEPPER_BYTES:
            raise ValueError(f"pepper {self.id} is shorter than {MIN_PEPPER_BYTES} bytes")

    def hash(self, token: str) -> KeyHash:
        """The only form in which a key is ever stored."""
        return KeyHash(self.id, hmac.digest(self.secret, token.encode(), hashlib.sha256))


class PepperRing:
    """One current pepper, which hashes new keys, and the older ones that are still accepted."""

    def __init__(self, peppers: Iterable[Pepper]) -> None:
        self._peppers = tuple(peppers)
        if not self._peppers:
            raise ValueError("at least one pepper is needed")
        if len({pepper.id for pepper in self._peppers}) < len(self._peppers):
            raise ValueError("two peppers have the same id")

    @classmethod
    def parse(cls, text: str) -> PepperRing:
        """From `id:base64url,id:base64url`, the current one first. Raises ValueError, without any part of a secret."""
        return cls(_parse_pepper(part.strip()) for part in text.split(","))

    @property
    def current(self) -> Pepper:
        return self._peppers[0]

    @property
    def ids(self) -> tuple[str, ...]:
        """Of all peppers, the current one's first."""
        return tuple(pepper.id for pepper in self._peppers)

    def candidates(self, token: str) -> tuple[KeyHash, ...]:
        """Every hash under which this key can be stored, the current pepper's first."""
        return tuple(pepper.hash(token) for pepper in self._peppers)


def _parse_pepper(text: str) -> Pepper:
    pepper_id, separator, encoded = text.partition(":")
    if not separator:
        raise ValueError("a pepper is written id:base64url")
    try:
        secret = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"pepper {pepper_id[:32]!r} is not base64url") from None
    return Pepper(pepper_id, secret)
