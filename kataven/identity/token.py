"""The text of a key: `sk_live_<account>_<secret>` and `pk_live_<account>_<secret>`.

The secret is 43 random base62 characters (256 bits) and a checksum: the CRC32 of all that stands before it, as six
base62 characters, which is GitHub's scheme. So a mistyped key is refused without asking anybody, and a secret scanner
can tell a key from a look-alike offline. The checksum is no protection against forgery; the 256 bits are.
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

ACCOUNT_PATTERN = r"[a-z0-9][a-z0-9_-]{0,62}"
TOKEN_PATTERN = rf"(?:sk|pk)_live_{ACCOUNT_PATTERN}_[0-9A-Za-z]{{{SECRET_LENGTH + CHECKSUM_LENGTH}}}"
"""Recognises both kinds; published for secret scanners (see docs/token-format.md)."""

_ACCOUNT = re.compile(ACCOUNT_PATTERN)
_TOKEN = re.compile(rf"(sk|pk)_live_({ACCOUNT_PATTERN})_[0-9A-Za-z]{{{SECRET_LENGTH + CHECKSUM_LENGTH}}}")


class TokenKind(StrEnum):
    """What a key is for: a secret of the customer's servers, or a public name for their web pages."""

    API_KEY = "sk"
    WIDGET_KEY = "pk"


@dataclass(frozen=True, slots=True)
class Token:
    """A key whose form and checksum are right. Whether anybody issued it is another question."""

    kind: TokenKind
    account: str
    text: str = field(repr=False)

    @property
    def hint(self) -> str:
        """The last characters, enough for its owner to tell it from their other keys."""
        return self.text[-HINT_LENGTH:]


def generate(kind: TokenKind, account: str) -> Token:
    """A new random key for `account`. Raises ValueError for a name that no account can have."""
    if not is_account_name(account):
        raise ValueError("not an account name")
    secret = "".join(secrets.choice(ALPHABET) for _ in range(SECRET_LENGTH))
    body = f"{kind}_live_{account}_{secret}"
    return Token(kind, account, body + checksum(body))


def parse(text: str) -> Token:
    """Read a key. Raises MalformedToken; does no I/O."""
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise MalformedToken
    if checksum(text[:-CHECKSUM_LENGTH]) != text[-CHECKSUM_LENGTH:]:
        raise MalformedToken("The key's checksum is wrong: it was mistyped or cut. Copy it again, whole.")
    return Token(TokenKind(match[1]), match[2], text)


def checksum(body: str) -> str:
    """The CRC32 (ISO 3309) of `body` in base62, most significant digit first, padded with `0` to six characters."""
    value = zlib.crc32(body.encode("ascii"))
    digits = []
    for _ in range(CHECKSUM_LENGTH):
        value, digit = divmod(value, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


def is_account_name(text: str) -> bool:
    """Whether an account can bear this name."""
    return _ACCOUNT.fullmatch(text) is not None
