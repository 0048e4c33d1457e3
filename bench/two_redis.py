"""Checks the guarantee with two Redis servers and a relay that switches between them at each point of a publication.

    python -m bench.two_redis                      240 revocations
    python -m bench.two_redis --n 1000

Real worker processes send requests with the key. Exits with 1 if a request that started after a receipt was accepted.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from bench.scenarios.environment import open_environment
from kataven.revocation import Percentiles
from tests.revocation.fleet import Fleet
from tests.revocation.scratch_redis import ScratchRedis
from tests.revocation.switching_relay import Round, SwitchingRelay, switch_repeatedly

LEASE_SECONDS = 0.3
WORKERS = 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.two_redis", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--n", type=int, default=240, help="number of revocations (default: 240)")
    wanted = parser.parse_args().n
    logging.getLogger("kataven.revocation").setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        environment = stack.enter_context(open_environment())
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kataven-"))) for _ in range(3)]
        first, second = (stack.enter_context(ScratchRedis(folder)) for folder in folders[:2])
        relay = stack.enter_context(SwitchingRelay(folders[2], (first.socket, second.socket)))
        urls = [relay.url] * WORKERS
        with Fleet(environment.database_url, relay.url, urls, lease_seconds=LEASE_SECONDS) as fleet:
            rounds = list(switch_repeatedly(fleet, relay, wanted))
        late, from_memory = fleet.accepted_too_late, fleet.accepted_from_cache
    _print_rounds(rounds)
    print(f"{len(rounds)} revocations, {from_memory:,} accepted from the cache, {late} accepted after the receipt")
    return 1 if late else 0


def _print_rounds(rounds: list[Round]) -> None:
    print(f"{'switch':16}{'connections closed':20}{'channel':44}{'receipt ms: p50, max':>22}")
    for point, closed in sorted({(switched.point, switched.closed) for switched in rounds}):
        mine = [switched.receipt for switched in rounds if (switched.point, switched.closed) == (point, closed)]
        channel = ", ".join(f"{count} {how}" for how, count in Counter(receipt.channel for receipt in mine).items())
        spread = Percentiles.of([receipt.ms for receipt in mine])
        times = "" if spread is None else f"{spread.p50:11.1f}{spread.max:11.1f}"
        print(f"{point:16}{closed:20}{channel:44}{times:>22}")


if __name__ == "__main__":
    sys.exit(main())
