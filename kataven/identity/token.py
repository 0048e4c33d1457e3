"""The format of a key: `sk_live_<account>_<secret>` and `pk_live_<account>_<secret>`.

The secret consists of 43 random base62 characters (256 bits) and a checksum: the CRC32 of everything before it, as six
base62 characters, as in GitHub's tokens. A mistyped key is therefore rejected without I/O, and a secret scanner can
recognize a key offline. The checksum does not protect against forgery; the 256 random bits do.
"""

from __future__ import annotations

import re
import secrets
import string
import zlib
from dataclasses import dataclass, field
from enum import StrEnum

from kataven.identity.errors import MalformedToken

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
SECRET_LENGTH = 43
CHECKSUM_LENGTH = 6
HINT_LENGTH = 8
MATERIAL_BYTES = 64

_PAIRS = tuple(first + second for first in ALPHABET for second in ALPHABET)
"""Two digits of base62 for each number below 62². Each request computes a checksum."""

ACCOUNT_PATTERN = r"[a-z0-9][a-z0-9_-]{0,62}"
TOKEN_PATTERN = rf"(?:sk|pk)_live_{ACCOUNT_PATTERN}_[0-9A-Za-z]{{{SECRET_LENGTH + CHECKSUM_LENGTH}}}"
"""Matches both kinds. Published for secret scanners (see docs/token-format.md)."""

_ACCOUNT = re.compile(ACCOUNT_PATTERN)
_TOKEN = re.compile(rf"(sk|pk)_live_({ACCOUNT_PATTERN})_[0-9A-Za-z]{{{SECRET_LENGTH + CHECKSUM_LENGTH}}}")


class TokenKind(StrEnum):
    """The kind of a key: a secret for the customer's servers, or a public identifier for their web pages."""

    API_KEY = "sk"
    WIDGET_KEY = "pk"


@dataclass(frozen=True, slots=True)
class Token:
    """A key with a valid format and checksum. It may not have been issued."""

    kind: TokenKind
    account: str
    text: str = field(repr=False)

    @property
    def hint(self) -> str:
        """The last characters, which distinguish it from the other keys of its owner."""
        return self.text[-HINT_LENGTH:]


def generate(kind: TokenKind, account: str) -> Token:
    """A new random key for `account`. Raises ValueError for an invalid account name."""
    if not is_account_name(account):
        raise ValueError("invalid account name")
    secret = "".join(secrets.choice(ALPHABET) for _ in range(SECRET_LENGTH))
    body = f"{kind}_live_{account}_{secret}"
    return Token(kind, account, body + checksum(body))


def derive(kind: TokenKind, account: str, material: bytes) -> Token:
    """The key for 64 uniformly distributed bytes: the same bytes give the same key. Raises ValueError."""
    if not is_account_name(account):
        raise ValueError("invalid account name")
    if len(material) != MATERIAL_BYTES:
        raise ValueError(f"a key is derived from {MATERIAL_BYTES} bytes")
    # 62^43 is about 2^256, so the remainder of 512 bits is uniform up to a bias of 2^-256.
    value, digits = int.from_bytes(material), []
    for _ in range(SECRET_LENGTH):
        value, digit = divmod(value, len(ALPHABET))
        digits.append(ALPHABET[digit])
    body = f"{kind}_live_{account}_{''.join(digits)}"
    return Token(kind, account, body + checksum(body))


def parse(text: str) -> Token:
    """Parse a key, without I/O. Raises MalformedToken."""
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise MalformedToken
    if checksum(text[:-CHECKSUM_LENGTH]) != text[-CHECKSUM_LENGTH:]:
        raise MalformedToken(
            "The API key's checksum is wrong: the key was mistyped or cut off. Copy the whole key again."
        )
    return Token(TokenKind(match[1]), match[2], text)


def checksum(body: str) -> str:
    """The CRC32 (ISO 3309) of `body` in base62, most significant digit first, padded with `0` to six characters."""
    value, low = divmod(zlib.crc32(body.encode("ascii")), len(_PAIRS))
    high, middle = divmod(value, len(_PAIRS))
    return _PAIRS[high] + _PAIRS[middle] + _PAIRS[low]


def is_account_name(text: str) -> bool:
    """Whether this is a valid account name."""
    return _ACCOUNT.fullmatch(text) is not None
