"""Sliding windows and concurrency slots in Redis. One script decides over all of them in one round trip."""

from __future__ import annotations

import hashlib
import importlib.resources
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

from kataven.ratelimit.decision import Decision
from kataven.ratelimit.local_usage import UsageReport
from kataven.ratelimit.policy import QuotaSet, RateLimitKey
from kataven.ratelimit.redis_pool import RedisPool
from kataven.ratelimit.redis_socket import Refusal, pack

SLOT_LEASE_SECONDS = 3.0
"""The lease of a slot. It is renewed every third of this time, and expires if the worker can't renew it."""

WORKER_LEASE_SECONDS = 60.0
"""How long a worker counts as running after its last heartbeat. A worker without a connection to Redis still admits
requests at its share. If it were not counted, the shares would add up to more than the limit."""


class Windows(Protocol):
    """Decides whether a request fits into every quota of every rate limit key."""

    def take(self, limit_keys: tuple[RateLimitKey, ...], slot: str) -> Decision:
        """Count a request in every window and acquire its slots, or change nothing if any quota is exhausted."""

    def peek(self, limit_keys: tuple[RateLimitKey, ...]) -> Decision:
        """The decision that `take` would make. Nothing is consumed, and the counts exclude this request."""

    def release(self, limit_keys: tuple[RateLimitKey, ...], slot: str) -> None:
        """Free the slot of `take`, without waiting for Redis. Idempotent."""


class RedisWindows:
    """Windows that all workers on all hosts share. Every call raises Unreachable or Refusal if Redis is unavailable."""

    def __init__(
        self,
        pool: RedisPool,
        *,
        prefix: str = "limits:",
        slot_lease_seconds: float = SLOT_LEASE_SECONDS,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`clock`, in seconds, replaces the clock of Redis in tests. In production the clocks of hosts differ."""
        self._pool = pool
        self._prefix = prefix
        self._slot_lease = round(slot_lease_seconds * 1000)
        self._clock = clock
        self._windows = WindowScript(pool, "windows.lua")
        self._heartbeat = WindowScript(pool, "heartbeat.lua")
        self._report = WindowScript(pool, "report.lua")
        self._command = lru_cache(maxsize=4096)(self._pack)

    @property
    def slow_since(self) -> float | None:
        """When the current series of slow replies started; None if the last reply was not slow."""
        return self._pool.slow_since

    @property
    def too_slow(self) -> bool:
        """Whether Redis has been slow for long enough to fall back to local limits."""
        return self._pool.too_slow

    def take(self, limit_keys: tuple[RateLimitKey, ...], slot: str) -> Decision:
        return self._run("take", limit_keys, slot)

    def peek(self, limit_keys: tuple[RateLimitKey, ...]) -> Decision:
        return self._run("peek", limit_keys, "")

    def peek_all(self, requests: Sequence[tuple[RateLimitKey, ...]]) -> list[Decision]:
        """The decisions of `peek` for several requests, in one round trip. Other requests can be decided in between."""
        packed = [self._command("peek", limit_keys, self._now(), 0) for limit_keys in requests]
        replies = self._windows.run_all([b"%b\r\n" % command for command, _ in packed])
        return [
            Decision(quota_sets, bool(reply[0]), reply[1:])
            for (_, quota_sets), reply in zip(packed, replies, strict=True)
        ]

    def release(self, limit_keys: tuple[RateLimitKey, ...], slot: str) -> None:
        for limit_key in limit_keys:
            if limit_key.quota_set.has_slots:
                self._pool.send(pack("ZREM", self._slots(limit_key.name), slot))

    def heartbeat(self, worker: str, held: Mapping[str, tuple[RateLimitKey, ...]]) -> int:
        """Renew this worker's membership and slots. Returns the number of running workers."""
        return self._send_heartbeat(worker, "renew", held)

    def add_slots(self, worker: str, taken: Mapping[str, tuple[RateLimitKey, ...]]) -> None:
        """Store slots of requests that are already running, even above the limit."""
        self._send_heartbeat(worker, "take", taken)

    def report_usage(self, worker: str, report: UsageReport, now: int) -> list[dict[int, int]]:
        """Count what this worker admitted locally. A repeated report counts once. `now` is on the worker's clock.

        Returns for each entry the used amount of its windows, by window length in seconds.
        """
        keys = [f"{self._prefix}told:{worker}", *(self._prefix + entry.limit_key.name for entry in report.entries)]
        numbers = [number for entry in report.entries for number in entry.numbers(now)]
        used = iter(self._report.run(self._report.pack(keys, (self._now(), report.number, *numbers))))
        return [{seconds: next(used) for seconds in entry.windows} for entry in report.entries]

    def reset(self, names: Iterable[str], prefixes: Iterable[str] = ()) -> None:
        """Reset the usage of rate limit keys, under this object's prefix or under all of `prefixes`."""
        found = [(prefix, name) for prefix in prefixes or (self._prefix,) for name in names]
        self._pool.call(pack("DEL", *(f"{prefix}{kind}{name}" for prefix, name in found for kind in ("", "slots:"))))

    def leave(self, worker: str) -> None:
        """Remove this worker from the running workers."""
        self._pool.send(pack("ZREM", f"{self._prefix}workers", worker))

    def close(self) -> None:
        """Wait for pending replies and close the connections."""
        self._pool.close()

    def _run(self, verb: str, limit_keys: tuple[RateLimitKey, ...], slot: str) -> Decision:
        command, quota_sets = self._command(verb, limit_keys, self._now(), len(slot))
        reply = self._windows.run(b"%b%b\r\n" % (command, slot.encode()))
        return Decision(quota_sets, bool(reply[0]), reply[1:])

    def _pack(
        self, verb: str, limit_keys: tuple[RateLimitKey, ...], now: str | int, slot_length: int
    ) -> tuple[bytes, tuple[QuotaSet, ...]]:
        """The encoded command without the slot, which is the only part that differs between requests of a key."""
        keys = [key for limit_key in limit_keys for key in (self._prefix + limit_key.name, self._slots(limit_key.name))]
        numbers = [number for limit_key in limit_keys for number in limit_key.quota_set.arguments]
        packed = self._windows.pack(keys, (verb, now, self._slot_lease, *numbers, "?" * slot_length))
        return packed[: -slot_length - len("\r\n")], tuple(limit_key.quota_set for limit_key in limit_keys)

    def _send_heartbeat(self, worker: str, verb: str, slots_of: Mapping[str, tuple[RateLimitKey, ...]]) -> int:
        slots = [
            (self._slots(limit_key.name), slot)
            for slot, limit_keys in slots_of.items()
            for limit_key in limit_keys
            if limit_key.quota_set.has_slots
        ]
        keys = [f"{self._prefix}workers", *(key for key, _ in slots)]
        arguments = (
            self._now(),
            self._slot_lease,
            round(WORKER_LEASE_SECONDS * 1000),
            worker,
            verb,
            *(slot for _, slot in slots),
        )
        return int(self._heartbeat.run(self._heartbeat.pack(keys, arguments)))

    def _slots(self, name: str) -> str:
        return f"{self._prefix}slots:{name}"

    def _now(self) -> str | int:
        return "" if self._clock is None else round(self._clock() * 1_000_000)


class WindowScript:
    """A Lua script of this package, called by its digest and loaded into Redis on demand."""

    def __init__(self, pool: RedisPool, file: str) -> None:
        self._pool = pool
        self._source = (importlib.resources.files("kataven.ratelimit") / file).read_bytes()
        self._digest = hashlib.sha1(self._source, usedforsecurity=False).hexdigest()

    def pack(self, keys: Sequence[str], arguments: Sequence[str | int]) -> bytes:
        """Encode a call of the script."""
        return pack("EVALSHA", self._digest, len(keys), *keys, *arguments)

    def run(self, call: bytes) -> Any:
        """The return value of the script. Raises Unreachable or Refusal."""
        try:
            return self._pool.call(call)
        except Refusal as refusal:
            if not _is_unknown(refusal):
                raise
        self._load()
        return self._pool.call(call)

    def run_all(self, calls: Sequence[bytes]) -> list[Any]:
        """The return values of several calls in one round trip, or three if the script must be loaded. Raises as `run`.

        Only for read-only calls: all calls are repeated after the script was loaded.
        """
        answers = self._pool.call_all(calls)
        if any(isinstance(reply, Refusal) and _is_unknown(reply) for reply in answers):
            self._load()
            answers = self._pool.call_all(calls)
        for reply in answers:
            if isinstance(reply, Refusal):
                raise reply
        return answers

    def _load(self) -> None:
        self._pool.call(pack("SCRIPT", "LOAD", self._source))


def _is_unknown(refusal: Refusal) -> bool:
    """Whether the called script is not loaded."""
    return str(refusal).startswith("NOSCRIPT")
