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
_LONG_WORD = re.compile(r"[0-9A-Za-z]{40,}")
_OF_RANDOM_PART = (re.compile("[a-z]"), re.compile("[A-Z]"), re.compile("[0-9]"))


def has_secret(text: str) -> bool:
    """Whether the text contains something that looks like a secret, or like a part of one."""
    return redact(text) != text or any(_is_random_part(word[0]) for word in _LONG_WORD.finditer(text))


def has_key_in_url(query: bytes) -> bool:
    """Whether the query of a URL contains a key, or the start of one."""
    if b"live" not in query.lower() and b"%" not in query:
        return False
    return _KEY_START.search(unquote_plus(query.decode("latin-1"))) is not None


def _is_random_part(word: str) -> bool:
    """Whether it looks like the random part of a key without its prefix. Ids of requests and hashes are in lower case.

    Separate patterns, because lookaheads in one pattern would read a long word again for each of its characters.
    """
    return all(pattern.search(word) for pattern in _OF_RANDOM_PART)


def key_in(text: str) -> str:
    """The first complete key in the text; the text without white space around it, if it contains none."""
    found = _KEY.search(text)
    return text.strip() if found is None else found[0]
