"""Yes or no, and what is left: one answer over all quotas, and how a client is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kataven.ratelimit.policy import Quota, QuotaSet

SLOT_RETRY_SECONDS = 1
"""Nobody knows when one of the requests in flight will end; most do within a second."""


@dataclass(frozen=True, slots=True)
class QuotaStatus:
    """Where one quota stands after the decision."""

    quota: Quota
    used: int
    reset_seconds: int
    """Until one more fits or, where one fits already, until `remaining` grows by itself; rounded up. 0: not known."""

    @property
    def remaining(self) -> int:
        return max(0, self.quota.limit - self.used)


class Decision:
    """Whether a request was admitted, with the state of every quota. Equal to another that says the same."""

    __slots__ = ("admitted", "counts", "plans")

    def __init__(self, plans: Sequence[QuotaSet], admitted: bool, counts: Sequence[int]) -> None:
        """`counts` has two numbers for each quota: what is used, and in how many microseconds that changes."""
        self.plans = plans
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
        """Every quota that was asked, the account's before the key's."""
        return tuple(self._standings())

    @property
    def refused_by(self) -> QuotaStatus | None:
        """The used-up quota with the longest wait; None if the request was admitted."""
        if self.admitted:
            return None
        used_up = [quota_status for quota_status in self._standings() if not quota_status.remaining]
        return max(used_up, key=lambda quota_status: quota_status.reset_seconds)

    @property
    def retry_after_seconds(self) -> int | None:
        """When a request like this one would be admitted if nobody else came; None if this one was."""
        quota_status = self.refused_by
        return None if quota_status is None else quota_status.reset_seconds or SLOT_RETRY_SECONDS

    @property
    def detail(self) -> str:
        """For people: `per-minute (60) exceeded`. Empty if the request was admitted."""
        quota_status = self.refused_by
        return f"{quota_status.quota.name} ({quota_status.quota.limit}) exceeded" if quota_status else ""

    def headers(self) -> list[tuple[str, str]]:
        """The fields of draft-ietf-httpapi-ratelimit-headers-11 and, if refused, `Retry-After` (RFC 9110, 10.2.3)."""
        plans = self.plans
        policy = plans[0].policy if len(plans) == 1 else ", ".join([plan.policy for plan in plans])
        fields = [("RateLimit-Policy", policy), ("RateLimit", ", ".join(self._limits()))]
        if not self.admitted:
            fields.append(("Retry-After", str(self.retry_after_seconds)))
        return fields

    def _limits(self) -> Iterator[str]:
        # On the path of every request, hence without a Standing for each quota.
        counts = iter(self.counts)
        for plan in self.plans:
            for quota in plan.quotas:
                item = f'"{quota.name}";r={max(0, quota.limit - next(counts))}'
                reset = _seconds(next(counts))
                yield f"{item};t={reset}" if reset else item

    def _standings(self) -> Iterator[QuotaStatus]:
        counts = iter(self.counts)
        for plan in self.plans:
            for quota in plan.quotas:
                yield QuotaStatus(quota, next(counts), _seconds(next(counts)))


def _seconds(microseconds: int) -> int:
    return -(-microseconds // 1_000_000)
