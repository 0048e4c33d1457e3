"""Sessions before sign-in: they are stored only in the browser's cookie.

A million requests for the sign-in page leave nothing in Redis. The cookie is encrypted (AES-256-GCM) with a key that
all processes of the Hub share. Redis stores this key, one per day, and nothing else for unauthenticated browsers.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import secrets
import time
from collections.abc import Callable
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from redis import Redis

ANONYMOUS_SECONDS: Final = 15 * 60
"""Long enough to enter an account name and to sign in at the issuer."""
COOKIE_PREFIX: Final = "anonymous"
"""These cookies start with it. The secret of a session in Redis contains no dot."""

_DAY_SECONDS = 86_400
_KEY_SECONDS = 2 * _DAY_SECONDS
_KEY_BYTES = 32
_NONCE_BYTES = 12
_MAX_COOKIE_LENGTH = 4_000
MAX_SEALED_LENGTH: Final = 3_900
"""Limit for a cookie's value. With its name and attributes, a cookie must fit into the 4 KiB that browsers allow."""
_TAG_BYTES = 16


class AnonymousCookies:
    """Encrypts and decrypts the cookies. Methods raise redis.RedisError. `clock`: seconds since the epoch."""

    def __init__(self, redis: Redis, prefix: str, clock: Callable[[], float]) -> None:
        self._redis = redis
        self._prefix = prefix
        self._clock = clock

    def seal(self, content: dict[str, Any]) -> str:
        """A cookie value from which `open` restores `content` for ANONYMOUS_SECONDS."""
        now = self._clock()
        day = int(now // _DAY_SECONDS)
        key = self._read_key(day) or self._create_key(day)
        plaintext = _plaintext(content, now)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + AESGCM(key).encrypt(nonce, plaintext, _associated_data(day))
        return f"{COOKIE_PREFIX}.{day}.{base64.urlsafe_b64encode(sealed).decode()}"

    def open(self, cookie: str) -> dict[str, Any] | None:
        """The content of the cookie, or None if it expired or was not issued by the Hub."""
        prefix, _, rest = cookie.partition(".")
        day, _, text = rest.partition(".")
        now = self._clock()
        today = int(now // _DAY_SECONDS)
        # Only the keys of two days are read from Redis, so an invented day causes no request.
        if prefix != COOKIE_PREFIX or len(cookie) > _MAX_COOKIE_LENGTH or day not in {str(today), str(today - 1)}:
            return None
        key = self._read_key(int(day))
        if key is None:
            return None
        try:
            sealed = base64.b64decode(text, altchars=b"-_", validate=True)
            plaintext = AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _associated_data(int(day)))
        except (InvalidTag, ValueError, binascii.Error):
            return None
        content: dict[str, Any] = json.loads(plaintext)
        return content if 0 <= now - content.pop("sealed_at") < ANONYMOUS_SECONDS else None

    def _read_key(self, day: int) -> bytes | None:
        found = self._redis.get(self._name(day))
        return found if isinstance(found, bytes) else None

    def _create_key(self, day: int) -> bytes:
        """Create the key of a day. If several processes do so at the same time, all use the first key (SET NX)."""
        key = secrets.token_bytes(_KEY_BYTES)
        self._redis.set(self._name(day), key, nx=True, ex=_KEY_SECONDS)
        return self._read_key(day) or key

    def _name(self, day: int) -> str:
        return f"{self._prefix}anonymous-key:{day}"


def sealed_length(content: dict[str, Any]) -> int:
    """The length of the cookie with this content, or a few characters less."""
    sealed = _NONCE_BYTES + len(_plaintext(content, time.time())) + _TAG_BYTES
    return len(COOKIE_PREFIX) + len(".12345.") + 4 * math.ceil(sealed / 3)


def _plaintext(content: dict[str, Any], now: float) -> bytes:
    return json.dumps({**content, "sealed_at": now}, ensure_ascii=False).encode()


def _associated_data(day: int) -> bytes:
    return f"kataven hub anonymous {day}".encode()
