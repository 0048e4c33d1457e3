"""Limits how long a JWT is accepted without the issuer's confirmation, for issuers that report nothing.

    age of the last confirmation      the token is …
    less than half of the bound       accepted
    less than the bound               accepted, and a request to the issuer is started beside the request
    more                              accepted if the issuer confirms it now
    more, and the issuer is silent    accepted for a grace period, then 503

The issuer confirms a token when it issues it (`iat`), and when it says that the token is active. A token is asked about
only after its signature and its grants were verified, by one request at a time. The memory is bounded. It grants no
access on its own: the cutoffs of users are compared before it is read, on every verification, and the events of users
evict it. It can therefore be used without a lease.
"""

from __future__ import annotations

import hashlib
import logging
import math
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from kataven.identity import jws
from kataven.identity.credential import Credential
from kataven.identity.errors import ExpiredCredential, SessionEnded, VerifierUnavailable
from kataven.identity.jwt import LEEWAY_SECONDS, VerifiedClaims
from kataven.identity.principal import CredentialKind, Principal
from kataven.identity.verifier import Verifier
from kataven.revocation.guard import Guard
from kataven.revocation.scoped_cache import ScopedTtlCache
from kataven.revocation.target import RevocationTarget

TIMEOUT_SECONDS = 2.0
"""For one request of the issuer, including the wait for a connection."""
CAPACITY = 10_000
MAX_IN_PROGRESS = 256
"""Tokens that the issuer is asked about at the same time. More are treated as if the issuer were silent."""
COOLDOWN_SECONDS = 5.0
"""After a failure, until the issuer is asked again. In between, no request waits for it."""
RECHECK_SECONDS = 2.0
"""How long a result is used while the issuer is asked, so that "not active" takes effect soon."""

INTROSPECTION_OUTCOMES = ("active", "inactive", "failed", "grace", "unavailable")
"""What `count` is called with: the issuer's responses; tokens that were accepted in the grace period, or refused after
it."""

_log = logging.getLogger(__name__)


class IntrospectionFailed(Exception):
    """The issuer did not say whether the token is active. The message contains nothing of the response's body."""


class Introspects(Protocol):
    """Asks the issuer, as `Introspector` does. It is not imported here, because it loads an HTTP client."""

    def ask(self, token: str, sub: str) -> Future[bool]:
        """Whether the issuer says that the token of this user is active. The future raises IntrospectionFailed."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Bound:
    """`seconds`: the longest time without a confirmation. `grace_seconds`: added to it while the issuer is silent."""

    seconds: float
    grace_seconds: float


@dataclass(frozen=True, slots=True)
class _Confirmation:
    """The issuer's last word on a token. `at` is monotonic."""

    active: bool
    at: float


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    sub: str
    person: str
    expires_at: float | None


class Confirmations:
    """The confirmations that one worker remembers. Thread-safe. The clock is that of the guard's lease. `wall_clock`
    returns seconds since the Unix epoch."""

    def __init__(
        self,
        introspector: Introspects,
        guard: Guard,
        bound: Bound,
        count: Callable[[str], None],
        *,
        capacity: int = CAPACITY,
        timeout_seconds: float = TIMEOUT_SECONDS + 1,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._introspector = introspector
        self._guard = guard
        self._bound = bound
        self._count = count
        self._timeout_seconds = timeout_seconds
        self._clock = guard.lease.clock
        self._wall_clock = wall_clock
        self._remembered: ScopedTtlCache[bytes, _Confirmation] = ScopedTtlCache(capacity)
        self._in_progress: dict[bytes, Future[bool]] = {}
        self._ask_again_at = -math.inf
        self._lock = threading.Lock()
        self._keyed = hashlib.blake2b(key=secrets.token_bytes(32), digest_size=16)
        guard.subscribe(self._remembered.evict)

    def require(self, token: str, claims: VerifiedClaims) -> float:
        """Require that the issuer confirmed a verified token within the bound.

        Returns until when the result may be used without asking again, on the monotonic clock. Raises SessionEnded if
        the issuer says that the token is not active, ExpiredCredential if that is because of its age, and
        VerifierUnavailable if the issuer is silent.
        """
        found = _Token(token, claims.subject, claims.person.id, claims.expires_at)
        return self._require(found, claims.issued_at)

    def require_principal(self, token: str, principal: Principal) -> float:
        """The same for the principal of a JWT."""
        issued_at = jws.parse(token).payload.get("iat")  # the verifier has checked the token and its `iat`
        found = _Token(token, principal.id, principal.person or "", principal.expires_at)
        return self._require(found, issued_at if isinstance(issued_at, int | float) else None)

    def close(self) -> None:
        self._introspector.close()

    def _require(self, token: _Token, issued_at: float | None) -> float:
        digest, now = self._digest(token.text), self._clock()
        known = self._remembered.get(digest, now) or self._first(token, digest, issued_at, now)
        if not known.active:
            raise self._ended(token)
        age, bound = now - known.at, self._bound.seconds
        if age < bound / 2:
            return known.at + bound / 2
        if age < bound:
            self._ask(token, digest, now)
            return min(now + RECHECK_SECONDS, known.at + bound)
        return self._require_now(token, digest, known, now)

    def _first(self, token: _Token, digest: bytes, issued_at: float | None, now: float) -> _Confirmation:
        """The issuer confirmed a token that this worker sees for the first time when it issued it."""
        age = math.inf if issued_at is None else max(0.0, self._wall_clock() - issued_at)
        first = _Confirmation(True, now - age)
        if age < self._bound.seconds:
            self._remember(token, digest, first, self._guard.take_fill_token())
        return first

    def _require_now(self, token: _Token, digest: bytes, known: _Confirmation, now: float) -> float:
        asked = self._ask(token, digest, now)
        if asked is not None:
            active = None
            with suppress(Exception):  # `_asked` logs it, or the issuer is silent
                active = asked.result(self._timeout_seconds)
            if active is not None:
                if not active:
                    raise self._ended(token)
                return now + self._bound.seconds / 2
        grace_ends_at = known.at + self._bound.seconds + self._bound.grace_seconds
        if now < grace_ends_at:
            self._count("grace")
            return min(now + RECHECK_SECONDS, grace_ends_at)
        self._count("unavailable")
        raise VerifierUnavailable(
            "The token issuer has not confirmed the token, and is unavailable. Retry later.",
            retry_after_seconds=math.ceil(COOLDOWN_SECONDS),
        )

    def _ask(self, token: _Token, digest: bytes, now: float) -> Future[bool] | None:
        """Ask the issuer, or join the request in progress for this token. None if the issuer failed a moment ago."""
        with self._lock:
            asked = self._in_progress.get(digest)
            if asked is not None:
                return asked
            if now < self._ask_again_at or len(self._in_progress) >= MAX_IN_PROGRESS:
                return None
            if self._ask_again_at > -math.inf:  # it failed last time: only this request tries again
                self._ask_again_at = now + COOLDOWN_SECONDS
            fill_token = self._guard.take_fill_token()
            asked = self._in_progress[digest] = self._introspector.ask(token.text, token.sub)
        asked.add_done_callback(partial(self._asked, token, digest, now, fill_token))
        return asked

    def _asked(self, token: _Token, digest: bytes, began: float, fill_token: int, asked: Future[bool]) -> None:
        try:
            active = asked.result()
        except Exception as error:  # whatever failed: the issuer must be asked about this token again
            self._count("failed")
            with self._lock:
                self._in_progress.pop(digest, None)
                self._ask_again_at = max(self._ask_again_at, began + COOLDOWN_SECONDS)
            # Other messages could contain the token.
            reason = str(error) if isinstance(error, IntrospectionFailed) else type(error).__name__
            _log.warning("a token could not be introspected", extra={"error": reason})
            return
        self._count("active" if active else "inactive")
        # Counted from before the request: the issuer may have read its database at any time since.
        self._remember(token, digest, _Confirmation(active, began), fill_token)
        with self._lock:
            self._in_progress.pop(digest, None)
            self._ask_again_at = -math.inf

    def _remember(self, token: _Token, digest: bytes, confirmation: _Confirmation, fill_token: int) -> None:
        target = RevocationTarget(None, subject=token.person)
        now = self._clock()
        expires = now + self._bound.seconds + self._bound.grace_seconds
        put = partial(self._remembered.put, digest, confirmation, target, now=now, expires=expires)
        self._guard.cache_result(fill_token, target, put)

    def _ended(self, token: _Token) -> SessionEnded | ExpiredCredential:
        """The issuer's clock may be ahead of this one: then a token that expires now is not active any more."""
        if token.expires_at is not None and token.expires_at - self._wall_clock() < LEEWAY_SECONDS:
            return ExpiredCredential()
        return SessionEnded()

    def _digest(self, token: str) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(token.encode())
        return keyed.digest()


class ConfirmingVerifier:
    """Verifies through `inner`, and then requires the issuer's confirmation of JWTs."""

    def __init__(self, inner: Verifier, confirmations: Confirmations) -> None:
        self._inner = inner
        self._confirmations = confirmations

    def verify(self, credential: Credential) -> Principal:
        principal = self._inner.verify(credential)
        if principal.kind is not CredentialKind.JWT:
            return principal
        return replace(principal, recheck_at=self._confirmations.require_principal(credential.token, principal))
