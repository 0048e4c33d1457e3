"""Redis while it answers, this worker's memory while it doesn't; and back again without a restart."""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Iterable
from typing import Protocol

from kataven.ratelimit.decision import Decision
from kataven.ratelimit.heartbeat import Heartbeat
from kataven.ratelimit.memory import MemoryWindows
from kataven.ratelimit.policy import RateLimitKey
from kataven.ratelimit.recent_counts import RecentCounts
from kataven.ratelimit.redis_socket import Refusal, Unreachable
from kataven.ratelimit.windows import RedisWindows

log = logging.getLogger(__name__)

TOLD_AT_ONCE = 50
"""Scopes in one report: Redis does nothing else while it counts them, which is for a millisecond or two."""
FEWER_SECONDS = 10.0
"""That there are fewer workers is believed after so long: when Redis was gone, they come back one by one."""


class FallbackStats(Protocol):
    """What is counted. Called from any thread; must not raise."""

    def degraded(self, reason: str) -> None:
        """This worker has begun to limit by itself."""

    def restored(self, seconds: float) -> None:
        """This worker is back at Redis, after so long."""

    def decided_locally(self) -> None:
        """One request was decided in this worker's memory."""


class NoFallbackStats:
    """Counts nothing."""

    def degraded(self, reason: str) -> None: ...
    def restored(self, seconds: float) -> None: ...
    def decided_locally(self) -> None: ...


class FallbackWindows:
    """Decides by Redis. While Redis is gone or slow, each worker decides by itself, at its share of every budget.

    Its share of what Redis last said was left, and of the whole limit where Redis has said nothing for as long as the
    window is: an equal part for each worker that was last seen alive. What it admits Redis is told when it is back, so
    that the windows there have all of it. What a worker admitted that dies before is lost.
    No request waits for Redis longer than `pace.Patience` says.
    """

    def __init__(
        self, redis: RedisWindows, memory: MemoryWindows, *, workers: int = 1, stats: FallbackStats | None = None
    ) -> None:
        """`workers` is how many share the budgets as long as Redis has never been asked."""
        self._redis = redis
        self._memory = memory
        self._memory.sharers = workers
        self._stats = stats or NoFallbackStats()
        self._heartbeat_thread = Heartbeat(self.heartbeat)
        self._worker = secrets.token_hex(8)
        self._held: dict[str, tuple[RateLimitKey, ...]] = {}
        """Slots of requests under way that Redis knows of,"""
        self._alone: dict[str, tuple[RateLimitKey, ...]] = {}
        """and those that it has not heard of."""
        self._recent = self._memory.known = RecentCounts(self._held, clock=memory.clock)
        self._lock = threading.Lock()
        self._fewer_since: float | None = None
        self._degraded_since: float | None = None

    @property
    def degraded(self) -> bool:
        """Whether this worker limits by itself."""
        return self._degraded_since is not None

    def start(self) -> None:
        """Begin to renew slots and to watch Redis. Call it after the fork."""
        self._worker = secrets.token_hex(8)  # anew: what was drawn before the fork is every worker's
        self._heartbeat_thread.start()

    def stop(self) -> None:
        """Tell what Redis has not heard of, give every slot back and close the connections, once Redis has taken it."""
        self._heartbeat_thread.stop()
        with contextlib.suppress(Unreachable, Refusal):
            self._report()
            for slot in list(self._held):
                self._redis.give_back(self._held.pop(slot), slot)
            self._redis.leave(self._worker)
        self._redis.close()

    def take(self, limit_keys: tuple[RateLimitKey, ...], slot: str) -> Decision:
        if not self.degraded:
            try:
                decision = self._redis.take(limit_keys, slot)
            except (Unreachable, Refusal) as error:
                self._leave_redis(str(error))
            else:
                if slot and decision.admitted:
                    self._held[slot] = limit_keys
                self._recent.note(limit_keys, decision)
                self._watch()
                return decision
        # Redis is down: limited all the same, by what it said last and what this worker alone has seen since.
        self._stats.decided_locally()
        decision = self._memory.take(limit_keys, slot)
        if slot and decision.admitted:
            self._alone[slot] = limit_keys
        return decision

    def look(self, limit_keys: tuple[RateLimitKey, ...]) -> Decision:
        if not self.degraded:
            try:
                return self._redis.look(limit_keys)
            except (Unreachable, Refusal) as error:
                self._leave_redis(str(error))
        return self._memory.look(limit_keys)

    def give_back(self, limit_keys: tuple[RateLimitKey, ...], slot: str) -> None:
        if self._held.pop(slot, None) is None:
            with self._lock:  # it may be on its way from the one to the other
                if self._held.pop(slot, None) is None:
                    if self._alone.pop(slot, None) is not None:
                        self._memory.give_back(limit_keys, slot)
                    return
        if not self.degraded:
            # If it can't be sent, it is not renewed any more either: the lease gives it back.
            with contextlib.suppress(Unreachable, Refusal):
                self._redis.give_back(limit_keys, slot)

    def forget(self, name: str, prefixes: Iterable[str] = ()) -> None:
        """Let a scope begin with nothing used, here or wherever `prefixes` say.

        Raises Unreachable or Refusal if Redis did not do it.
        """
        self._memory.forget(name)
        self._recent.forget(name)
        self._redis.forget((name,), prefixes)

    def heartbeat(self) -> None:
        """Renew what this worker holds. Leaves Redis if it does not answer, and returns to it if it does."""
        try:
            self._share_among(self._redis.heartbeat(self._worker, self._held.copy()))
            if not self.degraded:
                self._watch()
            elif self._redis.slow_since is None:
                self._report()
                self._return_to_redis()
            # What was decided here in the moment of the return, and slots that Redis has not heard of.
            if not self.degraded:
                self._report()
                self._hand_over_slots()
        except (Unreachable, Refusal) as error:
            self._fewer_since = None
            self._leave_redis(str(error))

    def _share_among(self, workers: int) -> None:
        now = self._memory.clock()
        if workers < self._memory.sharers:
            self._fewer_since = now if self._fewer_since is None else self._fewer_since
            if now - self._fewer_since < FEWER_SECONDS:
                return
        self._memory.sharers, self._fewer_since = workers, None

    def _report(self) -> None:
        """Tell Redis what was admitted here, and the same report again until Redis has said that it has it."""
        told = TOLD_AT_ONCE
        # Fewer than fit are the last: what is admitted meanwhile is told with the next beat.
        while told == TOLD_AT_ONCE and (report := self._memory.report(TOLD_AT_ONCE)) is not None:
            used = self._redis.report_usage(self._worker, report, self._memory.now())
            for entry, now_used in zip(report.entries, used, strict=True):
                self._recent.note_used(entry.limit_key, now_used)
            self._memory.told()
            told = len(report.entries)

    def _hand_over_slots(self) -> None:
        """Take slots in Redis for requests that are still under way since they were admitted here."""
        taken = self._alone.copy()
        if not taken:
            return
        self._redis.hold(self._worker, taken)
        given_back = []
        with self._lock:
            for slot, limit_keys in taken.items():
                if self._alone.pop(slot, None) is None:
                    given_back.append((limit_keys, slot))
                else:
                    self._held[slot] = limit_keys
                    self._memory.give_back(limit_keys, slot)
        for limit_keys, slot in given_back:
            self._redis.give_back(limit_keys, slot)

    def _watch(self) -> None:
        if self._redis.too_slow:
            self._leave_redis("its answers are slow")

    def _leave_redis(self, reason: str) -> None:
        with self._lock:
            if self.degraded:
                return
            self._degraded_since = time.monotonic()
        log.warning("limits: Redis is left (%s); this worker limits by itself, at 1/%d", reason, self._memory.sharers)
        self._stats.degraded(reason)

    def _return_to_redis(self) -> None:
        with self._lock:
            if self._degraded_since is None:
                return
            seconds = time.monotonic() - self._degraded_since
            self._degraded_since = None
        log.warning("limits: back at Redis after %.1f s", seconds)
        self._stats.restored(seconds)
