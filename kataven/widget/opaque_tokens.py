"""The text of a user token and of a refresh token: `ut_<secret>` and `rt_<visit>_<secret>`, each with a checksum.

They are random; what they are good for stands in Redis under a digest, so that what Redis holds opens nothing. The
checksum, the one that keys have, tells a damaged token from a stolen one without asking anybody.
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
    return _with_checksum(f"{USER_TOKEN}_{new_name()}")


def new_refresh_token(visit: str) -> str:
    """The next one of the visit of this name."""
    return _with_checksum(f"{REFRESH_TOKEN}_{visit}_{new_name()}")


def new_name() -> str:
    """256 random bits."""
    return "".join(secrets.choice(ALPHABET) for _ in range(SECRET_LENGTH))


def is_user_token(text: str) -> bool:
    """Whether its shape and checksum are right. Asks nobody."""
    return _USER_TOKEN.fullmatch(text) is not None and _checks(text)


def session_of(refresh_token: str) -> str | None:
    """The visit that a refresh token names; None unless its shape and checksum are right. Asks nobody."""
    match = _REFRESH_TOKEN.fullmatch(refresh_token)
    return match[1] if match is not None and _checks(refresh_token) else None


def digest(text: str) -> str:
    """Under which a token is known. 256 random bits need no key and no salt."""
    return hashlib.sha256(text.encode()).hexdigest()


def _with_checksum(body: str) -> str:
    return body + checksum(body)


def _checks(text: str) -> bool:
    return checksum(text[:-CHECKSUM_LENGTH]) == text[-CHECKSUM_LENGTH:]
