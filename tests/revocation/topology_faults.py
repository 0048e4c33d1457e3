"""Faults of a Redis with Sentinel and of a cluster, during which keys are revoked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from kataven.revocation import Receipt
from tests.revocation.fleet import Fleet
from tests.support.redis_topologies import REVOCATION_SLOT, ClusterDeployment, Node, SentinelDeployment, wait_until

Deployment = SentinelDeployment | ClusterDeployment


class TopologyFault(StrEnum):
    """What happens to the primary that has the protocol's state."""

    PLANNED = "planned failover"
    KILLED = "primary killed"
    PAUSED = "primary paused, and resumed after the promotion"
    LAGGING = "primary killed, and its replicas lack the latest events"
    SLOT_MOVED = "slot moved to another node"


SENTINEL_FAULTS = (TopologyFault.PLANNED, TopologyFault.KILLED, TopologyFault.PAUSED, TopologyFault.LAGGING)
CLUSTER_FAULTS = tuple(TopologyFault)


@dataclass(frozen=True, slots=True)
class FaultRound:
    """The receipts of one round: during the fault, and after the deployment has recovered."""

    fault: TopologyFault
    during: list[Receipt]
    after: Receipt


def revoke_during_faults(
    fleet: Fleet, redis: Deployment, faults: tuple[TopologyFault, ...], rounds: int
) -> Iterator[FaultRound]:
    """Cause each fault in turn, `rounds` times in all, and revoke keys that every worker has cached."""
    for number in range(rounds):
        fault = faults[number % len(faults)]
        redis.restore()
        redis.wait_until_stable()
        fleet.wait_until_every_worker_caches()
        during = _cause(fleet, redis, fault)
        fleet.wait_until_every_worker_caches()
        yield FaultRound(fault, during, _revoke_until_acknowledged(fleet))


def _cause(fleet: Fleet, redis: Deployment, fault: TopologyFault) -> list[Receipt]:
    old = redis.primary()
    if fault is TopologyFault.SLOT_MOVED:
        return _move_slot(fleet, redis, old)
    receipts: list[Receipt] = []
    if fault is TopologyFault.PLANNED:
        redis.fail_over()
    elif fault is TopologyFault.KILLED:
        old.kill()
    elif fault is TopologyFault.PAUSED:
        old.pause()
    else:
        replicas = redis.replicas()
        for replica in replicas:
            replica.pause()
        receipts += [fleet.revoke_next(), fleet.revoke_next()]
        old.kill()
        for replica in replicas:
            replica.resume()
    while redis.primary() is old:
        receipts.append(fleet.revoke_next())
    receipts.append(fleet.revoke_next())
    if fault is TopologyFault.PAUSED:
        # The workers renew at the new primary when the old one resumes. Until it is demoted, it accepts commands.
        fleet.wait_until_every_worker_caches()
        old.resume()
        receipts += [fleet.revoke_next() for _ in range(3)]
    return receipts


def _move_slot(fleet: Fleet, redis: Deployment, source: Node) -> list[Receipt]:
    assert isinstance(redis, ClusterDeployment)
    receipts: list[Receipt] = []
    target = next(node for node in redis.primaries() if node is not source)
    redis.move_slot(REVOCATION_SLOT, target, between=lambda: receipts.append(fleet.revoke_next()))
    return [*receipts, fleet.revoke_next(), fleet.revoke_next()]


def _revoke_until_acknowledged(fleet: Fleet) -> Receipt:
    """The first receipt without a fallback notice: the workers use Redis again."""
    receipts: list[Receipt] = []

    def acknowledged() -> bool:
        receipts.append(fleet.revoke_next())
        return receipts[-1].redis_reachable and receipts[-1].workers == receipts[-1].acknowledged

    wait_until(acknowledged, "every worker acknowledges over Redis")
    return receipts[-1]
