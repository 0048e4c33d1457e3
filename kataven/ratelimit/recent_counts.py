"""What Redis said last: where the windows stood when this worker could still ask."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from kataven.ratelimit.decision import Decision
from kataven.ratelimit.policy import Quota, QuotaSet, RateLimitKey

Said = tuple[float, QuotaSet, Sequence[int], int]
"""When, of which plan, its counts (as in `Decision`), and where this plan's begin."""


class RecentCounts:
    """The last answer about each scope, for the scopes that were asked for last, and the slots that this worker holds.

    An answer says how many requests were in a window, not when they came. So all of them are taken to have come in the
    moment of the answer: too many are counted for a while, and never too few.
    """

    def __init__(
        self,
        held: Mapping[str, tuple[RateLimitKey, ...]],
        *,
        max_keys: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._held = held
        self._clock = clock
        # Two generations in place of an order: on the path of every request, that is one entry in a dictionary.
        self._generation = max_keys // 2
        self._young: dict[str, Said] = {}
        self._old: dict[str, Said] = {}

    def note(self, limit_keys: tuple[RateLimitKey, ...], decision: Decision) -> None:
        """Redis decided. On the path of every request."""
        at, first = self._clock(), 0
        for limit_key in limit_keys:
            self._keep(limit_key.name, (at, limit_key.plan, decision.counts, first))
            first += 2 * len(limit_key.plan.quotas)

    def note_used(self, limit_key: RateLimitKey, used: Mapping[int, int]) -> None:
        """Redis said how many requests some of a scope's windows have counted, by their length in seconds."""
        counts = []
        for quota in limit_key.plan.quotas:
            # What it said of the others stays, and is taken to be as new.
            counts += [used[quota.seconds] if quota.seconds in used else self.used(limit_key.name, quota)[0], 0]
        self._keep(limit_key.name, (self._clock(), limit_key.plan, counts, 0))

    def used(self, name: str, quota: Quota) -> tuple[int, float]:
        """What Redis had counted of a quota, or 0 if that is not known, and until when (on this object's clock)."""
        said = self._young.get(name) or self._old.get(name)
        if said is None:
            return 0, 0.0
        at, plan, counts, first = said
        until = at + quota.seconds
        if self._clock() >= until:
            return 0, 0.0
        for place, known in enumerate(plan.quotas):
            if known.seconds == quota.seconds:
                return counts[first + 2 * place], until
        return 0, 0.0

    def in_flight(self, name: str) -> int:
        """How many slots of a scope this worker took in Redis and has not given back."""
        return sum(limit_key.name == name for limit_keys in self._copy() for limit_key in limit_keys)

    def forget(self, name: str) -> None:
        """A scope is no more."""
        self._young.pop(name, None)
        self._old.pop(name, None)

    def _keep(self, name: str, said: Said) -> None:
        if len(self._young) >= self._generation:
            self._old, self._young = self._young, {}
        self._young[name] = said

    def _copy(self) -> list[tuple[RateLimitKey, ...]]:
        return list(dict(self._held).values())
