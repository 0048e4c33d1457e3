"""Parses the setting with the keys that sign visitor tokens, into ids and private numbers.

Settings check the text with this module. It loads no cryptography, which every command would have to wait for.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from kataven.identity import strict

PRIVATE_BYTES: Final = 32
# The order of P-256's base point (FIPS 186-5; SEC 2): a private key is at least 1 and less than this.
ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_KEY_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


class SigningNumber(NamedTuple):
    """One key: its public id and its private number."""

    id: str
    private: int

    def __repr__(self) -> str:
        return f"SigningNumber(id={self.id!r})"


def read_ring(text: str) -> tuple[SigningNumber, ...]:
    """Parse `id:base64url,id:base64url`. Raises ValueError, without any part of a secret."""
    numbers = tuple(read_key(part.strip()) for part in text.split(","))
    require_distinct([number.id for number in numbers])
    return numbers


def read_key(text: str) -> SigningNumber:
    """Parse `id:base64url`, the private number in 32 bytes. Raises ValueError, without any part of the secret."""
    key_id, separator, encoded = text.partition(":")
    if not separator:
        raise ValueError("a signing key must have the format id:base64url")
    check_id(key_id)
    try:
        raw = strict.base64url(encoded)
    except ValueError:
        raise ValueError(f"signing key {key_id!r} is not base64url") from None
    number = int.from_bytes(raw, "big")
    if len(raw) != PRIVATE_BYTES or not 0 < number < ORDER:
        raise ValueError(f"signing key {key_id!r} is not a P-256 key: it must be {PRIVATE_BYTES} random bytes")
    return SigningNumber(key_id, number)


def require_distinct(ids: list[str]) -> None:
    """Raise ValueError if a key has the id of another."""
    if len(set(ids)) < len(ids):
        raise ValueError("two signing keys have the same id")


def check_id(key_id: str) -> None:
    """Raise ValueError for an id that would not be accepted."""
    if _KEY_ID.fullmatch(key_id) is None:
        raise ValueError("the id of a signing key must be 1 to 32 of a-z 0-9 and -, starting with a letter or a digit")
