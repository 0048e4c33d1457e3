"""Authorization codes (RFC 6749, section 4.1): good once, for a minute, for whoever holds the PKCE verifier."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from kataven.dev.personas import Persona

LIFETIME_SECONDS = 60
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


class InvalidGrant(Exception):
    """Raised when a code is unknown, used, expired, or shown by somebody whom it was not given to."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a code stands for."""

    person: Persona
    client_id: str
    redirect_uri: str
    scope: str
    nonce: str | None
    challenge: str
    """BASE64URL(SHA256(verifier)), RFC 7636, section 4.2."""


class CodeBook:
    """The codes that are out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._grants: dict[str, tuple[Grant, float]] = {}

    def issue(self, grant: Grant) -> str:
        """A new code for `grant`."""
        code = secrets.token_urlsafe(32)
        now = self._clock()
        with self._lock:
            self._grants = {known: entry for known, entry in self._grants.items() if entry[1] > now}
            self._grants[code] = (grant, now + LIFETIME_SECONDS)
        return code

    def redeem(self, code: str, *, client_id: str, redirect_uri: str, verifier: str) -> Grant:
        """The grant behind a code, which is used up even if the answer is no. Raises InvalidGrant."""
        with self._lock:
            grant, expires_at = self._grants.pop(code, (None, 0.0))
        if grant is None or self._clock() >= expires_at:
            raise InvalidGrant("The code is unknown, used or expired.")
        if (grant.client_id, grant.redirect_uri) != (client_id, redirect_uri):
            raise InvalidGrant("The code was given to another client or redirect URI.")
        if _VERIFIER.fullmatch(verifier) is None or not hmac.compare_digest(challenge_of(verifier), grant.challenge):
            raise InvalidGrant("The code verifier is not the one that the code was asked for with.")
        return grant


class RefreshBook:
    """The refresh tokens that are out (RFC 6749, section 6): good once, for another one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._grants: dict[str, Grant] = {}

    def issue(self, grant: Grant) -> str:
        """A new token for `grant`."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._grants[token] = grant
        return token

    def redeem(self, token: str) -> Grant:
        """The grant behind a token, which is used up. Raises InvalidGrant."""
        with self._lock:
            grant = self._grants.pop(token, None)
        if grant is None:
            raise InvalidGrant("The refresh token is unknown, used or withdrawn.")
        return grant

    def withdraw_all(self) -> None:
        """As if everybody had been signed out at the issuer."""
        with self._lock:
            self._grants.clear()


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a PKCE verifier, which is ASCII."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).rstrip(b"=").decode()
