"""Admission of authenticated requests: one decision over every limit of the account and the key."""

from __future__ import annotations

import logging
import random
from functools import lru_cache
from typing import Self

from kataven.ratelimit.budget import AddressBudget
from kataven.ratelimit.cluster_pool import pool_at
from kataven.ratelimit.decision import Decision, QuotaStatus
from kataven.ratelimit.fallback import FallbackStats, FallbackWindows
from kataven.ratelimit.limiter.exceeded import LimitExceeded
from kataven.ratelimit.memory import MemoryWindows
from kataven.ratelimit.policy import KeyLimits, Limits, RateLimitKey, account_quota_set, key_quota_set
from kataven.ratelimit.redis_socket import Refusal, Unreachable
from kataven.ratelimit.windows import RedisWindows, Windows

log = logging.getLogger(__name__)

APPS = ("api", "hub")
"""The API app and the Hub app have separate counters."""


class Admission:
    """An admitted request. It holds its concurrency slot until `release`."""

    __slots__ = ("_limit_keys", "_slot", "_windows", "decision")

    def __init__(self, windows: Windows, limit_keys: tuple[RateLimitKey, ...], slot: str, decision: Decision) -> None:
        self._windows = windows
        self._limit_keys = limit_keys
        self._slot = slot
        self.decision = decision

    @property
    def quota_statuses(self) -> tuple[QuotaStatus, ...]:
        """The state of every quota, including this request: the account's, then the key's."""
        return self.decision.quota_statuses

    def headers(self) -> list[tuple[str, str]]:
        """`RateLimit-Policy` and `RateLimit`."""
        return self.decision.headers()

    def release(self) -> None:
        """Release the slot. Does not block, does not raise, and is idempotent.

        Must be called before the last byte of the response is sent, so the slot is free for the client's next request.
        """
        self._windows.release(self._limit_keys, self._slot)


class Limiter:
    """The limits of one app (API or Hub) in one worker. The constructor opens no connection."""

    def __init__(self, windows: FallbackWindows) -> None:
        self.windows = windows
        self.addresses = AddressBudget(windows)

    @classmethod
    def at(cls, redis_url: str, *, app: str, workers: int = 1, stats: FallbackStats | None = None) -> Self:
        """Limits in the Redis at `redis_url`. The apps have separate counters.

        `workers` is the number of workers that share the limits if Redis is unavailable at startup.
        """
        redis = RedisWindows(pool_at(redis_url), prefix=redis_prefix(app))
        return cls(FallbackWindows(redis, MemoryWindows(), workers=workers, stats=stats))

    @property
    def degraded(self) -> bool:
        """Whether this worker enforces limits locally because Redis is unavailable or slow."""
        return self.windows.degraded

    def start(self) -> None:
        """Start the heartbeat, which renews slots and checks Redis. Must be called after the fork."""
        self.windows.start()

    def stop(self) -> None:
        """Release every slot and close the connections. Must be called after the last response."""
        self.windows.stop()

    def admit(
        self,
        account: str,
        limits: Limits,
        key_id: str | None = None,
        key_limits: KeyLimits | None = None,
        *,
        cost: int = 1,
    ) -> Admission:
        """Consume `cost` units of each window, acquire a slot, in one round trip. If a window has less left, raises
        LimitExceeded and consumes nothing.

        A cost of 0 reads the limits: it consumes nothing, acquires no slot, and is never refused.
        """
        limit_keys = rate_limit_keys_of(account, limits, key_id, key_limits)
        # Must be unique but not secret. Python reseeds the generator after a fork.
        slot = f"{random.getrandbits(64):016x}"
        if not cost:
            seen = self.windows.peek(limit_keys, 0)
            return Admission(self.windows, limit_keys, slot, Decision(seen.quota_sets, True, seen.counts, 0))
        decision = self.windows.take(limit_keys, slot, cost)
        if not decision.admitted:
            raise LimitExceeded(decision)
        return Admission(self.windows, limit_keys, slot, decision)

    def reset(self, account: str) -> None:
        """Reset the usage of an account in all apps. If Redis is unavailable, old usage expires within a day."""
        try:
            self.windows.reset(account_rate_limit_key(account), [redis_prefix(app) for app in APPS])
        except (Unreachable, Refusal) as error:
            log.warning("rate limits: could not reset the usage of %s; it expires within a day (%s)", account, error)


def account_rate_limit_key(account: str) -> str:
    """The name of an account's rate limit key."""
    return f"account:{{{account}}}"


def redis_prefix(app: str) -> str:
    """The prefix of an app's windows in Redis."""
    return f"limits:{app}:"


@lru_cache(maxsize=4096)
def rate_limit_keys_of(
    account: str, limits: Limits, key_id: str | None, key_limits: KeyLimits | None
) -> tuple[RateLimitKey, ...]:
    """The rate limit keys of a request: the account and, if the API key has its own limits, the API key."""
    limit_key = RateLimitKey(account_rate_limit_key(account), account_quota_set(limits))
    if key_id is None or key_limits is None or key_limits == KeyLimits():
        return (limit_key,)
    return limit_key, RateLimitKey(f"key:{{{account}}}:{key_id}", key_quota_set(key_limits))
