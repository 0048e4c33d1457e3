"""Sliding windows and in-flight slots in Redis: one script decides over all of them in one round trip."""

from __future__ import annotations

import hashlib
import importlib.resources
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from kataven.ratelimit.connection import Refusal
from kataven.ratelimit.decision import Decision
from kataven.ratelimit.policy import Scope
from kataven.ratelimit.wire import Wire

SLOT_LEASE_SECONDS = 3.0
"""How long a slot outlives a worker that can't renew it any more. A renewal is due every third of it."""


class Windows(Protocol):
    """What can decide whether one request more fits into every quota of every scope."""

    def take(self, scopes: Sequence[Scope], slot: str) -> Decision:
        """Count a request in every window and take a slot where there are slots, or nothing if any quota is used up."""

    def look(self, scopes: Sequence[Scope]) -> Decision:
        """What `take` would say, without consuming anything; what is used does not count this request."""

    def give_back(self, scopes: Sequence[Scope], slot: str) -> None:
        """Free the slot that `take` took. Nothing waits for it; giving back twice does no harm."""


class RedisWindows:
    """Windows that all workers on all hosts share. Every call raises Unreachable or Refusal if Redis can't do it."""

    def __init__(
        self,
        wire: Wire,
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
        self._decide = Script(wire, "windows.lua")
        self._beat = Script(wire, "beat.lua")

    @property
    def slow_since(self) -> float | None:
        """Since when every answer of Redis has been slow; None if the last one was not."""
        return self._wire.slow_since

    def take(self, scopes: Sequence[Scope], slot: str) -> Decision:
        return self._run("take", scopes, slot)

    def look(self, scopes: Sequence[Scope]) -> Decision:
        return self._run("look", scopes, "")

    def give_back(self, scopes: Sequence[Scope], slot: str) -> None:
        for scope in scopes:
            if scope.plan.has_slots:
                self._wire.send("ZREM", self._slots(scope), slot)

    def beat(self, worker: str, held: Mapping[str, Sequence[Scope]]) -> int:
        """Say that this worker lives and renew the slots it holds; returns how many workers live."""
        slots = [
            (self._slots(scope), slot) for slot, scopes in held.items() for scope in scopes if scope.plan.has_slots
        ]
        keys = [f"{self._prefix}workers", *(key for key, _ in slots)]
        return int(self._beat(keys, (self._now(), self._slot_lease, worker, *(slot for _, slot in slots))))

    def leave(self, worker: str) -> None:
        """Say that this worker is no more."""
        self._wire.send("ZREM", f"{self._prefix}workers", worker)

    def close(self) -> None:
        """Wait until what was sent is done, and close the connections."""
        self._wire.close()

    def _run(self, verb: str, scopes: Sequence[Scope], slot: str) -> Decision:
        keys: list[str] = []
        arguments: list[str | int] = [verb, self._now(), slot, self._slot_lease]
        for scope in scopes:
            keys += (self._prefix + scope.name, self._slots(scope))
            arguments += scope.plan.arguments
        admitted, *counts = self._decide(keys, arguments)
        return Decision([scope.plan for scope in scopes], bool(admitted), counts)

    def _slots(self, scope: Scope) -> str:
        return f"{self._prefix}slots:{scope.name}"

    def _now(self) -> str | int:
        return "" if self._clock is None else round(self._clock() * 1_000_000)


class Script:
    """A script beside this file, called by its digest. A Redis that does not know it yet is given it on the way."""

    def __init__(self, wire: Wire, file: str) -> None:
        self._wire = wire
        self._source = (importlib.resources.files("kataven.ratelimit") / file).read_bytes()
        self._digest = hashlib.sha1(self._source, usedforsecurity=False).hexdigest()

    def __call__(self, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        try:
            return self._wire.call("EVALSHA", self._digest, len(keys), *keys, *arguments)
        except Refusal as refusal:
            if not str(refusal).startswith("NOSCRIPT"):
                raise
            return self._wire.call("EVAL", self._source, len(keys), *keys, *arguments)
