"""Measures for how long a key is still accepted if its revoker dies between its commit and its receipt.

    python -m bench.revoker_killed                 100 kills at random times of a revocation
    python -m bench.revoker_killed --n 20

Exits with 1 if a key that is disabled in the database was accepted later than twice the sum of one lease and one poll
after the kill; the factor 2 allows for a busy machine. Without the intent, it would be accepted for up to 30 s.
"""

from __future__ import annotations

import argparse
import random
import sys

from bench.scenarios.environment import open_environment
from bench.scenarios.killed_revoker import Killed, kill, revoker_host
from bench.scenarios.site import open_site

LEASE_SECONDS = 1.0
BOUND_SECONDS = 2 * (1.5 * LEASE_SECONDS)
LATEST = 6.0
"""The latest time of a kill, as a multiple of the duration of a change of a key without a revocation."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.revoker_killed", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--n", type=int, default=100, help="number of kills (default: 100)")
    rounds = parser.parse_args().n
    chance = random.Random(7)  # noqa: S311  times, not secrets
    with open_environment() as environment:
        folder = environment.folder / "site"
        with (
            open_site(environment, folder, lease_seconds=LEASE_SECONDS, proxied=False) as site,
            revoker_host(site, folder, LEASE_SECONDS) as host,
        ):
            found = [kill(site, host, chance.uniform(0, LATEST)) for _ in range(rounds)]
    return _print_result(found)


def _print_result(found: list[Killed]) -> int:
    orphaned = [one for one in found if one.committed and not one.answered]
    longest = max((one.accepted_for_seconds for one in found if one.committed), default=0.0)
    print(f"{len(found)} revokers killed at random times of a revocation")
    print(f"  not committed, the key remains valid     {sum(not one.committed for one in found):4}")
    print(f"  committed without a receipt              {len(orphaned):4}")
    print(f"  receipt returned                         {sum(one.answered for one in found):4}")
    print(f"  longest time the key was accepted        {longest:6.2f} s; bound {BOUND_SECONDS:g} s")
    return 0 if longest <= BOUND_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
