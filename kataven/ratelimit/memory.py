"""Sliding windows in this worker's memory. They make the same decisions as the Redis script for the same requests.

They are used while Redis is unavailable, and for budgets that don't justify a round trip. The state is local to the
process and is lost when it exits.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import floor, inf

from kataven.ratelimit.decision import Decision
from kataven.ratelimit.local_usage import Buckets, UsageEntry, UsageReport
from kataven.ratelimit.policy import Quota, RateLimitKey
from kataven.ratelimit.recent_counts import RecentCounts

BUCKETS = 60
"""Buckets per window. `windows.lua` explains the algorithm."""


class Window:
    """A sliding window. Each bucket has the time of its last request and the number of its requests."""

    __slots__ = ("_buckets", "_length", "total")

    def __init__(self, seconds: int, buckets: Buckets = ()) -> None:
        self._length = seconds * 1_000_000
        self._buckets: deque[tuple[int, int]] = deque(buckets)
        self.total = sum(count for _, count in buckets)

    @property
    def buckets(self) -> Buckets:
        return tuple(self._buckets)

    def slide(self, now: int) -> None:
        while self._buckets and abs(now - self._buckets[0][0]) >= self._length:
            self.total -= self._buckets.popleft()[1]

    def frees_in(self, now: int, excess: int) -> int:
        """Microseconds until `excess` requests have left the window."""
        last = now
        for came, count in self._buckets:
            last = came
            excess -= count
            if excess <= 0:
                break
        return last + self._length - now

    def add(self, now: int, cost: int) -> None:
        last, count = self._buckets[-1] if self._buckets else (now, 0)
        at, width = max(last, now), self._length / BUCKETS
        if self._buckets and floor(last / width) == floor(at / width):
            self._buckets.pop()
        else:
            count = 0
        self._buckets.append((at, count + cost))
        self.total += cost


@dataclass(slots=True)
class _KeyState:
    limit_key: RateLimitKey
    windows: dict[int, Window] = field(default_factory=dict)
    slots: set[str] = field(default_factory=set)

    def consume(self, quota: Quota, slot: str, now: int, cost: int) -> None:
        if quota.seconds == 0:
            self.slots.add(slot)
        else:
            self.windows.setdefault(quota.seconds, Window(quota.seconds)).add(now, cost)


class MemoryWindows:
    """Windows in this process, for at most `max_keys` rate limit keys; the least recently used are evicted.

    As the local fallback for Redis, it starts from the last replies of Redis (`recent`): this worker has an equal share
    of what remained. It keeps what it admitted until Redis has confirmed the report (`pending_report`,
    `confirm_report`).
    """

    def __init__(self, *, max_keys: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._max_keys = max_keys
        self._states: OrderedDict[str, _KeyState] = OrderedDict()
        self._report: UsageReport | None = None
        self._reporting: dict[str, UsageEntry] = {}
        self._lock = threading.Lock()
        self.sharers = 1
        """The number of workers that share each quota. The shares of the others count as used."""
        self.recent: RecentCounts | None = None
        """The last replies of Redis; None if these windows are not a fallback for Redis."""

    def take(self, limit_keys: tuple[RateLimitKey, ...], slot: str, cost: int = 1) -> Decision:
        with self._lock:
            now = self.now()
            decision = self._decide(limit_keys, now, cost)
            if not decision.admitted:
                return decision
            for limit_key in limit_keys:
                state = self._keep(limit_key)
                for quota in limit_key.quota_set.quotas:
                    state.consume(quota, slot, now, cost)
            return Decision(decision.quota_sets, True, self._counts(limit_keys, now, 1), cost)

    def peek(self, limit_keys: tuple[RateLimitKey, ...], cost: int = 1) -> Decision:
        with self._lock:
            return self._decide(limit_keys, self.now(), cost)

    def release(self, limit_keys: tuple[RateLimitKey, ...], slot: str) -> None:
        with self._lock:
            for limit_key in limit_keys:
                if limit_key.name in self._states:
                    self._states[limit_key.name].slots.discard(slot)

    def pending_report(self, most: int) -> UsageReport | None:
        """Unreported usage of at most `most` rate limit keys; None if everything is reported.

        Returns the same report until `confirm_report` is called. The reply to it can be lost, and Redis recognizes a
        repeated report by its number.
        """
        with self._lock:
            if self._report is None:
                entries = []
                for name in list(self._states):
                    if (entry := self._drain(name)) is not None:
                        entries.append(entry)
                    if len(entries) == most:
                        break
                if not entries:
                    return None
                self._report = UsageReport(secrets.token_hex(8), tuple(entries))
                self._reporting = {entry.limit_key.name: entry for entry in entries}
            return self._report

    def confirm_report(self) -> None:
        """Discard the report, after Redis has counted it."""
        with self._lock:
            self._report, self._reporting = None, {}

    def reset(self, name: str) -> None:
        """Reset the usage of one rate limit key."""
        with self._lock:
            self._states.pop(name, None)

    def now(self) -> int:
        """Microseconds on this object's clock."""
        return round(self.clock() * 1_000_000)

    def _drain(self, name: str) -> UsageEntry | None:
        # Moves the key's usage into a report. Only the slots of running requests remain.
        state = self._states[name]
        windows, state.windows = state.windows, {}
        if not state.slots:
            del self._states[name]
        for window in windows.values():
            window.slide(self.now())
        unreported = {seconds: window.buckets for seconds, window in windows.items() if window.total}
        return UsageEntry(state.limit_key, unreported) if unreported else None

    def _decide(self, limit_keys: tuple[RateLimitKey, ...], now: int, cost: int) -> Decision:
        counts = self._counts(limit_keys, now, cost)
        quotas = [quota for limit_key in limit_keys for quota in limit_key.quota_set.quotas]
        admitted = all(
            used + (cost if quota.seconds else min(cost, 1)) <= quota.limit
            for used, quota in zip(counts[::2], quotas, strict=True)
        )
        return Decision([limit_key.quota_set for limit_key in limit_keys], admitted, counts, cost)

    def _counts(self, limit_keys: tuple[RateLimitKey, ...], now: int, cost: int) -> list[int]:
        """`cost` is the cost of the request that the times are for: they are until it is admitted."""
        return [
            number
            for limit_key in limit_keys
            for quota in limit_key.quota_set.quotas
            for number in (
                self._window(limit_key.name, quota, now, cost) if quota.seconds else self._slots(limit_key.name, quota)
            )
        ]

    def _slots(self, name: str, quota: Quota) -> tuple[int, int]:
        own = len(self._states[name].slots) if name in self._states else 0
        if self.recent is not None:
            own += self.recent.in_flight(name)
        return quota.limit - self._share(quota.limit) + own, 0

    def _window(self, name: str, quota: Quota, now: int, cost: int) -> tuple[int, int]:
        """The used amount of a window, and the microseconds until it changes."""
        own = self._own(name, quota.seconds, now)
        counted, until = (0, 0.0) if self.recent is None else self.recent.used(name, quota)
        share = self._share(quota.limit)
        if not counted:
            used = quota.limit - share + own.total
            return used, own.frees_in(now, used - quota.limit + cost) if own.total else quota.seconds * 1_000_000
        left = max(0, quota.limit - counted) // self.sharers
        # The next request is admitted when enough local requests, or all that Redis had counted, have left the window.
        excess, excess_then = own.total - left + cost, own.total - share + cost
        then = max(round(until * 1_000_000) - now, own.frees_in(now, excess_then) if excess_then > 0 else 0)
        here = own.frees_in(now, excess) if own.total and excess <= own.total else inf
        return quota.limit - left + own.total, round(min(here, then))

    def _own(self, name: str, seconds: int, now: int) -> Window:
        """Local requests that Redis has not confirmed."""
        state, reporting = self._states.get(name), self._reporting.get(name)
        window = (state and state.windows.get(seconds)) or Window(seconds)
        if reporting is not None and seconds in reporting.windows:
            window = Window(seconds, sorted((*reporting.windows[seconds], *window.buckets)))
        window.slide(now)
        return window

    def _share(self, limit: int) -> int:
        return max(1, limit // self.sharers)

    def _keep(self, limit_key: RateLimitKey) -> _KeyState:
        state = self._states.setdefault(limit_key.name, _KeyState(limit_key))
        self._states.move_to_end(limit_key.name)
        if len(self._states) > self._max_keys:
            self._states.popitem(last=False)
        return state
