"""May this request come in? One decision over every limit of the account and the key."""

from __future__ import annotations

import logging
import random
from functools import lru_cache
from typing import Self

from kataven.ratelimit.budget import AddressBudget
from kataven.ratelimit.decision import Decision, QuotaStatus
from kataven.ratelimit.fallback import FallbackStats, FallbackWindows
from kataven.ratelimit.limiter.exceeded import LimitExceeded
from kataven.ratelimit.memory import MemoryWindows
from kataven.ratelimit.policy import KeyLimits, Limits, RateLimitKey, account_quota_set, key_quota_set
from kataven.ratelimit.redis_pool import RedisPool
from kataven.ratelimit.redis_socket import Refusal, Unreachable
from kataven.ratelimit.windows import RedisWindows, Windows

log = logging.getLogger(__name__)

SURFACES = ("api", "hub")
"""Each has counters of its own."""


class Admission:
    """A request that was let in: it holds its slot until `release`."""

    __slots__ = ("_scopes", "_slot", "_windows", "decision")

    def __init__(self, windows: Windows, limit_keys: tuple[RateLimitKey, ...], slot: str, decision: Decision) -> None:
        self._windows = windows
        self._scopes = limit_keys
        self._slot = slot
        self.decision = decision

    @property
    def quota_statuses(self) -> tuple[QuotaStatus, ...]:
        """Every quota and what is left of it, this request counted: the account's, then the key's own."""
        return self.decision.quota_statuses

    def headers(self) -> list[tuple[str, str]]:
        """`RateLimit-Policy` and `RateLimit`."""
        return self.decision.headers()

    def release(self) -> None:
        """Give the slot back. Waits for nothing, never raises, and may be repeated.

        Call it before the last byte of the answer is sent, so that the client's next request finds the slot free.
        """
        self._windows.give_back(self._scopes, self._slot)


class Limiter:
    """The limits of one surface, in one worker. Building it opens nothing."""

    def __init__(self, windows: FallbackWindows) -> None:
        self.windows = windows
        self.addresses = AddressBudget(windows)

    @classmethod
    def at(cls, redis_url: str, *, surface: str, workers: int = 1, stats: FallbackStats | None = None) -> Self:
        """Limits in the Redis of this URL, apart from those of other surfaces.

        `workers` is how many share the budgets if Redis is not there from the beginning.
        """
        redis = RedisWindows(RedisPool(redis_url), prefix=prefix_of(surface))
        return cls(FallbackWindows(redis, MemoryWindows(), workers=workers, stats=stats))

    @property
    def degraded(self) -> bool:
        """Whether this worker limits by itself, for want of Redis."""
        return self.windows.degraded

    def start(self) -> None:
        """Begin to renew the slots of requests under way and to watch Redis. Call it after the fork."""
        self.windows.start()

    def stop(self) -> None:
        """Give every slot back and close the connections; call it when the last request is answered."""
        self.windows.stop()

    def admit(
        self, account: str, limits: Limits, key_id: str | None = None, key_limits: KeyLimits | None = None
    ) -> Admission:
        """Count one request and take a slot for it. Raises LimitExceeded, and then nothing is counted anywhere."""
        limit_keys = rate_limit_keys_of(account, limits, key_id, key_limits)
        # No secret, only never the same twice; Python seeds it anew after a fork.
        slot = f"{random.getrandbits(64):016x}"
        decision = self.windows.take(limit_keys, slot)
        if not decision.admitted:
            raise LimitExceeded(decision)
        return Admission(self.windows, limit_keys, slot, decision)

    def forget(self, account: str) -> None:
        """Let an account of this name begin with nothing used at any surface. Without Redis that takes up to a day."""
        try:
            self.windows.forget(account_rate_limit_key(account), [prefix_of(surface) for surface in SURFACES])
        except (Unreachable, Refusal) as error:
            log.warning("limits: what %s has used is forgotten by itself, within a day (%s)", account, error)


def account_rate_limit_key(account: str) -> str:
    """What an account's requests are counted by."""
    return f"account:{account}"


def prefix_of(surface: str) -> str:
    """What the names of a surface's windows begin with in Redis."""
    return f"limits:{surface}:"


@lru_cache(maxsize=4096)
def rate_limit_keys_of(
    account: str, limits: Limits, key_id: str | None, key_limits: KeyLimits | None
) -> tuple[RateLimitKey, ...]:
    """What is counted for a request: the account and, if the key has limits of its own, the key."""
    limit_key = RateLimitKey(account_rate_limit_key(account), account_quota_set(limits))
    if key_id is None or key_limits is None or key_limits == KeyLimits():
        return (limit_key,)
    return limit_key, RateLimitKey(f"key:{account}:{key_id}", key_quota_set(key_limits))
