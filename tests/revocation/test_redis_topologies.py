"""No key is accepted after its receipt during failovers of a Redis with Sentinel and of a cluster.

Runs the fastest faults. `python -m bench.redis_topologies` runs every fault for any number of rounds.
"""

from __future__ import annotations

from pathlib import Path

from kataven.revocation.receipt import Channel
from tests.revocation.fleet import Fleet
from tests.revocation.topology_faults import TopologyFault, revoke_during_faults
from tests.support.redis_topologies import ClusterDeployment, SentinelDeployment

LEASE_SECONDS = 0.5


def test_primary_that_resumes_after_a_failover_with_sentinel(short_folder: Path, system_url: str) -> None:
    faults = (TopologyFault.PAUSED,)
    with (
        SentinelDeployment(short_folder) as redis,
        Fleet(system_url, redis.url, [redis.url] * 2, lease_seconds=LEASE_SECONDS) as fleet,
    ):
        rounds = list(revoke_during_faults(fleet, redis, faults, len(faults)))
    assert fleet.accepted_too_late == 0
    assert fleet.accepted_from_cache > 0
    assert all(one.after.channel is Channel.REDIS for one in rounds)


def test_failovers_and_a_moved_slot_in_a_cluster(short_folder: Path, system_url: str) -> None:
    faults = (TopologyFault.PLANNED, TopologyFault.SLOT_MOVED)
    with (
        ClusterDeployment(short_folder) as redis,
        Fleet(system_url, redis.url, [redis.url] * 2, lease_seconds=LEASE_SECONDS) as fleet,
    ):
        rounds = list(revoke_during_faults(fleet, redis, faults, len(faults)))
    assert fleet.accepted_too_late == 0
    assert fleet.accepted_from_cache > 0
    assert all(one.after.channel is Channel.REDIS for one in rounds)
