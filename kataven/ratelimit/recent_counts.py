"""The last replies of Redis: the state of the windows when Redis was last available to this worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from kataven.ratelimit.decision import Decision
from kataven.ratelimit.policy import Quota, QuotaSet, RateLimitKey

CountsReply = tuple[float, QuotaSet, Sequence[int], int]
"""Time, quota set, counts (as in `Decision`), and the index of the first count of this quota set."""


class RecentCounts:
    """The last reply for each recently used rate limit key, and the slots that this worker holds.

    A reply contains the number of requests in a window, not their times. All of them are assumed to have arrived at the
    time of the reply, so the fallback temporarily counts too many requests, and never too few.
    """

    def __init__(
        self,
        held: Mapping[str, tuple[RateLimitKey, ...]],
        *,
        max_keys: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._held = held
        self._clock = clock
        # Two generations instead of an LRU order: recording is one dictionary write on the request path.
        self._generation = max_keys // 2
        self._young: dict[str, CountsReply] = {}
        self._old: dict[str, CountsReply] = {}

    def record(self, limit_keys: tuple[RateLimitKey, ...], decision: Decision) -> None:
        """Record a decision of Redis. Called on every request."""
        at, first = self._clock(), 0
        for limit_key in limit_keys:
            self._keep(limit_key.name, (at, limit_key.quota_set, decision.counts, first))
            first += 2 * len(limit_key.quota_set.quotas)

    def record_used(self, limit_key: RateLimitKey, used: Mapping[int, int]) -> None:
        """Record how many requests Redis counts in some windows of a key, by window length in seconds."""
        counts = []
        for quota in limit_key.quota_set.quotas:
            # The counts of the other windows remain, and are treated as equally recent.
            counts += [used[quota.seconds] if quota.seconds in used else self.used(limit_key.name, quota)[0], 0]
        self._keep(limit_key.name, (self._clock(), limit_key.quota_set, counts, 0))

    def used(self, name: str, quota: Quota) -> tuple[int, float]:
        """The count that Redis last reported for a quota (0 if unknown), and when it expires on this object's clock."""
        reply = self._young.get(name) or self._old.get(name)
        if reply is None:
            return 0, 0.0
        at, quota_set, counts, first = reply
        until = at + quota.seconds
        if self._clock() >= until:
            return 0, 0.0
        for index, counted in enumerate(quota_set.quotas):
            if counted.seconds == quota.seconds:
                return counts[first + 2 * index], until
        return 0, 0.0

    def in_flight(self, name: str) -> int:
        """How many slots of a rate limit key this worker holds in Redis."""
        return sum(limit_key.name == name for limit_keys in self._copy() for limit_key in limit_keys)

    def reset(self, name: str) -> None:
        """Forget the replies for one rate limit key."""
        self._young.pop(name, None)
        self._old.pop(name, None)

    def _keep(self, name: str, reply: CountsReply) -> None:
        if len(self._young) >= self._generation:
            self._old, self._young = self._young, {}
        self._young[name] = reply

    def _copy(self) -> list[tuple[RateLimitKey, ...]]:
        return list(dict(self._held).values())
