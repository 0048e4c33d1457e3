"""Sliding windows and in-flight slots in Redis: one script decides over all of them in one round trip."""

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
"""How long a slot outlives a worker that can't renew it any more. A renewal is due every third of it."""

WORKER_LEASE_SECONDS = 60.0
"""How long a worker counts among those that share the budgets after its last beat. One that is cut off from Redis goes
on admitting its share: were it not counted any more, the shares would add up to more than the whole."""


class Windows(Protocol):
    """What can decide whether one request more fits into every quota of every scope."""

    def take(self, limit_keys: tuple[RateLimitKey, ...], slot: str) -> Decision:
        """Count a request in every window and take a slot where there are slots, or nothing if any quota is used up."""

    def look(self, limit_keys: tuple[RateLimitKey, ...]) -> Decision:
        """What `take` would say, without consuming anything; what is used does not count this request."""

    def give_back(self, limit_keys: tuple[RateLimitKey, ...], slot: str) -> None:
        """Free the slot that `take` took. Nothing waits for it; giving back twice does no harm."""


class RedisWindows:
    """Windows that all workers on all hosts share. Every call raises Unreachable or Refusal if Redis can't do it."""

    def __init__(
        self,
        wire: RedisPool,
        *,
        prefix: str = "limits:",
        slot_lease_seconds: float = SLOT_LEASE_SECONDS,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`clock`, in seconds, replaces Redis' own clock; for tests, since no two hosts' clocks agree."""
        self._wire = wire
        self._prefix = prefix
        self._slot_lease = round(slot_lease_seconds * 1000)
        self._clock = clock
        self._windows = WindowScript(wire, "windows.lua")
        self._heartbeat = WindowScript(wire, "heartbeat.lua")
        self._report = WindowScript(wire, "report.lua")
        self._command = lru_cache(maxsize=4096)(self._pack)

    @property
    def slow_since(self) -> float | None:
        """Since when every answer of Redis has been slow; None if the last one was not."""
        return self._wire.slow_since

    @property
    def too_slow(self) -> bool:
        """Whether Redis has been slow for so long that it should be left."""
        return self._wire.too_slow

    def take(self, limit_keys: tuple[RateLimitKey, ...], slot: str) -> Decision:
        return self._run("take", limit_keys, slot)

    def look(self, limit_keys: tuple[RateLimitKey, ...]) -> Decision:
        return self._run("look", limit_keys, "")

    def look_all(self, asked: Sequence[tuple[RateLimitKey, ...]]) -> list[Decision]:
        """What `look` would say to each of these, in one round trip. Other requests are decided in between."""
        packed = [self._command("look", limit_keys, self._now(), 0) for limit_keys in asked]
        replies = self._windows.run_all([b"%b\r\n" % command for command, _ in packed])
        return [Decision(plans, bool(reply[0]), reply[1:]) for (_, plans), reply in zip(packed, replies, strict=True)]

    def give_back(self, limit_keys: tuple[RateLimitKey, ...], slot: str) -> None:
        for limit_key in limit_keys:
            if limit_key.plan.has_slots:
                self._wire.send(pack("ZREM", self._slots(limit_key.name), slot))

    def heartbeat(self, worker: str, held: Mapping[str, tuple[RateLimitKey, ...]]) -> int:
        """Say that this worker lives and renew the slots it holds; returns how many workers live."""
        return self._live(worker, "renew", held)

    def hold(self, worker: str, taken: Mapping[str, tuple[RateLimitKey, ...]]) -> None:
        """Take slots for requests that are under way already, whether they fit or not."""
        self._live(worker, "take", taken)

    def report_usage(self, worker: str, report: UsageReport, now: int) -> list[dict[int, int]]:
        """Count what this worker admitted by itself, once, however often it is told; `now` is on the worker's clock.

        Returns for each entry what is used of its windows now, by their length in seconds.
        """
        keys = [f"{self._prefix}told:{worker}", *(self._prefix + entry.limit_key.name for entry in report.entries)]
        numbers = [number for entry in report.entries for number in entry.numbers(now)]
        used = iter(self._report.run(self._report.pack(keys, (self._now(), report.number, *numbers))))
        return [{seconds: next(used) for seconds in entry.windows} for entry in report.entries]

    def forget(self, names: Iterable[str], prefixes: Iterable[str] = ()) -> None:
        """Let these scopes begin with nothing used, here or wherever `prefixes` say."""
        found = [(prefix, name) for prefix in prefixes or (self._prefix,) for name in names]
        self._wire.call(pack("DEL", *(f"{prefix}{kind}{name}" for prefix, name in found for kind in ("", "slots:"))))

    def leave(self, worker: str) -> None:
        """Say that this worker is no more."""
        self._wire.send(pack("ZREM", f"{self._prefix}workers", worker))

    def close(self) -> None:
        """Wait until what was sent is done, and close the connections."""
        self._wire.close()

    def _run(self, verb: str, limit_keys: tuple[RateLimitKey, ...], slot: str) -> Decision:
        command, plans = self._command(verb, limit_keys, self._now(), len(slot))
        reply = self._windows.run(b"%b%b\r\n" % (command, slot.encode()))
        return Decision(plans, bool(reply[0]), reply[1:])

    def _pack(
        self, verb: str, limit_keys: tuple[RateLimitKey, ...], now: str | int, slot_length: int
    ) -> tuple[bytes, tuple[QuotaSet, ...]]:
        """The command up to the slot, which alone differs from one request of an account to its next."""
        keys = [key for limit_key in limit_keys for key in (self._prefix + limit_key.name, self._slots(limit_key.name))]
        numbers = [number for limit_key in limit_keys for number in limit_key.plan.arguments]
        packed = self._windows.pack(keys, (verb, now, self._slot_lease, *numbers, "?" * slot_length))
        return packed[: -slot_length - len("\r\n")], tuple(limit_key.plan for limit_key in limit_keys)

    def _live(self, worker: str, verb: str, slots_of: Mapping[str, tuple[RateLimitKey, ...]]) -> int:
        slots = [
            (self._slots(limit_key.name), slot)
            for slot, limit_keys in slots_of.items()
            for limit_key in limit_keys
            if limit_key.plan.has_slots
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
    """A script beside this file, called by its digest; a Redis that does not know it is told on the way."""

    def __init__(self, wire: RedisPool, file: str) -> None:
        self._wire = wire
        self._source = (importlib.resources.files("kataven.ratelimit") / file).read_bytes()
        self._digest = hashlib.sha1(self._source, usedforsecurity=False).hexdigest()

    def pack(self, keys: Sequence[str], arguments: Sequence[str | int]) -> bytes:
        """A call of the script, ready to be sent."""
        return pack("EVALSHA", self._digest, len(keys), *keys, *arguments)

    def run(self, call: bytes) -> Any:
        """What the script returns. Raises Unreachable or Refusal."""
        try:
            return self._wire.call(call)
        except Refusal as refusal:
            if not _is_unknown(refusal):
                raise
        self._load()
        return self._wire.call(call)

    def run_all(self, calls: Sequence[bytes]) -> list[Any]:
        """What the script returns to each call, in one round trip; two if Redis did not know it. Raises as `run`.

        Only for calls that change nothing: those that were answered before one was refused are made again.
        """
        answers = self._wire.call_all(calls)
        if any(isinstance(answer, Refusal) and _is_unknown(answer) for answer in answers):
            self._load()
            answers = self._wire.call_all(calls)
        for answer in answers:
            if isinstance(answer, Refusal):
                raise answer
        return answers

    def _load(self) -> None:
        self._wire.call(pack("SCRIPT", "LOAD", self._source))


def _is_unknown(refusal: Refusal) -> bool:
    """Whether Redis does not know the script that was called."""
    return str(refusal).startswith("NOSCRIPT")
