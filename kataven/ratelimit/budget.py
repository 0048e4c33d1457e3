"""Budgets per client address, for what nobody has to prove anything for. They never touch an account's limits.

So that a good key is never harmed by its neighbours, failures are counted when a credential has been refused, not
before it is checked. An address that has used them up is looked up for in a lane of its own: see `lane`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from enum import StrEnum

from kataven.ratelimit.address import bucket, network
from kataven.ratelimit.decision import Decision
from kataven.ratelimit.memory import MemoryWindows
from kataven.ratelimit.policy import MINUTE, Quota, QuotaSet, RateLimitKey
from kataven.ratelimit.windows import Windows


class AddressBudgetKind(StrEnum):
    """What there is a budget for; also the name that clients see."""

    FAILED = "failed-authentications"
    SUBJECT = "failed-authentications-of-subject"
    """Of one subject of the OIDC issuer, wherever its tokens come from. It has no address."""
    REFUSED = "refused-requests"
    PUBLIC = "public"
    HUB = "hub"
    HUB_TYPING = "hub-explanations"
    """Of one session of the Hub: what its pages ask for while somebody types. It has no address."""


PER_MINUTE: Mapping[AddressBudgetKind, int] = {
    AddressBudgetKind.FAILED: 300,
    AddressBudgetKind.SUBJECT: 60,
    AddressBudgetKind.REFUSED: 600,
    AddressBudgetKind.PUBLIC: 600,
    AddressBudgetKind.HUB: 300,
    AddressBudgetKind.HUB_TYPING: 240,
}
IN_MEMORY = (AddressBudgetKind.FAILED, AddressBudgetKind.SUBJECT, AddressBudgetKind.REFUSED)
"""Counted by each worker alone, since asking Redis would cost more than what is counted."""
OF_NO_ADDRESS: Mapping[AddressBudgetKind, str] = {
    AddressBudgetKind.SUBJECT: "subject",
    AddressBudgetKind.HUB_TYPING: "hub-session",
}
"""What is counted for something else than an address, and for what."""
NETWORK_SUFFIX = "-of-network"
NETWORK_FACTOR = 10
"""How many times the budget of an IPv6 /64 its /48 has. One customer of a provider often has a whole /48."""


class AddressBudget:
    """Requests per minute for each client address (IPv6: each /64, and ten times as many for each /48) and kind.

    What is refused without I/O, or after it, is counted in this worker's memory only, so that refusing junk costs no
    Redis: over all workers, an address has that budget once per worker. The other kinds are shared by all workers.
    """

    def __init__(
        self,
        shared: Windows,
        *,
        per_minute: Mapping[AddressBudgetKind, int] = PER_MINUTE,
        max_addresses: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Of each kind in memory, at most `max_addresses` are remembered: those that were counted last."""
        self._windows: dict[AddressBudgetKind, Windows] = dict.fromkeys(AddressBudgetKind, shared)
        for kind in IN_MEMORY:
            self._windows[kind] = MemoryWindows(max_keys=max_addresses, clock=clock)
        self._plans = {kind: QuotaSet(Quota(kind, limit, MINUTE)) for kind, limit in per_minute.items()}
        self._network_plans = {
            kind: QuotaSet(Quota(f"{kind}{NETWORK_SUFFIX}", NETWORK_FACTOR * limit, MINUTE))
            for kind, limit in per_minute.items()
        }

    def spend(self, address: str, kind: AddressBudgetKind) -> Decision:
        """Count one request, unless a budget is used up: then nothing is counted and the decision says so."""
        return self._windows[kind].take(self._scopes(address, kind), slot="")

    def exhausted(self, address: str, kind: AddressBudgetKind) -> Decision | None:
        """The refusal that one request more would get, or None while there is room. Counts nothing."""
        decision = self._windows[kind].look(self._scopes(address, kind))
        return None if decision.admitted else decision

    def _scopes(self, address: str, kind: AddressBudgetKind) -> tuple[RateLimitKey, ...]:
        if kind in OF_NO_ADDRESS:
            return (RateLimitKey(f"{OF_NO_ADDRESS[kind]}:{address}", self._plans[kind]),)
        limit_key = RateLimitKey(f"address:{kind}:{bucket(address)}", self._plans[kind])
        wider = network(address)
        return (
            (limit_key,)
            if wider is None
            else (limit_key, RateLimitKey(f"address:{kind}:{wider}", self._network_plans[kind]))
        )


def limit_names() -> list[str]:
    """Every name that a refusal for a budget may have."""
    return [*AddressBudgetKind, *(f"{kind}{NETWORK_SUFFIX}" for kind in AddressBudgetKind if kind not in OF_NO_ADDRESS)]
