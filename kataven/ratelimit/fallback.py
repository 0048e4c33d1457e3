"""Rate limits in Redis, with local fallback: a worker enforces limits in memory while Redis is unavailable or slow."""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Iterable
from typing import Protocol

from kataven.background import BackgroundLoop, jittered
from kataven.ratelimit.decision import Decision
from kataven.ratelimit.memory import MemoryWindows
from kataven.ratelimit.policy import RateLimitKey
from kataven.ratelimit.recent_counts import RecentCounts
from kataven.ratelimit.redis_pool import SlotMoving
from kataven.ratelimit.redis_socket import Refusal, Unreachable
from kataven.ratelimit.windows import RedisWindows

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 1.0
"""The longest time between two heartbeats, which renew this worker's slots and its membership among the workers. If the
worker is killed, its slots are free again when their leases expire. A third of a lease, so one or two heartbeats can
fail.
"""
REPORT_BATCH = 50
"""Rate limit keys per report. Counting one report blocks Redis for a millisecond or two."""
SHRINK_DELAY_SECONDS = 10.0
"""A lower number of workers is applied after this delay: after an outage, workers reconnect one by one."""


class FallbackStats(Protocol):
    """Receives events of the local fallback, from any thread. The methods must not raise."""

    def degraded(self, reason: str) -> None:
        """This worker started to enforce limits locally."""

    def restored(self, seconds: float) -> None:
        """This worker resumed using Redis after `seconds`."""

    def decided_locally(self) -> None:
        """One request was decided in this worker's memory."""


class NoFallbackStats:
    """Ignores all events."""

    def degraded(self, reason: str) -> None: ...
    def restored(self, seconds: float) -> None: ...
    def decided_locally(self) -> None: ...


class FallbackWindows:
    """Decides in Redis. While Redis is unavailable or slow, each worker decides locally, at its share of every quota.

    Each worker that was last known to run has an equal share of the quota that remained according to the last reply of
    Redis, or of the whole limit if that reply is older than the window. When Redis is available again, the worker
    reports what it admitted, so the windows in Redis are complete. If a worker dies before that, its usage is lost.
    A request waits for Redis no longer than `latency.RedisTimeouts` allows.
    """

    def __init__(
        self, redis: RedisWindows, memory: MemoryWindows, *, workers: int = 1, stats: FallbackStats | None = None
    ) -> None:
        """`workers` is the number of workers that share the quotas until Redis has reported another number."""
        self._redis = redis
        self._memory = memory
        self._memory.sharers = workers
        self._stats = stats or NoFallbackStats()
        self._heartbeat_thread = BackgroundLoop("limits-heartbeat", self.heartbeat, jittered(HEARTBEAT_SECONDS))
        self._worker = secrets.token_hex(8)
        self._held: dict[str, tuple[RateLimitKey, ...]] = {}
        """Slots of running requests that are stored in Redis."""
        self._local: dict[str, tuple[RateLimitKey, ...]] = {}
        """Slots of running requests that were admitted locally and are not stored in Redis."""
        self._recent = self._memory.recent = RecentCounts(self._held, clock=memory.clock)
        self._lock = threading.Lock()
        self._fewer_since: float | None = None
        self._degraded_since: float | None = None

    @property
    def degraded(self) -> bool:
        """Whether this worker currently enforces limits locally."""
        return self._degraded_since is not None

    def start(self) -> None:
        """Start the heartbeat, which renews slots and checks Redis. Must be called after the fork."""
        self._worker = secrets.token_hex(8)  # again: all workers share the value from before the fork
        self._heartbeat_thread.start()

    def stop(self) -> None:
        """Report pending local usage, release every slot and, after Redis has confirmed, close the connections."""
        self._heartbeat_thread.stop()
        with contextlib.suppress(Unreachable, Refusal):
            self._report()
            for slot in list(self._held):
                self._redis.release(self._held.pop(slot), slot)
            self._redis.leave(self._worker)
        self._redis.close()

    def take(self, limit_keys: tuple[RateLimitKey, ...], slot: str, cost: int = 1) -> Decision:
        if not self.degraded:
            try:
                decision = self._redis.take(limit_keys, slot, cost)
            except SlotMoving:
                pass  # only this request is decided locally; a later heartbeat reports it
            except (Unreachable, Refusal) as error:
                self._stop_using_redis(str(error))
            else:
                if slot and decision.admitted:
                    self._held[slot] = limit_keys
                self._recent.record(limit_keys, decision)
                self._check_latency()
                return decision
        # Redis is unavailable: decide from its last replies and this worker's own requests since then.
        self._stats.decided_locally()
        decision = self._memory.take(limit_keys, slot, cost)
        if slot and decision.admitted:
            self._local[slot] = limit_keys
        return decision

    def peek(self, limit_keys: tuple[RateLimitKey, ...], cost: int = 1) -> Decision:
        if not self.degraded:
            try:
                return self._redis.peek(limit_keys, cost)
            except SlotMoving:
                pass
            except (Unreachable, Refusal) as error:
                self._stop_using_redis(str(error))
        return self._memory.peek(limit_keys, cost)

    def release(self, limit_keys: tuple[RateLimitKey, ...], slot: str) -> None:
        if self._held.pop(slot, None) is None:
            with self._lock:  # `_transfer_slots` may be moving it from one dictionary to the other
                if self._held.pop(slot, None) is None:
                    if self._local.pop(slot, None) is not None:
                        self._memory.release(limit_keys, slot)
                    return
        if not self.degraded:
            # If sending fails, the slot is not renewed either, so its lease expires.
            with contextlib.suppress(Unreachable, Refusal):
                self._redis.release(limit_keys, slot)

    def reset(self, name: str, prefixes: Iterable[str] = ()) -> None:
        """Reset the usage of a rate limit key, under this object's prefix or under all of `prefixes`.

        Raises Unreachable or Refusal if Redis did not apply it.
        """
        self._memory.reset(name)
        self._recent.reset(name)
        self._redis.reset((name,), prefixes)

    def heartbeat(self) -> None:
        """Renew this worker's slots. Stops using Redis if it does not reply, and resumes using it when it does."""
        try:
            self._update_sharers(self._redis.heartbeat(self._worker, self._held.copy()))
            if not self.degraded:
                self._check_latency()
            elif self._redis.slow_since is None:
                self._report()
                self._resume_redis()
            # Usage that was admitted locally during the switch, and local slots.
            if not self.degraded:
                self._report()
                self._transfer_slots()
        except SlotMoving as error:  # takes part of a second; a slot that is not renewed has two more heartbeats
            log.info("rate limits: a slot of the cluster is being moved; retrying with the next heartbeat (%s)", error)
        except (Unreachable, Refusal) as error:
            self._fewer_since = None
            self._stop_using_redis(str(error))

    def _update_sharers(self, workers: int) -> None:
        now = self._memory.clock()
        if workers < self._memory.sharers:
            self._fewer_since = now if self._fewer_since is None else self._fewer_since
            if now - self._fewer_since < SHRINK_DELAY_SECONDS:
                return
        self._memory.sharers, self._fewer_since = workers, None

    def _report(self) -> None:
        """Report local usage to Redis. A report is sent again unchanged until Redis has confirmed it."""
        sent = REPORT_BATCH
        # A partial batch is the last one: what is admitted in the meantime goes into the next heartbeat's report.
        while sent == REPORT_BATCH and (report := self._memory.pending_report(REPORT_BATCH)) is not None:
            used = self._redis.report_usage(self._worker, report, self._memory.now())
            for entry, now_used in zip(report.entries, used, strict=True):
                self._recent.record_used(entry.limit_key, now_used)
            self._memory.confirm_report()
            sent = len(report.entries)

    def _transfer_slots(self) -> None:
        """Store slots in Redis for requests that were admitted locally and are still running."""
        taken = self._local.copy()
        if not taken:
            return
        self._redis.add_slots(taken)
        released = []
        with self._lock:
            for slot, limit_keys in taken.items():
                if self._local.pop(slot, None) is None:
                    released.append((limit_keys, slot))
                else:
                    self._held[slot] = limit_keys
                    self._memory.release(limit_keys, slot)
        for limit_keys, slot in released:
            self._redis.release(limit_keys, slot)

    def _check_latency(self) -> None:
        if self._redis.too_slow:
            self._stop_using_redis("replies are slow")

    def _stop_using_redis(self, reason: str) -> None:
        with self._lock:
            if self.degraded:
                return
            self._degraded_since = time.monotonic()
        log.warning(
            "rate limits: Redis unavailable (%s); falling back to local limits (1/%d share)",
            reason,
            self._memory.sharers,
        )
        self._stats.degraded(reason)

    def _resume_redis(self) -> None:
        with self._lock:
            if self._degraded_since is None:
                return
            seconds = time.monotonic() - self._degraded_since
            self._degraded_since = None
        log.warning("rate limits: resumed using Redis after %.1f s", seconds)
        self._stats.restored(seconds)
