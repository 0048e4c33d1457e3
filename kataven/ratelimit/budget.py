"""Client address budgets: limits for requests without a valid credential. They don't count toward account limits.

Failures are counted after a credential was rejected, not before it is checked, so a valid key is not affected by other
clients behind the same address. Credentials from an address that exceeded the budget are looked up more slowly: see
`lane`.
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
    """The budgets. The values are the limit names in responses and metrics."""

    FAILED = "failed-authentications"
    SUBJECT = "failed-authentications-of-subject"
    """Per subject of the OIDC issuer, from any address."""
    REFUSED = "refused-requests"
    PUBLIC = "public"
    HUB = "hub"
    HUB_TYPING = "hub-explanations"
    """Per Hub session, from any address: the requests that scripts send while the user types or every few seconds."""
    HUB_SECRETS = "hub-secret-lookups"
    """Per Hub session, from any address: searches for the key of a pasted secret."""


PER_MINUTE: Mapping[AddressBudgetKind, int] = {
    AddressBudgetKind.FAILED: 300,
    AddressBudgetKind.SUBJECT: 60,
    AddressBudgetKind.REFUSED: 600,
    AddressBudgetKind.PUBLIC: 600,
    AddressBudgetKind.HUB: 300,
    AddressBudgetKind.HUB_TYPING: 240,
    AddressBudgetKind.HUB_SECRETS: 20,
}
PER_WORKER = (AddressBudgetKind.FAILED, AddressBudgetKind.SUBJECT, AddressBudgetKind.REFUSED)
"""Budgets that each worker counts in its own memory: a round trip to Redis costs more than the rejected request."""
NOT_BY_ADDRESS: Mapping[AddressBudgetKind, str] = {
    AddressBudgetKind.SUBJECT: "subject",
    AddressBudgetKind.HUB_TYPING: "hub-session",
    AddressBudgetKind.HUB_SECRETS: "hub-session-secrets",
}
"""Budgets that are not counted by address, with the prefix of their rate limit keys."""
NETWORK_SUFFIX = "-of-network"
NETWORK_FACTOR = 10
"""The budget of an IPv6 /48, as a multiple of the budget of a /64. One customer of a provider often has a /48."""


class AddressBudget:
    """Requests per minute for each kind and client address (IPv6: each /64, and ten times as many for each /48).

    The budgets in `PER_WORKER` are counted in this worker's memory, so rejecting an invalid request costs no round trip
    to Redis. An address therefore has these budgets once per worker. All workers share the other budgets.
    """

    def __init__(
        self,
        shared: Windows,
        *,
        per_minute: Mapping[AddressBudgetKind, int] = PER_MINUTE,
        max_addresses: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Each budget in memory holds at most `max_addresses` addresses; the least recently counted are evicted."""
        self._windows: dict[AddressBudgetKind, Windows] = dict.fromkeys(AddressBudgetKind, shared)
        for kind in PER_WORKER:
            self._windows[kind] = MemoryWindows(max_keys=max_addresses, clock=clock)
        self._quota_sets = {kind: QuotaSet(Quota(kind, limit, MINUTE)) for kind, limit in per_minute.items()}
        self._network_quota_sets = {
            kind: QuotaSet(Quota(f"{kind}{NETWORK_SUFFIX}", NETWORK_FACTOR * limit, MINUTE))
            for kind, limit in per_minute.items()
        }

    def spend(self, address: str, kind: AddressBudgetKind) -> Decision:
        """Count one request. If a budget is exhausted, the decision is not admitted and nothing is counted."""
        return self._windows[kind].take(self._limit_keys(address, kind), slot="")

    def exhausted(self, address: str, kind: AddressBudgetKind) -> Decision | None:
        """The decision that would reject the next request, or None if a request remains. Counts nothing."""
        decision = self._windows[kind].peek(self._limit_keys(address, kind))
        return None if decision.admitted else decision

    def _limit_keys(self, address: str, kind: AddressBudgetKind) -> tuple[RateLimitKey, ...]:
        if kind in NOT_BY_ADDRESS:
            return (RateLimitKey(f"{NOT_BY_ADDRESS[kind]}:{{{address}}}", self._quota_sets[kind]),)
        narrow, wider = bucket(address), network(address)
        if wider is None:
            return (RateLimitKey(f"address:{kind}:{{{narrow}}}", self._quota_sets[kind]),)
        # One decision uses both, so both have the tag of the wider network.
        return (
            RateLimitKey(f"address:{kind}:{{{wider}}}:{narrow}", self._quota_sets[kind]),
            RateLimitKey(f"address:{kind}:{{{wider}}}", self._network_quota_sets[kind]),
        )


def limit_names() -> list[str]:
    """The names of all address budgets, as responses and metrics contain them."""
    by_address = [kind for kind in AddressBudgetKind if kind not in NOT_BY_ADDRESS]
    return [*AddressBudgetKind, *(f"{kind}{NETWORK_SUFFIX}" for kind in by_address)]
