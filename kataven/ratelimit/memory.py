"""The twin of the Redis script, in this worker's memory: the same decisions for the same arrivals, shared with nobody.

It stands in when Redis can't be asked, and it keeps budgets that are not worth a round trip. Nothing here survives the
process, and no other worker sees it.
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
"""A bucket is this part of its window, as in `windows.lua`, where the algorithm is explained."""


class Window:
    """Requests of the last so many microseconds, in buckets: when the last of each came, and how many."""

    __slots__ = ("_buckets", "_length", "total")

    def __init__(self, seconds: int, buckets: Buckets = ()) -> None:
        self._length = seconds * 1_000_000
        self._buckets: deque[tuple[int, int]] = deque(buckets)
        self.total = sum(count for _, count in buckets)

    @property
    def buckets(self) -> Buckets:
        """As they are now."""
        return tuple(self._buckets)

    def slide(self, now: int) -> None:
        while self._buckets and abs(now - self._buckets[0][0]) >= self._length:
            self.total -= self._buckets.popleft()[1]

    def frees_in(self, now: int, excess: int) -> int:
        """Microseconds until this many requests have left."""
        last = now
        for came, count in self._buckets:
            last = came
            excess -= count
            if excess <= 0:
                break
        return last + self._length - now

    def add(self, now: int) -> None:
        last, count = self._buckets[-1] if self._buckets else (now, 0)
        at, width = max(last, now), self._length / BUCKETS
        if self._buckets and floor(last / width) == floor(at / width):
            self._buckets.pop()
        else:
            count = 0
        self._buckets.append((at, count + 1))
        self.total += 1


@dataclass(slots=True)
class _State:
    limit_key: RateLimitKey
    windows: dict[int, Window] = field(default_factory=dict)
    slots: set[str] = field(default_factory=set)

    def consume(self, quota: Quota, slot: str, now: int) -> None:
        if quota.seconds == 0:
            self.slots.add(slot)
        else:
            self.windows.setdefault(quota.seconds, Window(quota.seconds)).add(now)


class MemoryWindows:
    """Windows of this process alone, for the `max_scopes` scopes that were busy last; those before are forgotten.

    As a stand-in for Redis it begins from what Redis said last (`known`): of what was left then, this worker has an
    equal share. And it keeps what it admitted until Redis was told (`report`, `told`).
    """

    def __init__(self, *, max_keys: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._max_scopes = max_keys
        self._states: OrderedDict[str, _State] = OrderedDict()
        self._report: UsageReport | None = None
        self._reporting: dict[str, UsageEntry] = {}
        self._lock = threading.Lock()
        self.sharers = 1
        """Among how many workers each quota is divided: what is not this one's share counts as used."""
        self.known: RecentCounts | None = None
        """What Redis said last; None where these windows stand in for nothing."""

    def take(self, limit_keys: tuple[RateLimitKey, ...], slot: str) -> Decision:
        with self._lock:
            now = self.now()
            decision = self._decide(limit_keys, now)
            if not decision.admitted:
                return decision
            for limit_key in limit_keys:
                state = self._keep(limit_key)
                for quota in limit_key.plan.quotas:
                    state.consume(quota, slot, now)
            return Decision(decision.plans, True, self._counts(limit_keys, now))

    def look(self, limit_keys: tuple[RateLimitKey, ...]) -> Decision:
        with self._lock:
            return self._decide(limit_keys, self.now())

    def give_back(self, limit_keys: tuple[RateLimitKey, ...], slot: str) -> None:
        with self._lock:
            for limit_key in limit_keys:
                if limit_key.name in self._states:
                    self._states[limit_key.name].slots.discard(slot)

    def report(self, most: int) -> UsageReport | None:
        """What was admitted here of at most so many scopes and is not told yet; None if there is nothing.

        Until `told` it is the same report: the answer to it may have been lost, and Redis knows it by its number.
        """
        with self._lock:
            if self._report is None:
                entries = []
                for name in list(self._states):
                    if (entry := self._leave(name)) is not None:
                        entries.append(entry)
                    if len(entries) == most:
                        break
                if not entries:
                    return None
                self._report = UsageReport(secrets.token_hex(8), tuple(entries))
                self._reporting = {entry.limit_key.name: entry for entry in entries}
            return self._report

    def told(self) -> None:
        """Redis has counted the report."""
        with self._lock:
            self._report, self._reporting = None, {}

    def forget(self, name: str) -> None:
        """A scope is no more."""
        with self._lock:
            self._states.pop(name, None)

    def now(self) -> int:
        """In microseconds, on this object's clock."""
        return round(self.clock() * 1_000_000)

    def _leave(self, name: str) -> UsageEntry | None:
        # What was admitted of a scope goes into a report; only the slots of requests under way stay.
        state = self._states[name]
        windows, state.windows = state.windows, {}
        if not state.slots:
            del self._states[name]
        for window in windows.values():
            window.slide(self.now())
        told = {seconds: window.buckets for seconds, window in windows.items() if window.total}
        return UsageEntry(state.limit_key, told) if told else None

    def _decide(self, limit_keys: tuple[RateLimitKey, ...], now: int) -> Decision:
        counts = self._counts(limit_keys, now)
        limits = [quota.limit for limit_key in limit_keys for quota in limit_key.plan.quotas]
        admitted = all(used < limit for used, limit in zip(counts[::2], limits, strict=True))
        return Decision([limit_key.plan for limit_key in limit_keys], admitted, counts)

    def _counts(self, limit_keys: tuple[RateLimitKey, ...], now: int) -> list[int]:
        return [
            number
            for limit_key in limit_keys
            for quota in limit_key.plan.quotas
            for number in (
                self._window(limit_key.name, quota, now) if quota.seconds else self._slots(limit_key.name, quota)
            )
        ]

    def _slots(self, name: str, quota: Quota) -> tuple[int, int]:
        own = len(self._states[name].slots) if name in self._states else 0
        if self.known is not None:
            own += self.known.in_flight(name)
        return quota.limit - self._share(quota.limit) + own, 0

    def _window(self, name: str, quota: Quota, now: int) -> tuple[int, int]:
        """What is used of a window, and in how many microseconds that changes."""
        own = self._own(name, quota.seconds, now)
        counted, until = (0, 0.0) if self.known is None else self.known.used(name, quota)
        share = self._share(quota.limit)
        if not counted:
            used = quota.limit - share + own.total
            return used, own.frees_in(now, used - quota.limit + 1) if own.total else quota.seconds * 1_000_000
        left = max(0, quota.limit - counted) // self.sharers
        # One more fits when enough of our own have left or, if that is sooner, when what Redis had counted has.
        excess, excess_then = own.total - left + 1, own.total - share + 1
        then = max(round(until * 1_000_000) - now, own.frees_in(now, excess_then) if excess_then > 0 else 0)
        here = own.frees_in(now, excess) if own.total and excess <= own.total else inf
        return quota.limit - left + own.total, round(min(here, then))

    def _own(self, name: str, seconds: int, now: int) -> Window:
        """What was admitted here and Redis is not known to have counted."""
        state, reporting = self._states.get(name), self._reporting.get(name)
        window = (state and state.windows.get(seconds)) or Window(seconds)
        if reporting is not None and seconds in reporting.windows:
            window = Window(seconds, sorted((*reporting.windows[seconds], *window.buckets)))
        window.slide(now)
        return window

    def _share(self, limit: int) -> int:
        return max(1, limit // self.sharers)

    def _keep(self, limit_key: RateLimitKey) -> _State:
        state = self._states.setdefault(limit_key.name, _State(limit_key))
        self._states.move_to_end(limit_key.name)
        if len(self._states) > self._max_scopes:
            self._states.popitem(last=False)
        return state
