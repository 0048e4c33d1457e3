"""Authorization codes and refresh tokens (RFC 6749, sections 4.1 and 6), and the PKCE check (RFC 7636)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from kataven.dev.personas import Persona

CODE_LIFETIME_SECONDS = 60
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


class InvalidGrant(Exception):
    """Raised if a code or a refresh token is unknown, used or expired, or was issued to another client."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The content of a code or of a refresh token."""

    person: Persona
    redirect_uri: str
    scope: str
    nonce: str | None
    challenge: str
    """BASE64URL(SHA256(verifier)), RFC 7636, section 4.2."""

    def check(self, redirect_uri: str, verifier: str) -> None:
        """Raise InvalidGrant unless the client that redeems the code is the one that requested it."""
        if self.redirect_uri != redirect_uri:
            raise InvalidGrant("The redirect_uri is not the one that the code was requested with.")
        if _VERIFIER.fullmatch(verifier) is None or not hmac.compare_digest(challenge_of(verifier), self.challenge):
            raise InvalidGrant("The code_verifier does not match the code_challenge.")


class GrantStore:
    """Issued codes or refresh tokens. Each can be redeemed once."""

    def __init__(self, lifetime_seconds: float = math.inf, clock: Callable[[], float] = time.monotonic) -> None:
        self._lifetime_seconds = lifetime_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._grants: dict[str, tuple[Grant, float]] = {}

    def issue(self, grant: Grant) -> str:
        """A new secret for `grant`."""
        secret = secrets.token_urlsafe(32)
        now = self._clock()
        with self._lock:
            self._grants = {known: entry for known, entry in self._grants.items() if entry[1] > now}
            self._grants[secret] = (grant, now + self._lifetime_seconds)
        return secret

    def redeem(self, secret: str) -> Grant:
        """The grant of `secret`, which becomes invalid, even if the request is rejected later. Raises InvalidGrant."""
        with self._lock:
            grant, expires_at = self._grants.pop(secret, (None, 0.0))
        if grant is None or self._clock() >= expires_at:
            raise InvalidGrant("The code or the refresh token is unknown, used or expired.")
        return grant


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a PKCE verifier, which is ASCII."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).rstrip(b"=").decode()
