"""Simulates revocations over three regions by the design in docs/regions.md, and measures one region's Redis.

    python -m bench.regions                        all scenarios with 3 x 200 workers, and the cost of one Redis
    python -m bench.regions --only simulation      the simulation alone
    python -m bench.regions --only capacity        the cost of one region's Redis, on a real redis-server
    python -m bench.regions --seed 7 --workers 50  another history, with fewer workers in each region
    python -m bench.regions --without "region lease"    take a rule out; tests/bench/test_regions.py does that too

The simulation runs the protocol, with the product's guard in each worker, in simulated time; a seed determines its
history. At each receipt, and at each change of a worker's state afterwards, it checks whether a request that starts
then would be accepted with the revoked key. Exits with 1 if there is one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from bench.regions.capacity import LEASE_SECONDS, SIZES, measure
from bench.regions.protocol import REGION_LEASE_SECONDS, RULES
from bench.regions.scenarios import HOME, LOSS, ROUND_TRIPS, SCENARIOS, History, run_number
from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.revocation import Percentiles
from kataven.revocation.subscriber import RENEWALS_PER_LEASE


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.regions", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("simulation", "capacity"))
    parser.add_argument("--workers", type=int, default=200, help="workers in each region (default: 200)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without", choices=RULES, help="take this rule of the protocol out")
    options = parser.parse_args()
    violations: list[str] = []
    if options.only != "capacity":
        histories = simulate(options.workers, options.seed, options.without)
        violations = [violation for history in histories for violation in history.violations]
    if options.only != "simulation":
        print_capacity()
    for violation in violations[:10]:
        print(f"VIOLATION {violation}", file=sys.stderr)
    if violations:
        print(f"{len(violations)} violations", file=sys.stderr)
    return 1 if violations else 0


def simulate(workers: int, seed: int, without: str | None) -> list[History]:
    """Run and print all scenarios, as many at a time as the machine has cores."""
    paths = ", ".join(f"{' to '.join(sorted(pair))} {seconds * 1000:.0f} ms" for pair, seconds in ROUND_TRIPS.items())
    print(f"Simulation: 3 regions with {workers} workers each, seed {seed}; system database in {HOME};")
    print(f"round trips {paths};")
    print(f"lease {LEASE_SECONDS:g} s, region lease {REGION_LEASE_SECONDS:g} s; {LOSS:.1%} of messages are lost once\n")
    print(
        f"{'scenario':31} {'receipts':>8} {'none':>5}  {'receipt ms: p50':>15} {'p99':>7} {'max':>7}"
        f" {'by notice':>9} {'expired: regions':>16} {'workers':>7} {'no cache s':>10} {'violations':>10}"
    )
    one = partial(run_number, workers=workers, seed=seed, without=without)
    histories = []
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        for history in pool.map(one, range(len(SCENARIOS))):
            histories.append(history)
            print(line_of(history), flush=True)
    print(
        "\nnone: revocations without a receipt, because the system database or the account's database was unreachable."
    )
    print("no cache s: how long a worker verified each request in the database, on average.\n")
    return histories


def line_of(history: History) -> str:
    times = Percentiles.of([receipt.seconds * 1000 for receipt in history.receipts])
    cells = "-" if times is None else f"{times.p50:15.0f} {times.p99:7.0f} {times.max:7.0f}"
    by_notice = sum(receipt.by_notice for receipt in history.receipts)
    regions = sum(receipt.expired_regions for receipt in history.receipts)
    expired = sum(receipt.expired_workers for receipt in history.receipts)
    return (
        f"{history.name:31} {len(history.receipts):8} {history.unconfirmed:5}  {cells}"
        f" {by_notice:9} {regions:16} {expired:7} {history.seconds_without_leases:10.1f} {len(history.violations):10}"
    )


def print_capacity(sizes: Sequence[int] = SIZES) -> None:
    """Measure and print what one region's Redis carries."""
    print(f"One region's Redis, with the product's scripts; {RENEWALS_PER_LEASE} renewals per worker and second\n")
    print(
        f"{'workers':>7} {'renewals/s':>10} {'CPU µs: renewal':>15} {'revocation':>10} {'CPU of renewals':>15}"
        f" {'revocations/s':>13} {'receipt ms: p50':>15} {'p99':>6}"
    )
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder), persistent=False) as server:
        for workers in sizes:
            cost = measure(server.url, workers)
            renewals = workers * RENEWALS_PER_LEASE / LEASE_SECONDS
            print(
                f"{workers:7} {renewals:10.0f} {cost.renewal_cpu_seconds * 1e6:15.1f}"
                f" {cost.publication_cpu_seconds * 1e6:10.0f} {cost.renewal_share:15.2%}"
                f" {cost.revocations_per_second:13.0f} {cost.receipts.p50:15.1f} {cost.receipts.p99:6.1f}",
                flush=True,
            )
        print(f"\nLimit of one core without revocations: {1 / cost.renewal_cpu_seconds:,.0f} renewals per second,")
        print(f"which is {LEASE_SECONDS / RENEWALS_PER_LEASE / cost.renewal_cpu_seconds:,.0f} workers.")
        print(
            "revocations/s: what the rest of the core carries. The receipt's times contain the work of the one process"
        )
        print("that plays all workers.")


if __name__ == "__main__":
    sys.exit(main())
