"""Recognizes a secret in a text that a user entered, so that it is neither processed in a URL nor shown again."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

from kataven.identity.token import TOKEN_PATTERN
from kataven.logs import redact

MAX_SECRET_LENGTH = 2_000
"""A key, with the line of a configuration file or the command around it."""
_KEY = re.compile(TOKEN_PATTERN)
_KEY_START = re.compile(r"(?:sk|pk)_live_[\w-]{8,}", re.IGNORECASE)
# The random part of a key without its prefix. Ids of requests and hashes are in lower case.
_RANDOM_PART = re.compile(r"(?=[0-9A-Za-z]*[a-z])(?=[0-9A-Za-z]*[A-Z])(?=[0-9A-Za-z]*[0-9])[0-9A-Za-z]{40,}")


def has_secret(text: str) -> bool:
    """Whether the text contains something that looks like a secret, or like a part of one."""
    return redact(text) != text or _RANDOM_PART.search(text) is not None


def has_key_in_url(query: bytes) -> bool:
    """Whether the query of a URL contains a key, or the start of one."""
    if b"live" not in query.lower():
        return False
    return _KEY_START.search(unquote_plus(query.decode("latin-1"))) is not None


def key_in(text: str) -> str:
    """The first complete key in the text; the text without white space around it, if it contains none."""
    found = _KEY.search(text)
    return text.strip() if found is None else found[0]
