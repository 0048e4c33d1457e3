"""Remembering who showed a credential: a Verifier around a Verifier, and the same care for other memories.

    lease holds?  no → ask the verifier, every time
    remembered?   yes → that is the answer
    ticket → ask the verifier → keep the answer, unless the ticket was spoiled meanwhile

The order of these steps is what the promise rests on; `guard` says why.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Hashable
from functools import partial
from typing import Generic, TypeVar

from kataven.identity.credential import ApiKeyCredential, Credential
from kataven.identity.errors import AccountSuspended, ExpiredCredential, InvalidCredential, Refused, RevokedCredential
from kataven.identity.principal import Principal
from kataven.identity.verifier import Verifier
from kataven.revocation.guard import Guard
from kataven.revocation.scoped_cache import ScopedTtlCache
from kataven.revocation.target import RevocationTarget

TTL_SECONDS = 30.0
REFUSED_TTL_SECONDS = 5.0
CAPACITY = 10_000
REFUSED_CAPACITY = 10_000

CACHED_REFUSALS = (InvalidCredential, ExpiredCredential, RevokedCredential, AccountSuspended)
"""The definite ones. Others cost no I/O to find out again."""

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class CachingVerifier:
    """Verifies through `inner`, and remembers what it said, for `ttl_seconds` and never past the credential's own end.

    `inner` may itself remember things behind the same guard, and nothing anywhere else: what another process remembers
    it may still be about to forget when this one asks.

    Keys that were refused are remembered apart and for a shorter time, so that junk can't push good ones out. JWTs that
    were refused are not: refusing one again costs no database, and an unknown signing key may be published any moment.

    Tokens are known by a digest under a key of this process, so that no memory dump holds them and nobody can prepare
    tokens that collide. `wall_clock`, in seconds since the epoch, is for the credential's own end.
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
        lease_holds = self._guard.leases_valid_at(now)  # before anything is looked up: see Guard.leases_valid
        principal = self._principals.get(key, now) if lease_holds else None
        if principal is not None and (principal.expires_at is None or self._wall_clock() < principal.expires_at):
            self._stats.hits += 1
            return principal
        # A refusal may be remembered without a lease: it lets nobody in.
        refusal = self._refused.get(key, now)
        if refusal is not None:
            self._stats.cached_refusals += 1
            # A new one: two threads that raise the same exception would write into one traceback.
            raise type(refusal)(*refusal.args)
        if lease_holds:
            self._stats.misses += 1
        else:
            self._stats.bypasses += 1
        return self._verify_uncached(credential, key, now, keep=lease_holds)

    def _verify_uncached(self, credential: Credential, key: bytes, now: float, *, keep: bool) -> Principal:
        fill_token = self._guard.take_fill_token()
        try:
            principal = self._inner.verify(credential)
        except CACHED_REFUSALS as refusal:
            if isinstance(credential, ApiKeyCredential):
                self._cache_refusal(fill_token, credential.account, key, refusal, now)
            raise
        if keep:
            self._cache_principal(fill_token, key, principal, now)
        return principal

    def _cache_principal(self, fill_token: int, key: bytes, principal: Principal, now: float) -> None:
        target = RevocationTarget(principal.account, principal.id)
        put = partial(self._principals.put, key, principal, target, now=now, expires=now + self._ttl_seconds)
        if not self._guard.cache_result(fill_token, target, put):
            self._stats.stale_drops += 1

    def _cache_refusal(self, fill_token: int, account: str, key: bytes, refusal: Refused, now: float) -> None:
        target = RevocationTarget(account)
        # Rebuilt, so that it doesn't hold on to the frames that it was raised through.
        plain = type(refusal)(*refusal.args)
        put = partial(self._refused.put, key, plain, target, now=now, expires=now + self._refused_ttl_seconds)
        self._guard.cache_result(fill_token, target, put)

    def _digest(self, credential: Credential) -> bytes:
        # The account belongs to it: a JWT is verified for one account and may be shown for another.
        keyed = self._keyed.copy()
        keyed.update(f"{credential.account} {credential.token}".encode())
        return keyed.digest()


class GuardedCache(Generic[Key, Value]):
    """The same care for anything else that a revocation has to reach, such as what is known of an account.

    Whatever a verifier reads through a memory of its own has to stand behind the guard as well: else a fresh question,
    put after a revocation, would be answered from before it.
    """

    def __init__(self, guard: Guard, *, ttl_seconds: float, capacity: int) -> None:
        self._guard = guard
        self._ttl_seconds = ttl_seconds
        self._clock = guard.lease.clock
        self._values: ScopedTtlCache[Key, Value] = ScopedTtlCache(capacity)
        guard.subscribe(self._values.evict)

    def get(self, key: Key, target: RevocationTarget, read: Callable[[], Value]) -> Value:
        """What is remembered under `key`; else what `read` returns, which is then remembered under `scope`.

        None is returned but not remembered. Raises what `read` raises.
        """
        now = self._clock()
        lease_holds = self._guard.leases_valid_at(now)
        value = self._values.get(key, now) if lease_holds else None
        if value is not None:
            return value
        fill_token = self._guard.take_fill_token()
        value = read()
        if lease_holds and value is not None:
            put = partial(self._values.put, key, value, target, now=now, expires=now + self._ttl_seconds)
            self._guard.cache_result(fill_token, target, put)
        return value
