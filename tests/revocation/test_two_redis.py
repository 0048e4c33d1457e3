"""Two Redis servers that respond at once: a publication that reaches the wrong one must not count.

`python -m bench.two_redis` runs the same for any number of rounds.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.revocation.fleet import Fleet
from tests.revocation.scratch_redis import ScratchRedis
from tests.revocation.switching_relay import SWITCH_CASES, SwitchingRelay, switch_repeatedly

pytestmark = pytest.mark.processes

LEASE_SECONDS = 0.3


def test_no_key_is_accepted_after_its_receipt_while_a_relay_switches_between_two_redis(
    scratch_redis: ScratchRedis, other_redis: ScratchRedis, short_folder: Path, system_url: str
) -> None:
    with (
        SwitchingRelay(short_folder, (scratch_redis.socket, other_redis.socket)) as relay,
        Fleet(system_url, relay.url, [relay.url] * 2, lease_seconds=LEASE_SECONDS) as fleet,
    ):
        rounds = list(switch_repeatedly(fleet, relay, len(SWITCH_CASES)))
    assert fleet.accepted_too_late == 0
    assert fleet.accepted_from_cache > 0
    assert {(switched.point, switched.closed) for switched in rounds} == set(SWITCH_CASES)


def test_command_connected_to_another_redis_than_the_workers_revokes_by_fallback_notice(
    scratch_redis: ScratchRedis, other_redis: ScratchRedis, system_url: str
) -> None:
    """Its Redis accepts the publication, but no worker receives it."""
    with Fleet(
        system_url, other_redis.url, [scratch_redis.url] * 2, lease_seconds=LEASE_SECONDS, revoker_is_worker=False
    ) as fleet:
        for _ in range(3):
            fleet.wait_until_every_worker_caches()
            receipt = fleet.revoke_next()
            assert (receipt.channel, receipt.workers, receipt.acknowledged) == ("split", 2, 2)
    assert fleet.accepted_too_late == 0
