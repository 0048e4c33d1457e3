"""Caches verified credentials, and other values that a revocation must reach.

    lease valid?   no: verify each request through the inner verifier
    cached?        yes: return the cached principal
    miss           take a fill token, verify, and cache the result unless an event has invalidated the token

The guarantee depends on the order of these steps; `guard` explains why.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Hashable
from functools import partial
from typing import Generic, TypeVar

from kataven.identity.credential import ApiKeyCredential, Credential
from kataven.identity.errors import (
    AccountSuspended,
    ExpiredCredential,
    InvalidCredential,
    PausedCredential,
    Refused,
    RevokedCredential,
    RotatedCredential,
)
from kataven.identity.principal import CredentialKind, Principal
from kataven.identity.verifier import Verifier
from kataven.revocation.guard import Guard
from kataven.revocation.scoped_cache import ScopedTtlCache
from kataven.revocation.target import ANY_KEY, RevocationTarget

TTL_SECONDS = 30.0
REFUSED_TTL_SECONDS = 5.0
CAPACITY = 10_000
REFUSED_CAPACITY = 10_000

CACHED_REFUSALS = (
    InvalidCredential,
    ExpiredCredential,
    RevokedCredential,
    RotatedCredential,
    PausedCredential,
    AccountSuspended,
)
"""The definitive refusals. The others can be determined again without I/O."""

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class CachingVerifier:
    """Verifies through `inner` and caches its result for `ttl_seconds`, at most until the credential expires.

    `inner` may use caches that the same guard protects, and no others. In particular it must not rely on a cache in
    another process, which may not have evicted an entry yet when this process reads it.

    Rejected keys are cached separately and for a shorter time, so that invalid keys cannot displace valid ones.
    Rejected JWTs are not cached: rejecting one again needs no database query, and an unknown signing key may be
    published at any time.

    Entries are stored under a keyed digest of the token, with a key of this process. A memory dump therefore contains
    no token, and an attacker cannot prepare tokens that collide. `wall_clock` returns seconds since the Unix epoch and
    is compared with the expiry of credentials.
    """

    def __init__(
        self,
        inner: Verifier,
        guard: Guard,
        *,
        ttl_seconds: float = TTL_SECONDS,
        refused_ttl_seconds: float = REFUSED_TTL_SECONDS,
        capacity: int = CAPACITY,
        refused_capacity: int = REFUSED_CAPACITY,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._inner = inner
        self._guard = guard
        self._stats = guard.stats
        self._ttl_seconds = ttl_seconds
        self._refused_ttl_seconds = refused_ttl_seconds
        self._clock = guard.lease.clock
        self._wall_clock = wall_clock
        self._principals: ScopedTtlCache[bytes, Principal] = ScopedTtlCache(capacity)
        self._refused: ScopedTtlCache[bytes, Refused] = ScopedTtlCache(refused_capacity)
        self._keyed = hashlib.blake2b(key=secrets.token_bytes(32), digest_size=16)
        guard.subscribe(self._principals.evict)
        guard.subscribe(self._refused.evict)

    def verify(self, credential: Credential) -> Principal:
        key = self._digest(credential)
        now = self._clock()
        leases_valid = self._guard.leases_valid_at(now)  # before the lookup: see Guard.leases_valid
        principal = self._principals.get(key, now) if leases_valid else None
        if principal is not None and (principal.expires_at is None or self._wall_clock() < principal.expires_at):
            self._stats.hits += 1
            return principal
        # A refusal may be used without a lease, because it grants no access.
        refusal = self._refused.get(key, now)
        if refusal is not None:
            self._stats.cached_refusals += 1
            # A new instance: threads that raise the same instance would share one traceback.
            raise refusal.copy()
        if leases_valid:
            self._stats.misses += 1
        else:
            self._stats.bypasses += 1
        return self._verify_uncached(credential, key, now, store=leases_valid)

    def _verify_uncached(self, credential: Credential, key: bytes, now: float, *, store: bool) -> Principal:
        fill_token = self._guard.take_fill_token()
        try:
            principal = self._inner.verify(credential)
        except CACHED_REFUSALS as refusal:
            if isinstance(credential, ApiKeyCredential):
                self._cache_refusal(fill_token, credential.account, key, refusal, now)
            raise
        # A user without an id is from an auth-service of an earlier release: no event could evict the user's entries.
        if store and (principal.kind is not CredentialKind.JWT or principal.person is not None):
            self._cache_principal(fill_token, key, principal, now)
        return principal

    def _cache_principal(self, fill_token: int, key: bytes, principal: Principal, now: float) -> None:
        target = RevocationTarget(principal.account, principal.id, principal.person)
        expires = now + self._ttl_seconds
        if principal.recheck_at is not None:
            expires = min(expires, principal.recheck_at)
        put = partial(self._principals.put, key, principal, target, now=now, expires=expires)
        if not self._guard.cache_result(fill_token, target, put):
            self._stats.stale_drops += 1

    def _cache_refusal(self, fill_token: int, account: str, key: bytes, refusal: Refused, now: float) -> None:
        target = RevocationTarget(account, ANY_KEY)  # a key that is resumed is accepted at once
        # A copy without traceback, so that the cache keeps no reference to stack frames.
        plain = refusal.copy()
        put = partial(self._refused.put, key, plain, target, now=now, expires=now + self._refused_ttl_seconds)
        self._guard.cache_result(fill_token, target, put)

    def _digest(self, credential: Credential) -> bytes:
        # The digest includes the account: a JWT that was verified for one account may be sent with another.
        keyed = self._keyed.copy()
        keyed.update(f"{credential.account} {credential.token}".encode())
        return keyed.digest()


class GuardedCache(Generic[Key, Value]):
    """A cache for other values that a revocation must reach, such as the record of an account.

    Every cache that a verifier reads through must be protected by the same guard. Otherwise a verification that starts
    after a revocation could use a value from before it.
    """

    def __init__(self, guard: Guard, *, ttl_seconds: float, capacity: int) -> None:
        self._guard = guard
        self._ttl_seconds = ttl_seconds
        self._clock = guard.lease.clock
        self._values: ScopedTtlCache[Key, Value] = ScopedTtlCache(capacity)
        guard.subscribe(self._values.evict)

    def get(self, key: Key, target: RevocationTarget, read: Callable[[], Value]) -> Value:
        """The cached value of `key`, or else the result of `read`, which is then cached with `target`.

        None is returned but not cached. Exceptions of `read` propagate.
        """
        now = self._clock()
        leases_valid = self._guard.leases_valid_at(now)
        value = self._values.get(key, now) if leases_valid else None
        if value is not None:
            return value
        fill_token = self._guard.take_fill_token()
        value = read()
        if leases_valid and value is not None:
            put = partial(self._values.put, key, value, target, now=now, expires=now + self._ttl_seconds)
            self._guard.cache_result(fill_token, target, put)
        return value
