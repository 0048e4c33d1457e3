"""Checks the guarantee during failovers of a Redis with three sentinels, and of a cluster of six nodes.

    python -m bench.redis_topologies                       20 rounds of each
    python -m bench.redis_topologies sentinel --rounds 100

Real worker processes send requests with keys that are revoked. Each round causes one fault. Exits with 1 if a request
that started after a receipt was accepted.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections import Counter
from pathlib import Path

from bench.scenarios.environment import open_environment
from kataven.revocation import Percentiles
from tests.revocation.fleet import Fleet
from tests.revocation.topology_faults import CLUSTER_FAULTS, SENTINEL_FAULTS, FaultRound, revoke_during_faults
from tests.support.redis_topologies import ClusterDeployment, SentinelDeployment

LEASE_SECONDS = 0.5
WORKERS = 3
TOPOLOGIES = ("sentinel", "cluster")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.redis_topologies", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("topologies", nargs="*", default=TOPOLOGIES, help="sentinel, cluster (default: both)")
    parser.add_argument("--rounds", type=int, default=20, help="number of rounds of each (default: 20)")
    wanted = parser.parse_args()
    if unknown := set(wanted.topologies) - set(TOPOLOGIES):
        parser.error(f"unknown topology {sorted(unknown)[0]!r}; choose from {', '.join(TOPOLOGIES)}")
    logging.getLogger("kataven.revocation").setLevel(logging.CRITICAL)
    with open_environment() as environment:
        late = sum(run(topology, environment.database_url, wanted.rounds) for topology in wanted.topologies)
    return 1 if late else 0


def run(topology: str, database_url: str, rounds: int) -> int:
    """Run and print the rounds. Returns the number of requests that were accepted after a receipt.

    The revoker is a worker in half of the rounds, and a command that holds no lease in the others.
    """
    late = from_cache = 0
    faults = SENTINEL_FAULTS if topology == "sentinel" else CLUSTER_FAULTS
    done: list[FaultRound] = []
    with tempfile.TemporaryDirectory(prefix="kataven-") as folder:
        deployment = SentinelDeployment if topology == "sentinel" else ClusterDeployment
        with deployment(Path(folder)) as redis:
            for is_worker, some in ((True, rounds - rounds // 2), (False, rounds // 2)):
                urls = [redis.url] * WORKERS
                with Fleet(
                    database_url, redis.url, urls, lease_seconds=LEASE_SECONDS, revoker_is_worker=is_worker
                ) as fleet:
                    for one in revoke_during_faults(fleet, redis, faults, some):
                        done.append(one)
                        print(_line(topology, one), flush=True)
                late += fleet.accepted_too_late
                from_cache += fleet.accepted_from_cache
    receipts = sum(len(one.during) + 1 for one in done)
    print(
        f"{topology}: {len(done)} rounds, {receipts} revocations, {from_cache:,} accepted from the cache, "
        f"{late} accepted after the receipt"
    )
    return late


def _line(topology: str, one: FaultRound) -> str:
    channels = ", ".join(f"{count} {how}" for how, count in Counter(receipt.channel for receipt in one.during).items())
    spread = Percentiles.of([receipt.ms for receipt in one.during])
    times = "" if spread is None else f"receipt ms: p50 {spread.p50:.1f}, max {spread.max:.1f}"
    return f"{topology:10}{one.fault:56}{channels:44}{times}"


if __name__ == "__main__":
    sys.exit(main())
