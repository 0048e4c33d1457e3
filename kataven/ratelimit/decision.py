"""The result of checking all quotas of a request: admitted or not, the remaining quota, and the response headers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kataven.ratelimit.policy import Quota, QuotaSet

SLOT_RETRY_SECONDS = 1
"""`Retry-After` for a concurrency limit. When a slot becomes free is unknown; most requests take less than a second."""


@dataclass(frozen=True, slots=True)
class QuotaStatus:
    """The state of one quota after the decision."""

    quota: Quota
    used: int
    reset_seconds: int
    """Seconds until a request of the same cost is admitted or, if one is admitted now, until `remaining` increases;
    rounded up. 0 if unknown."""

    @property
    def remaining(self) -> int:
        return max(0, self.quota.limit - self.used)


class Decision:
    """Whether a request was admitted, and the state of every quota. Compares by value."""

    __slots__ = ("admitted", "cost", "counts", "quota_sets")

    def __init__(self, quota_sets: Sequence[QuotaSet], admitted: bool, counts: Sequence[int], cost: int = 1) -> None:
        """`counts` has two numbers per quota: the used amount, and the microseconds until it changes. `cost` is how
        many units of each window the request needs."""
        self.cost = cost
        self.quota_sets = quota_sets
        self.admitted = admitted
        self.counts = counts

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Decision):
            return NotImplemented
        return (self.admitted, list(self.counts)) == (other.admitted, list(other.counts))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Decision(admitted={self.admitted}, counts={list(self.counts)})"

    @property
    def quota_statuses(self) -> tuple[QuotaStatus, ...]:
        """The state of every checked quota, the account's before the key's."""
        return tuple(self._statuses())

    @property
    def refused_by(self) -> QuotaStatus | None:
        """The quota with the longest wait, of those that have too little left; None if the request was admitted."""
        if self.admitted:
            return None
        used_up = [found for found in self._statuses() if found.remaining < self._units(found.quota)]
        # A quota below the cost can never admit the request, so it is the one that the caller must know about.
        return max(used_up, key=lambda found: (found.quota.limit < self._units(found.quota), found.reset_seconds))

    @property
    def retry_after_seconds(self) -> int | None:
        """Seconds until the same request would be admitted, without other traffic; None if it was admitted."""
        quota_status = self.refused_by
        return None if quota_status is None else quota_status.reset_seconds or SLOT_RETRY_SECONDS

    @property
    def detail(self) -> str:
        """A message such as `per-minute (60) exceeded`. Empty if the request was admitted."""
        quota_status = self.refused_by
        if quota_status is None:
            return ""
        quota = quota_status.quota
        if quota.limit < self._units(quota):
            return f"a cost of {self.cost} exceeds the whole of {quota.name} ({quota.limit})"
        if quota_status.remaining:
            return f"a cost of {self.cost} exceeds the {quota_status.remaining} left of {quota.name} ({quota.limit})"
        return f"{quota.name} ({quota.limit}) exceeded"

    def headers(self) -> list[tuple[str, str]]:
        """The fields of draft-ietf-httpapi-ratelimit-headers-11 and, if rejected, `Retry-After` (RFC 9110, 10.2.3)."""
        sets = self.quota_sets
        policy = sets[0].policy if len(sets) == 1 else ", ".join([quota_set.policy for quota_set in sets])
        fields = [("RateLimit-Policy", policy), ("RateLimit", ", ".join(self._limits()))]
        if not self.admitted:
            fields.append(("Retry-After", str(self.retry_after_seconds)))
        return fields

    def _units(self, quota: Quota) -> int:
        return self.cost if quota.seconds else min(self.cost, 1)

    def _limits(self) -> list[str]:
        # Runs on every request, so it creates no QuotaStatus objects.
        items, counts, at = [], self.counts, 0
        for quota_set in self.quota_sets:
            for quota in quota_set.quotas:
                left, reset = quota.limit - counts[at], -(-counts[at + 1] // 1_000_000)
                item = f'"{quota.name}";r={left if left > 0 else 0}'
                items.append(f"{item};t={reset}" if reset else item)
                at += 2
        return items

    def _statuses(self) -> Iterator[QuotaStatus]:
        counts = iter(self.counts)
        for quota_set in self.quota_sets:
            for quota in quota_set.quotas:
                yield QuotaStatus(quota, next(counts), _seconds(next(counts)))


def _seconds(microseconds: int) -> int:
    return -(-microseconds // 1_000_000)
