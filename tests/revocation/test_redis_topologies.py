"""No key is accepted after its receipt during failovers of a Redis with Sentinel and of a cluster.

Runs the fastest faults. `python -m bench.redis_topologies` runs every fault for any number of rounds.
"""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kataven.revocation import Revocation
from kataven.revocation.receipt import Channel
from kataven.web.health import CHECKS
from tests.revocation.eventually import eventually
from tests.revocation.fleet import Fleet
from tests.revocation.simulation.fallback_model import FallbackModel, ProcessFallback
from tests.revocation.topology_faults import TopologyFault, revoke_during_faults
from tests.support.redis_topologies import ClusterDeployment, SentinelDeployment

pytestmark = pytest.mark.processes

LEASE_SECONDS = 0.5
EVENTS = "{kataven:revocation}:events"


def test_the_problem_is_reported_while_no_server_can_be_used() -> None:
    """`/readyz` shows it to operators."""
    fallback = ProcessFallback(FallbackModel(), lambda: True, lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for url, problem in (
        (f"redis+sentinel://127.0.0.1:{port}/kataven", "sentinel: no sentinel reachable"),
        (f"redis+cluster://127.0.0.1:{port}", "cluster: no node with a working majority is reachable"),
        (f"redis://127.0.0.1:{port}", None),
    ):
        revocation = Revocation(url, lease_seconds=LEASE_SECONDS, fallback=fallback)
        revocation.start()
        try:
            assert eventually(
                lambda one=revocation, said=problem: one.stats.disconnects and one.status().problem == said
            )
            services: Any = SimpleNamespace(revocation=revocation)
            assert CHECKS["redis"](services) == f"degraded: {problem or 'unreachable'}"
        finally:
            revocation.stop()


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
        node = redis.primary()
        sharded = int(node.command("INFO", "server")["redis_version"].split(".")[0]) >= 7
        subscribers = node.command("PUBSUB", "SHARDNUMSUB" if sharded else "NUMSUB", EVENTS)
    assert subscribers == [EVENTS, 3]  # two workers and the revoker
    assert fleet.accepted_too_late == 0
    assert fleet.accepted_from_cache > 0
    assert all(one.after.channel is Channel.REDIS for one in rounds)
