"""Redis while it answers, this worker's memory while it doesn't; and back again without a restart."""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from typing import Protocol

from kataven.ratelimit.connection import Refusal, Unreachable
from kataven.ratelimit.decision import Decision
from kataven.ratelimit.in_flight import Pulse
from kataven.ratelimit.memory import MemoryWindows
from kataven.ratelimit.policy import Scope
from kataven.ratelimit.windows import RedisWindows

log = logging.getLogger(__name__)


class Tally(Protocol):
    """What is counted. Called from any thread; must not raise."""

    def degraded(self, reason: str) -> None:
        """This worker has begun to limit by itself."""

    def restored(self, seconds: float) -> None:
        """This worker is back at Redis, after so long."""

    def decided_alone(self) -> None:
        """One request was decided in this worker's memory."""


class NoTally:
    """Counts nothing."""

    def degraded(self, reason: str) -> None: ...
    def restored(self, seconds: float) -> None: ...
    def decided_alone(self) -> None: ...


class FallbackWindows:
    """Decides by Redis. While Redis is gone or slow, each worker decides by itself, at its share of every budget.

    The share is an equal part for each worker that was last seen alive, and at least 1. What Redis had counted is not
    known then, nor does Redis learn what was let in meanwhile: around each change, up to twice a limit may pass.
    No request waits for Redis longer than `pace.Patience` says.
    """

    def __init__(
        self, redis: RedisWindows, memory: MemoryWindows, *, workers: int = 1, tally: Tally | None = None
    ) -> None:
        """`workers` is how many share the budgets as long as Redis has never been asked."""
        self._redis = redis
        self._memory = memory
        self._memory.sharers = workers
        self._tally = tally or NoTally()
        self._pulse = Pulse(self.beat)
        self._worker = ""
        self._held: dict[str, tuple[Scope, ...]] = {}
        self._lock = threading.Lock()
        self._degraded_since: float | None = None

    @property
    def degraded(self) -> bool:
        """Whether this worker limits by itself."""
        return self._degraded_since is not None

    def start(self) -> None:
        """Begin to renew slots and to watch Redis. Call it after the fork."""
        self._worker = secrets.token_hex(8)
        self._pulse.start()

    def stop(self) -> None:
        """Give every slot back and close the connections, once Redis has taken what was sent."""
        self._pulse.stop()
        with contextlib.suppress(Unreachable, Refusal):
            for slot in list(self._held):
                self._redis.give_back(self._held.pop(slot), slot)
            self._redis.leave(self._worker)
        self._redis.close()

    def take(self, scopes: tuple[Scope, ...], slot: str) -> Decision:
        if not self.degraded:
            try:
                decision = self._redis.take(scopes, slot)
            except (Unreachable, Refusal) as error:
                self._leave_redis(str(error))
            else:
                if decision.admitted:
                    self._held[slot] = scopes
                self._watch()
                return decision
        # Redis is down: limited all the same, by what this worker alone has seen.
        self._tally.decided_alone()
        return self._memory.take(scopes, slot)

    def look(self, scopes: tuple[Scope, ...]) -> Decision:
        if not self.degraded:
            try:
                return self._redis.look(scopes)
            except (Unreachable, Refusal) as error:
                self._leave_redis(str(error))
        return self._memory.look(scopes)

    def give_back(self, scopes: tuple[Scope, ...], slot: str) -> None:
        if self._held.pop(slot, None) is None:
            self._memory.give_back(scopes, slot)
        elif not self.degraded:
            # If it can't be sent, it is not renewed any more either: the lease gives it back.
            with contextlib.suppress(Unreachable, Refusal):
                self._redis.give_back(scopes, slot)

    def beat(self) -> None:
        """Renew what this worker holds. Leaves Redis if it does not answer, and returns to it if it does."""
        try:
            self._memory.sharers = self._redis.beat(self._worker, self._held.copy())
        except (Unreachable, Refusal) as error:
            self._leave_redis(str(error))
        else:
            if not self.degraded:
                self._watch()
            elif self._redis.slow_since is None:
                self._return_to_redis()

    def _watch(self) -> None:
        if self._redis.too_slow:
            self._leave_redis("its answers are slow")

    def _leave_redis(self, reason: str) -> None:
        with self._lock:
            if self.degraded:
                return
            self._degraded_since = time.monotonic()
        log.warning("limits: Redis is left (%s); this worker limits by itself, at 1/%d", reason, self._memory.sharers)
        self._tally.degraded(reason)

    def _return_to_redis(self) -> None:
        with self._lock:
            if self._degraded_since is None:
                return
            seconds = time.monotonic() - self._degraded_since
            self._degraded_since = None
        log.warning("limits: back at Redis after %.1f s", seconds)
        self._tally.restored(seconds)
