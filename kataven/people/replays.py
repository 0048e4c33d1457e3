"""Which signed events were applied, in Redis: a replayed event must not end the sessions that are newer than it.

An event is remembered after its receipt, so that the sender can repeat one that was not confirmed, and so that no event
is lost if a process dies. While it is applied, it is claimed: a second delivery at the same time, to another process,
is refused, and its sender repeats it. A claim expires, so that a process that dies does not keep it. A logout token is
remembered until it expires, and then refused by its own rule. A SET, which has no expiry, is remembered for seven days.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from redis.exceptions import RedisError

from kataven.redis_clients import redis_client

CLAIM_SECONDS = 30
"""Longer than a revocation waits for a receipt."""


class EventInProgress(Exception):
    """Another process applies the same event. Receive it again later."""


class Replays:
    """Remembers the `jti` of tokens, as digests."""

    def __init__(self, redis_url: str, *, prefix: str = "events:", timeout_seconds: float = 1) -> None:
        self._redis = redis_client(redis_url, timeout_seconds=timeout_seconds)
        self._prefix = prefix

    def was_applied(self, issuer: str, jti: str) -> bool:
        """Whether a token with this `jti` was applied. False if Redis is unavailable: an event must not be lost for
        that reason."""
        try:
            return bool(self._redis.exists(self._name(issuer, jti)))
        except RedisError:
            return False

    def remember(self, issuer: str, jti: str, seconds: float) -> None:
        """The event was applied. It is valid for `seconds` more."""
        with suppress(RedisError):
            self._redis.set(self._name(issuer, jti), b"", px=max(1, round(seconds * 1000)))

    @contextmanager
    def claimed(self, issuer: str, jti: str) -> Iterator[None]:
        """Apply the event in this block. Raises EventInProgress if another process applies it.

        Without Redis there is no claim: an event must not be lost, and applying it twice has the effect of once.
        """
        name = f"{self._name(issuer, jti)}:claim"
        try:
            claimed = bool(self._redis.set(name, b"", nx=True, ex=CLAIM_SECONDS))
        except RedisError:
            claimed = True
        if not claimed:
            raise EventInProgress
        try:
            yield
        finally:
            with suppress(RedisError):
                self._redis.delete(name)

    def close(self) -> None:
        self._redis.close()

    def _name(self, issuer: str, jti: str) -> str:
        return f"{self._prefix}{hashlib.sha256(f'{issuer} {jti}'.encode()).hexdigest()}"
