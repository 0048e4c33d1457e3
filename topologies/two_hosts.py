"""What is measured on two hosts after the load: receipts of revocations through each host, and a limit across both."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from bench.scenarios.connection import request
from bench.scenarios.environment import Key
from kataven.revocation import Percentiles
from topologies.deployment import ACCOUNT, EXACT, EXACT_LIMIT, WORKERS_PER_HOST, Deployment, direct_request
from topologies.load import KeyUnderTest
from topologies.network import Link
from topologies.observation import send

REVOCATIONS = 40
"""Per host."""
CALLERS = 8
REQUESTS = 3 * EXACT_LIMIT
LAPSE_SECONDS = 5.0
"""A worker that did not acknowledge is not listed until it renews its lease: much shorter, also on a busy machine."""


@dataclass(frozen=True)
class HostReceipts:
    """Receipts of revocations through one host, without other load."""

    revocations: int
    p50_ms: float
    """Of the time that the receipt states: from the publication to the receipt."""
    p99_ms: float
    max_ms: float
    request_p50_ms: float
    """Of the whole request, with its database statements."""


@dataclass(frozen=True)
class TwoHosts:
    """Host A has Redis and PostgreSQL. Host B is at the other end of the link."""

    link: str
    round_trip_ms: int
    measured_round_trip_ms: float
    receipts_a: HostReceipts
    receipts_b: HostReceipts
    late_accepts: int
    receipts: int
    """Receipts of the load and of this measurement."""
    receipts_with_all_workers: int
    unexplained_receipts: int
    """Receipts without all workers, although none had expired in the seconds before."""
    limit: int
    admitted: int
    """Requests that both hosts admitted within one window of the limit."""
    limit_requests: int

    @property
    def passed(self) -> bool:
        return not (self.late_accepts or self.unexplained_receipts) and self.admitted <= self.limit


def examine(deployment: Deployment, link: Link, redis_port: int, under_load: Sequence[KeyUnderTest]) -> TwoHosts:
    """Measure. The load must have stopped."""
    keys: list[KeyUnderTest] = []
    receipts, late = [], 0
    for port in deployment.ports:
        through = [_revoke(deployment, port) for _ in range(REVOCATIONS)]
        keys += [key for key, _ in through]
        late += sum(accepted for _, accepted in through)
        receipts.append(_statistics([key for key, _ in through]))
    workers = WORKERS_PER_HOST * len(deployment.ports)
    every = [*under_load, *keys]
    return TwoHosts(
        link=link.kind,
        round_trip_ms=link.round_trip_milliseconds,
        measured_round_trip_ms=round(link.measured_round_trip(redis_port), 2),
        receipts_a=receipts[0],
        receipts_b=receipts[1],
        late_accepts=late,
        receipts=len(every),
        receipts_with_all_workers=sum(key.receipt["workers"] == workers for key in every),
        unexplained_receipts=len(unexplained(every, workers)),
        limit=EXACT_LIMIT,
        admitted=_use_up_limit(deployment),
        limit_requests=REQUESTS,
    )


def unexplained(keys: Iterable[KeyUnderTest], workers: int) -> list[KeyUnderTest]:
    """The receipts that name fewer workers, without an earlier receipt whose revoker removed a worker from the list."""
    ordered = sorted(keys, key=lambda key: key.receipt_at)
    removals = [key.receipt_at for key in ordered if key.receipt.get("lapsed")]
    return [
        key
        for key in ordered
        if key.receipt["workers"] < workers
        and not any(key.asked_at - LAPSE_SECONDS < removed < key.receipt_at for removed in removals)
    ]


def _revoke(deployment: Deployment, port: int) -> tuple[KeyUnderTest, int]:
    """Create a key, use it at both hosts, revoke it through `port`, and count the hosts that accept it afterwards."""
    created = _exchange(deployment, deployment.ports[0], "POST", "/v1/api-keys", {"name": "two hosts", "expiry": "30d"})
    key = Key(created["id"], created["key"])
    for each in deployment.ports * 2:
        direct_request(each, key)
    asked_at = time.monotonic()
    receipt = _exchange(deployment, port, "PATCH", f"/v1/api-keys/{key.id}", {"disabled": True})["receipt"]
    receipt_at = time.monotonic()
    accepted = sum(direct_request(each, key).status == 200 for each in deployment.ports * 2)
    return KeyUnderTest(key, asked_at, receipt_at, receipt, 1, receipt_at - asked_at), accepted


def _statistics(keys: Sequence[KeyUnderTest]) -> HostReceipts:
    stated = Percentiles.of([float(key.receipt["ms"]) for key in keys])
    whole = Percentiles.of([key.seconds * 1000 for key in keys])
    assert stated is not None
    assert whole is not None
    return HostReceipts(
        len(keys), round(stated.p50, 1), round(stated.p99, 1), round(stated.max, 1), round(whole.p50, 1)
    )


def _use_up_limit(deployment: Deployment) -> int:
    """How many of `REQUESTS` requests to both hosts are admitted."""
    message = request("GET", "/v1/me", {"Authorization": f"Bearer {deployment.keys[EXACT].text}"})

    def ask(number: int) -> int:
        port = deployment.ports[number % len(deployment.ports)]
        return send(port, message, "limit", EXACT)[0].status

    with ThreadPoolExecutor(CALLERS) as pool:
        return Counter(pool.map(ask, range(REQUESTS)))[200]


def _exchange(deployment: Deployment, port: int, method: str, path: str, body: object) -> dict[str, Any]:
    message = request(method, path, deployment.owner_headers, body)
    observation, response = send(port, message, method, ACCOUNT)
    if response is None or response.status not in {200, 201}:
        raise RuntimeError(f"{method} {path} returned {observation.status} {observation.code}")
    found: dict[str, Any] = response.json()
    return found
