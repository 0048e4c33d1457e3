"""The syntax of user tokens and refresh tokens: `ut_<secret>` and `rt_<session>_<secret>`, each with a checksum.

Tokens are random. Redis stores only their digests, so its content can't be used as a token. The checksum, the same as
in API keys, detects damaged tokens without I/O.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

from kataven.identity.token import ALPHABET, CHECKSUM_LENGTH, SECRET_LENGTH, checksum

USER_TOKEN: Final = "ut"  # noqa: S105  a prefix
REFRESH_TOKEN: Final = "rt"  # noqa: S105  a prefix

_PART = rf"[0-9A-Za-z]{{{SECRET_LENGTH}}}"
USER_TOKEN_PATTERN: Final = rf"ut_{_PART}[0-9A-Za-z]{{{CHECKSUM_LENGTH}}}"
REFRESH_TOKEN_PATTERN: Final = rf"rt_({_PART})_{_PART}[0-9A-Za-z]{{{CHECKSUM_LENGTH}}}"
_USER_TOKEN = re.compile(USER_TOKEN_PATTERN)
_REFRESH_TOKEN = re.compile(REFRESH_TOKEN_PATTERN)


def new_user_token() -> str:
    return _with_checksum(f"{USER_TOKEN}_{new_secret()}")


def new_refresh_token(name: str) -> str:
    """A refresh token for the visitor session `name`."""
    return _with_checksum(f"{REFRESH_TOKEN}_{name}_{new_secret()}")


def new_secret() -> str:
    """A string of 256 random bits."""
    return "".join(secrets.choice(ALPHABET) for _ in range(SECRET_LENGTH))


def is_user_token(text: str) -> bool:
    """Whether syntax and checksum are valid. No I/O."""
    return _USER_TOKEN.fullmatch(text) is not None and _checks(text)


def session_name(refresh_token: str) -> str | None:
    """The name of the visitor session in a refresh token; None if syntax or checksum is invalid. No I/O."""
    match = _REFRESH_TOKEN.fullmatch(refresh_token)
    return match[1] if match is not None and _checks(refresh_token) else None


def digest(text: str) -> str:
    """The digest under which a token is stored. 256 random bits need neither a key nor a salt."""
    return hashlib.sha256(text.encode()).hexdigest()


def _with_checksum(body: str) -> str:
    return body + checksum(body)


def _checks(text: str) -> bool:
    return checksum(text[:-CHECKSUM_LENGTH]) == text[-CHECKSUM_LENGTH:]
