"""Sliding windows and concurrency slots in Redis. One script decides over all of them in one round trip."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

from kataven.ratelimit.decision import Decision
from kataven.ratelimit.local_usage import UsageEntry, UsageReport
from kataven.ratelimit.policy import QuotaSet, RateLimitKey
from kataven.ratelimit.redis_pool import RedisPool
from kataven.ratelimit.redis_socket import Refusal, pack
from kataven.redis_clients.script import RedisScript, is_unknown_script
from kataven.redis_clients.slots import slot_of

SLOT_LEASE_SECONDS = 3.0
"""The lease of a slot. It is renewed every third of this time, and expires if the worker can't renew it."""

WORKER_LEASE_SECONDS = 60.0
"""How long a worker counts as running after its last heartbeat. A worker without a connection to Redis still admits
requests at its share. If it were not counted, the shares would add up to more than the limit."""

_WINDOWS = RedisScript.read("kataven.ratelimit", "windows.lua")
_HEARTBEAT = RedisScript.read("kataven.ratelimit", "heartbeat.lua")
_SLOTS = RedisScript.read("kataven.ratelimit", "slots.lua")
_REPORT = RedisScript.read("kataven.ratelimit", "report.lua")
_PING = pack("PING")


class Windows(Protocol):
    """Decides whether a request fits into every quota of every rate limit key."""

    def take(self, limit_keys: tuple[RateLimitKey, ...], slot: str, cost: int = 1) -> Decision:
        """Consume `cost` units of every window and acquire a slot, or change nothing if any quota has less left."""

    def peek(self, limit_keys: tuple[RateLimitKey, ...], cost: int = 1) -> Decision:
        """The decision that `take` would make. Nothing is consumed, and the counts exclude this request."""

    def release(self, limit_keys: tuple[RateLimitKey, ...], slot: str) -> None:
        """Free the slot of `take`, without waiting for Redis. Idempotent."""


class RedisWindows:
    """Windows that all workers on all hosts share. Every call raises Unreachable or Refusal if Redis is unavailable.

    In a cluster, the keys of one account are in one slot, because their names contain the account in braces. Every call
    of a script uses keys of one slot. `SlotMoving` is raised while the cluster moves that slot to another node.
    """

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
        self._command = lru_cache(maxsize=4096)(self._pack)
        self._releases = lru_cache(maxsize=4096)(self._pack_releases)

    @property
    def slow_since(self) -> float | None:
        """When the current series of slow replies started; None if the last reply was not slow."""
        return self._pool.slow_since

    @property
    def too_slow(self) -> bool:
        """Whether Redis has been slow for long enough to fall back to local limits."""
        return self._pool.too_slow

    def take(self, limit_keys: tuple[RateLimitKey, ...], slot: str, cost: int = 1) -> Decision:
        return self._run("take", limit_keys, slot, cost)

    def peek(self, limit_keys: tuple[RateLimitKey, ...], cost: int = 1) -> Decision:
        return self._run("peek", limit_keys, "", cost)

    def peek_all(self, requests: Sequence[tuple[RateLimitKey, ...]]) -> list[Decision]:
        """The decisions of `peek` for several requests, in one round trip. Other requests can be decided in between."""
        packed = [self._command("peek", limit_keys, self._now(), 0, 1) for limit_keys in requests]
        replies = self._run_all([(_WINDOWS, b"%b\r\n" % command, at) for command, _, at in packed])
        return [
            Decision(quota_sets, bool(reply[0]), reply[1:])
            for (_, quota_sets, _), reply in zip(packed, replies, strict=True)
        ]

    def release(self, limit_keys: tuple[RateLimitKey, ...], slot: str) -> None:
        for command, at in self._releases(limit_keys, len(slot)):
            self._pool.send(b"%b%b\r\n" % (command, slot.encode()), at)

    def heartbeat(self, worker: str, held: Mapping[str, tuple[RateLimitKey, ...]]) -> int:
        """Renew this worker's membership and slots. Returns the number of running workers.

        In a cluster, every node is probed: an account of any node can be next.
        """
        self._pool.check_primary()
        key = self._workers
        call = _HEARTBEAT.pack([key], (self._now(), round(WORKER_LEASE_SECONDS * 1000), worker))
        probes = [(None, _PING, slot) for slot in self._pool.slots_to_probe()]
        return int(self._run_all([(_HEARTBEAT, call, slot_of(key)), *self._slot_calls("renew", held), *probes])[0])

    def add_slots(self, taken: Mapping[str, tuple[RateLimitKey, ...]]) -> None:
        """Store slots of requests that are already running, even above the limit."""
        self._run_all(self._slot_calls("take", taken))

    def report_usage(self, worker: str, report: UsageReport, now: int) -> list[dict[int, int]]:
        """Count what this worker admitted locally. A repeated report counts once. `now` is on the worker's clock.

        Returns for each entry the used amount of its windows, by window length in seconds.
        """
        by_tag: defaultdict[str, list[UsageEntry]] = defaultdict(list)
        for entry in report.entries:
            by_tag[entry.limit_key.tag].append(entry)
        calls = []
        for tag, entries in by_tag.items():
            keys = [f"{self._prefix}told:{worker}:{tag}", *(self._prefix + entry.limit_key.name for entry in entries)]
            numbers = [number for entry in entries for number in entry.numbers(now)]
            calls.append((_REPORT, _REPORT.pack(keys, (self._now(), report.number, *numbers)), slot_of(tag)))
        used = {tag: iter(reply) for tag, reply in zip(by_tag, self._run_all(calls), strict=True)}
        return [{seconds: next(used[entry.limit_key.tag]) for seconds in entry.windows} for entry in report.entries]

    def reset(self, names: Iterable[str], prefixes: Iterable[str] = ()) -> None:
        """Reset the usage of rate limit keys, under this object's prefix or under all of `prefixes`."""
        prefixes = tuple(prefixes) or (self._prefix,)
        for name in names:  # its keys are in one slot
            keys = [f"{prefix}{kind}{name}" for prefix in prefixes for kind in ("", "slots:")]
            self._pool.call(pack("DEL", *keys), slot_of(keys[0]))

    def leave(self, worker: str) -> None:
        """Remove this worker from the running workers."""
        self._pool.send(pack("ZREM", self._workers, worker), slot_of(self._workers))

    def close(self) -> None:
        """Wait for pending replies and close the connections."""
        self._pool.close()

    def _run(self, verb: str, limit_keys: tuple[RateLimitKey, ...], slot: str, cost: int) -> Decision:
        command, quota_sets, at = self._command(verb, limit_keys, self._now(), len(slot), cost)
        call = b"%b%b\r\n" % (command, slot.encode())
        try:
            reply = self._pool.call(call, at)
        except Refusal as refusal:
            if not is_unknown_script(str(refusal)):
                raise
            reply = self._pool.call(_WINDOWS.with_source(call), at)
        return Decision(quota_sets, bool(reply[0]), reply[1:], cost)

    def _run_all(self, calls: Sequence[tuple[RedisScript | None, bytes, int]]) -> list[Any]:
        """The replies to packed calls of scripts, or of commands, each with its slot, in one round trip.

        A call of a script that a server does not have is sent again with the source; the others were executed.
        """
        replies = self._pool.call_all([call for _, call, _ in calls], [slot for _, _, slot in calls])
        missing = [
            at for at, reply in enumerate(replies) if isinstance(reply, Refusal) and is_unknown_script(str(reply))
        ]
        while missing:
            # Only the first one is sent with its source. A server then has the script for the others.
            script, call, slot = calls[missing[0]]
            assert script is not None  # noqa: S101  only scripts are unknown
            replies[missing[0]] = self._pool.call(script.with_source(call), slot)
            others = missing[1:]
            again = self._pool.call_all([calls[at][1] for at in others], [calls[at][2] for at in others])
            for at, reply in zip(others, again, strict=True):
                replies[at] = reply
            missing = [at for at in others if isinstance(replies[at], Refusal) and is_unknown_script(str(replies[at]))]
        for reply in replies:
            if isinstance(reply, Refusal):
                raise reply
        return replies

    def _pack(
        self, verb: str, limit_keys: tuple[RateLimitKey, ...], now: str | int, slot_length: int, cost: int
    ) -> tuple[bytes, tuple[QuotaSet, ...], int]:
        """The encoded command without the slot, which is the only part that differs between requests of a key; the
        quotas; and the slot of the cluster that has the keys."""
        keys = [key for limit_key in limit_keys for key in (self._prefix + limit_key.name, self._slots(limit_key.name))]
        numbers = [number for limit_key in limit_keys for number in limit_key.quota_set.arguments]
        packed = _WINDOWS.pack(keys, (verb, now, self._slot_lease, cost, *numbers, "?" * slot_length))
        quota_sets = tuple(limit_key.quota_set for limit_key in limit_keys)
        return packed[: -slot_length - len("\r\n")], quota_sets, slot_of(keys[0])

    def _pack_releases(self, limit_keys: tuple[RateLimitKey, ...], slot_length: int) -> list[tuple[bytes, int]]:
        """The encoded commands that free a slot, without the slot, and the slot of the cluster for each."""
        keys = [self._slots(limit_key.name) for limit_key in limit_keys if limit_key.quota_set.has_slots]
        packed = [(pack("ZREM", key, "?" * slot_length), slot_of(key)) for key in keys]
        return [(command[: -slot_length - len("\r\n")], at) for command, at in packed]

    def _slot_calls(
        self, verb: str, slots_of: Mapping[str, tuple[RateLimitKey, ...]]
    ) -> list[tuple[RedisScript | None, bytes, int]]:
        """One call for each slot of a cluster, to renew or add concurrency slots."""
        by_tag: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
        for slot, limit_keys in slots_of.items():
            for limit_key in limit_keys:
                if limit_key.quota_set.has_slots:
                    by_tag[limit_key.tag].append((self._slots(limit_key.name), slot))
        calls: list[tuple[RedisScript | None, bytes, int]] = []
        for tag, pairs in by_tag.items():
            arguments = (self._now(), self._slot_lease, verb, *(slot for _, slot in pairs))
            calls.append((_SLOTS, _SLOTS.pack([key for key, _ in pairs], arguments), slot_of(tag)))
        return calls

    @property
    def _workers(self) -> str:
        return f"{self._prefix}workers"

    def _slots(self, name: str) -> str:
        return f"{self._prefix}slots:{name}"

    def _now(self) -> str | int:
        return "" if self._clock is None else round(self._clock() * 1_000_000)
