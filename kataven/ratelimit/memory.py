"""The twin of the Redis script, in this worker's memory: the same decisions for the same arrivals, shared with nobody.

It stands in when Redis can't be asked, and it keeps budgets that are not worth a round trip. Nothing here survives the
process, and no other worker sees it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil, floor

from kataven.ratelimit.decision import Decision
from kataven.ratelimit.policy import Quota, Scope

BUCKETS = 60
"""A bucket is this part of its window, as in `windows.lua`, where the algorithm is explained."""


class Window:
    """Requests of the last so many microseconds, in buckets: when the last of each came, and how many."""

    __slots__ = ("_buckets", "_length", "total")

    def __init__(self, seconds: int) -> None:
        self._length = seconds * 1_000_000
        self._buckets: deque[tuple[int, int]] = deque()
        self.total = 0

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
    windows: dict[int, Window] = field(default_factory=dict)
    slots: set[str] = field(default_factory=set)

    def counts(self, quota: Quota, now: int, elsewhere: int) -> tuple[int, int]:
        """What is used of a quota, and in how many microseconds that changes. `elsewhere` is used by others."""
        if quota.seconds == 0:
            return elsewhere + len(self.slots), 0
        window = self.windows.get(quota.seconds)
        if window is None:
            return elsewhere, quota.seconds * 1_000_000
        window.slide(now)
        used = elsewhere + window.total
        return used, window.frees_in(now, used - quota.limit + 1)

    def consume(self, quota: Quota, slot: str, now: int) -> None:
        if quota.seconds == 0:
            self.slots.add(slot)
        else:
            self.windows.setdefault(quota.seconds, Window(quota.seconds)).add(now)


class MemoryWindows:
    """Windows of this process alone, for the `max_scopes` scopes that were busy last; those before are forgotten."""

    def __init__(self, *, max_scopes: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._max_scopes = max_scopes
        self._states: OrderedDict[str, _State] = OrderedDict()
        self._lock = threading.Lock()
        self.sharers = 1
        """Among how many workers each quota is divided: what is not this one's share, of at least 1, counts as used."""

    def take(self, scopes: tuple[Scope, ...], slot: str) -> Decision:
        with self._lock:
            now = self._now()
            decision = self._decide(scopes, now)
            if not decision.admitted:
                return decision
            for scope in scopes:
                state = self._keep(scope.name)
                for quota in scope.plan.quotas:
                    state.consume(quota, slot, now)
            return Decision(decision.plans, True, self._counts(scopes, now))

    def look(self, scopes: tuple[Scope, ...]) -> Decision:
        with self._lock:
            return self._decide(scopes, self._now())

    def give_back(self, scopes: tuple[Scope, ...], slot: str) -> None:
        with self._lock:
            for scope in scopes:
                if scope.name in self._states:
                    self._states[scope.name].slots.discard(slot)

    def _decide(self, scopes: tuple[Scope, ...], now: int) -> Decision:
        counts = self._counts(scopes, now)
        limits = [quota.limit for scope in scopes for quota in scope.plan.quotas]
        admitted = all(used < limit for used, limit in zip(counts[::2], limits, strict=True))
        return Decision([scope.plan for scope in scopes], admitted, counts)

    def _counts(self, scopes: tuple[Scope, ...], now: int) -> list[int]:
        return [
            count
            for scope in scopes
            for quota in scope.plan.quotas
            for count in self._states.get(scope.name, _State()).counts(
                quota, now, quota.limit - ceil(quota.limit / self.sharers)
            )
        ]

    def _keep(self, name: str) -> _State:
        state = self._states.setdefault(name, _State())
        self._states.move_to_end(name)
        if len(self._states) > self._max_scopes:
            self._states.popitem(last=False)
        return state

    def _now(self) -> int:
        return round(self._clock() * 1_000_000)
