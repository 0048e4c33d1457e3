"""What a row counts, from the observations of its load."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from topologies.deployment import LIMIT
from topologies.load import KeyUnderTest
from topologies.observation import Observation

WINDOW_SECONDS = 60.0
REJECTED = (401, 403)
_EXPECTED = {
    "jwt": {200},
    "agents": {201},
    "create-key": {201},
    "revoke": {200},
    "limit": {200, 429},
    "hub": {200},
    "sign-in": {200},
}


@dataclass(frozen=True)
class Traffic:
    """The counts that come from the observations alone."""

    requests: int
    after_receipt: int
    """Requests with a revoked key that started after its receipt arrived."""
    late_accepts: int
    latest_accept_seconds: float
    """How long after the receipt the last late accept started."""
    other_5xx: int
    degraded_seconds: int
    over_admission: float
    unexpected: Mapping[str, int]
    """Unexpected responses, by what was sent, status and code."""
    slowest_seconds: float


def count(observations: Sequence[Observation], keys: Mapping[str, KeyUnderTest], started_at: float) -> Traffic:
    """The counts of a row whose load started at `started_at`."""
    after = [one for one in observations if is_after_receipt(one, keys)]
    late = [one for one in after if one.status == 200]
    wrong = [one for one in observations if is_unexpected(one, keys)]
    return Traffic(
        requests=len(observations),
        after_receipt=len(after),
        late_accepts=len(late),
        latest_accept_seconds=round(max((one.started - keys[one.subject].receipt_at for one in late), default=0.0), 2),
        other_5xx=sum(one.status >= 500 and one.status != 503 for one in observations),
        degraded_seconds=len({int(one.ended - started_at) for one in wrong}),
        over_admission=round(over_admission(observations), 2),
        unexpected=dict(Counter(f"{one.kind} {one.status} {one.code}".strip() for one in wrong).most_common()),
        slowest_seconds=round(max((one.ended - one.started for one in observations), default=0.0), 2),
    )


def is_after_receipt(one: Observation, keys: Mapping[str, KeyUnderTest]) -> bool:
    """Whether the request carried a revoked key, and started after the receipt arrived."""
    return one.kind == "key" and one.subject in keys and one.started > keys[one.subject].receipt_at


def is_unexpected(one: Observation, keys: Mapping[str, KeyUnderTest]) -> bool:
    """Whether the response is another one than a client of a system without failures gets."""
    if one.kind != "key":
        return one.status not in _EXPECTED.get(one.kind, set())
    key = keys.get(one.subject)
    if key is None or one.ended < key.asked_at:
        return one.status != 200
    if one.started > key.receipt_at:
        return one.status not in REJECTED
    return one.status not in {200, *REJECTED}


def over_admission(observations: Iterable[Observation], limit: int = LIMIT) -> float:
    """The largest number of requests of an account that were certainly admitted within one window, over the limit."""
    admitted: dict[str, list[Observation]] = {}
    for one in observations:
        if one.kind == "limit" and one.status == 200:
            admitted.setdefault(one.subject, []).append(one)
    return max((_most_in_a_window(each) / limit for each in admitted.values()), default=0.0)


def _most_in_a_window(admitted: Sequence[Observation]) -> int:
    """The requests that started and ended within 60 seconds, so that they were counted within them."""
    by_start = sorted(admitted, key=lambda one: one.started)
    starts = [one.started for one in by_start]
    most = 0
    for first, one in enumerate(by_start):
        last = bisect_left(starts, one.started + WINDOW_SECONDS)
        most = max(most, sum(other.ended <= one.started + WINDOW_SECONDS for other in by_start[first:last]))
    return most


def receipts_by_channel(keys: Iterable[KeyUnderTest]) -> dict[str, int]:
    """How many receipts came by Redis, and how many by fallback notices, with the reason."""
    return dict(Counter(str(key.receipt.get("redis", "redis")) for key in keys if key.receipt_at < math.inf))
