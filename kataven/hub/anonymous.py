"""The session of a browser in which nobody has signed in: it is in the browser's cookie, and nowhere else.

So a stranger who asks for the sign-in page a million times leaves nothing in Redis. The cookie is sealed (AES-256-GCM)
with a key that all processes of the Hub share. Redis holds that key, one for each day, and nothing else of strangers.
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
"""Long enough to type a name and to sign in at the issuer."""
COOKIE_PREFIX: Final = "anonymous"
"""What the value of such a cookie begins with; the secret of a session that Redis keeps has no dot."""

_DAY_SECONDS = 86_400
_KEY_SECONDS = 2 * _DAY_SECONDS
_KEY_BYTES = 32
_NONCE_BYTES = 12
_MAX_COOKIE_LENGTH = 4_000
MAX_SEALED_LENGTH: Final = 3_900
"""Of the value of a cookie: with its name and attributes it must stay within the 4 KiB that browsers have for it."""
_TAG_BYTES = 16


class AnonymousCookies:
    """Seals and opens them. Methods raise redis.RedisError. `clock`: seconds since the epoch."""

    def __init__(self, redis: Redis, prefix: str, clock: Callable[[], float]) -> None:
        self._redis = redis
        self._prefix = prefix
        self._clock = clock

    def seal(self, content: dict[str, Any]) -> str:
        """The value of a cookie that brings `content` back for ANONYMOUS_SECONDS."""
        now = self._clock()
        day = int(now // _DAY_SECONDS)
        key = self._read(day) or self._make(day)
        plain = _plain(content, now)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + AESGCM(key).encrypt(nonce, plain, _bound_to(day))
        return f"{COOKIE_PREFIX}.{day}.{base64.urlsafe_b64encode(sealed).decode()}"

    def open(self, cookie: str) -> dict[str, Any] | None:
        """What was sealed; None if it was sealed too long ago, or not by the Hub."""
        mark, _, rest = cookie.partition(".")
        day, _, text = rest.partition(".")
        now = self._clock()
        today = int(now // _DAY_SECONDS)
        # Only two days' keys are ever asked for, so that a made-up day costs nothing.
        if mark != COOKIE_PREFIX or len(cookie) > _MAX_COOKIE_LENGTH or day not in {str(today), str(today - 1)}:
            return None
        key = self._read(int(day))
        if key is None:
            return None
        try:
            sealed = base64.b64decode(text, altchars=b"-_", validate=True)
            plain = AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _bound_to(int(day)))
        except (InvalidTag, ValueError, binascii.Error):
            return None
        content: dict[str, Any] = json.loads(plain)
        return content if 0 <= now - content.pop("sealed_at") < ANONYMOUS_SECONDS else None

    def _read(self, day: int) -> bytes | None:
        found = self._redis.get(self._name(day))
        return found if isinstance(found, bytes) else None

    def _make(self, day: int) -> bytes:
        """The key of a day that has none yet. Of several processes that make one at a time, the first one's is used."""
        made = secrets.token_bytes(_KEY_BYTES)
        self._redis.set(self._name(day), made, nx=True, ex=_KEY_SECONDS)
        return self._read(day) or made

    def _name(self, day: int) -> str:
        return f"{self._prefix}anonymous-key:{day}"


def sealed_length(content: dict[str, Any]) -> int:
    """How long the cookie of this content is, or a few characters less."""
    sealed = _NONCE_BYTES + len(_plain(content, time.time())) + _TAG_BYTES
    return len(COOKIE_PREFIX) + len(".12345.") + 4 * math.ceil(sealed / 3)


def _plain(content: dict[str, Any], now: float) -> bytes:
    return json.dumps({**content, "sealed_at": now}, ensure_ascii=False).encode()


def _bound_to(day: int) -> bytes:
    return f"kataven hub anonymous {day}".encode()
