"""Budgets per client address, for what nobody has to prove anything for. They never touch an account's limits.

So that a good key is never harmed by its neighbours, failures are counted when a credential has been refused, not
before it is checked: a client whose address has used up its failures is served all the same if its credential is good.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from enum import StrEnum

from kataven.ratelimit.address import bucket
from kataven.ratelimit.decision import Decision
from kataven.ratelimit.memory import MemoryWindows
from kataven.ratelimit.policy import MINUTE, Plan, Quota, Scope
from kataven.ratelimit.windows import Windows


class Kind(StrEnum):
    """What an address has a budget for; also the name that clients see."""

    FAILED = "failed-authentications"
    PUBLIC = "public"
    HUB = "hub"


PER_MINUTE: Mapping[Kind, int] = {Kind.FAILED: 300, Kind.PUBLIC: 600, Kind.HUB: 300}


class AddressBudget:
    """Requests per minute for each client address (IPv6: each /64) and kind.

    Failed authentications are counted in this worker's memory only, so that refusing junk costs no Redis: over all
    workers, an address has that budget once per worker. The other kinds are shared by all workers.
    """

    def __init__(
        self,
        shared: Windows,
        *,
        per_minute: Mapping[Kind, int] = PER_MINUTE,
        max_addresses: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """At most `max_addresses` are remembered in memory: those that failed last."""
        self._windows: dict[Kind, Windows] = dict.fromkeys(Kind, shared)
        self._windows[Kind.FAILED] = MemoryWindows(max_scopes=max_addresses, clock=clock)
        self._plans = {kind: Plan(Quota(kind, limit, MINUTE)) for kind, limit in per_minute.items()}

    def spend(self, address: str, kind: Kind) -> Decision:
        """Count one request, unless the budget is used up: then nothing is counted and the decision says so."""
        return self._windows[kind].take((self._scope(address, kind),), slot="")

    def exhausted(self, address: str, kind: Kind) -> Decision | None:
        """The refusal that one request more would get, or None while there is room. Counts nothing."""
        decision = self._windows[kind].look((self._scope(address, kind),))
        return None if decision.admitted else decision

    def _scope(self, address: str, kind: Kind) -> Scope:
        return Scope(f"address:{kind}:{bucket(address)}", self._plans[kind])
