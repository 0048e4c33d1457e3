"""The guarantee on a real Redis with real processes, under faults.

Each test revokes keys while worker processes send requests with them. Requests with a revoked key continue after its
receipt was returned.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.revocation.fleet import Fleet
from tests.revocation.scratch_redis import Proxy, ScratchRedis

pytestmark = pytest.mark.processes

LEASE_SECONDS = 0.3
MAX_REVOCATION_MS = LEASE_SECONDS * 1000 * 4
"""For any revocation: two leases, doubled for a machine that is busy with other tests."""


def test_every_worker_acknowledges_without_faults(scratch_redis: ScratchRedis, system_url: str) -> None:
    with Fleet(system_url, scratch_redis.url, [scratch_redis.url] * 3, lease_seconds=5, slow_every=7) as fleet:
        receipts = [fleet.revoke_next() for _ in range(120)]
        assert all(receipt.workers == receipt.acknowledged == 4 for receipt in receipts)
    assert fleet.accepted_too_late == 0
    assert fleet.accepted_from_cache > 0


def test_paused_and_resumed_worker(scratch_redis: ScratchRedis, system_url: str) -> None:
    with Fleet(system_url, scratch_redis.url, [scratch_redis.url] * 2, lease_seconds=LEASE_SECONDS) as fleet:
        fleet.revoke_next()
        expired = 0
        for _ in range(5):
            fleet.signal(0, signal.SIGSTOP)
            expired += sum(fleet.revoke_next().expired for _ in range(3))
            fleet.signal(0, signal.SIGCONT)
            fleet.revoke_next()
    assert expired >= 1
    assert fleet.accepted_too_late == 0


def test_redis_restarts(scratch_redis: ScratchRedis, system_url: str) -> None:
    with Fleet(system_url, scratch_redis.url, [scratch_redis.url] * 2, lease_seconds=LEASE_SECONDS) as fleet:
        for number in range(12):
            fleet.revoke_next()
            if number % 3 == 0:
                scratch_redis.restart()
    assert fleet.accepted_too_late == 0


def test_redis_is_killed_and_started_again(scratch_redis: ScratchRedis, system_url: str) -> None:
    with Fleet(system_url, scratch_redis.url, [scratch_redis.url] * 2, lease_seconds=LEASE_SECONDS) as fleet:
        fleet.revoke_next()
        scratch_redis.kill()
        gone = [fleet.revoke_next() for _ in range(4)]
        scratch_redis.start()
        back = _until(lambda: fleet.revoke_next().acknowledged == 3)
    assert all(not receipt.redis_reachable and receipt.ms < MAX_REVOCATION_MS for receipt in gone)
    assert back
    assert fleet.accepted_too_late == 0


def test_redis_hangs(scratch_redis: ScratchRedis, system_url: str) -> None:
    with Fleet(system_url, scratch_redis.url, [scratch_redis.url] * 2, lease_seconds=LEASE_SECONDS) as fleet:
        fleet.revoke_next()
        scratch_redis.signal(signal.SIGSTOP)
        hung = [fleet.revoke_next() for _ in range(2)]
        scratch_redis.signal(signal.SIGCONT)
        back = _until(lambda: fleet.revoke_next().acknowledged == 3)
    assert all(not receipt.redis_reachable and receipt.ms < MAX_REVOCATION_MS for receipt in hung)
    assert back
    assert fleet.accepted_too_late == 0


def test_half_open_connection(scratch_redis: ScratchRedis, system_url: str) -> None:
    with (
        Proxy(scratch_redis.socket) as proxy,
        Fleet(system_url, scratch_redis.url, [scratch_redis.url, proxy.url], lease_seconds=LEASE_SECONDS) as fleet,
    ):
        _until(lambda: fleet.revoke_next().acknowledged == 3)
        expired = 0
        for _ in range(3):
            proxy.drop_traffic()
            expired += sum(fleet.revoke_next().expired for _ in range(2))
            proxy.restore()
            assert _until(lambda: fleet.revoke_next().acknowledged == 3)
    assert expired >= 1
    assert fleet.accepted_too_late == 0


def test_lost_event(scratch_redis: ScratchRedis, system_url: str) -> None:
    with Fleet(
        system_url, scratch_redis.url, [scratch_redis.url] * 2, lease_seconds=LEASE_SECONDS, lose_every=4
    ) as fleet:
        expired = sum(fleet.revoke_next().expired for _ in range(15))
    assert expired >= 1
    assert fleet.accepted_too_late == 0


def _until(happens: Callable[[], bool]) -> bool:
    return any(happens() for _ in range(200))
