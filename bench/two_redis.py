"""Two Redis servers at once, and a relay that swings between them at each point of a publication.

    python -m bench.two_redis                      240 revocations
    python -m bench.two_redis --n 1000

Real worker processes hammer the key. Ends with 1 if one request that started after a receipt was accepted.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from bench.scenarios.environment import laid
from kataven.revocation import Percentiles
from tests.revocation.fleet import Fleet
from tests.revocation.scratch_redis import ScratchRedis
from tests.revocation.switching_relay import Round, SwingingRelay, swing

LEASE_SECONDS = 0.3
WORKERS = 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.two_redis", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--n", type=int, default=240, help="how many revocations; 240")
    wanted = parser.parse_args().n
    logging.getLogger("kataven.revocation").setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        ground = stack.enter_context(laid())
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kataven-"))) for _ in range(3)]
        first, second = (stack.enter_context(ScratchRedis(folder)) for folder in folders[:2])
        relay = stack.enter_context(SwingingRelay(folders[2], (first.socket, second.socket)))
        urls = [relay.url] * WORKERS
        with Fleet(ground.database_url, relay.url, urls, lease_seconds=LEASE_SECONDS) as fleet:
            rounds = list(swing(fleet, relay, wanted))
        late, from_memory = fleet.accepted_too_late, fleet.accepted_from_memory
    _tell(rounds)
    print(
        f"{len(rounds)} revocations, {from_memory:,} requests accepted from memory, {late} accepted after the receipt"
    )
    return 1 if late else 0


def _tell(rounds: list[Round]) -> None:
    print(f"{'swings':16}{'connections cut':18}{'told':44}{'receipt ms: p50, max':>22}")
    for point, cut in sorted({(played.point, played.cut) for played in rounds}):
        mine = [played.receipt for played in rounds if (played.point, played.cut) == (point, cut)]
        channel = ", ".join(f"{count} {how}" for how, count in Counter(receipt.channel for receipt in mine).items())
        spread = Percentiles.of([receipt.ms for receipt in mine])
        times = "" if spread is None else f"{spread.p50:11.1f}{spread.max:11.1f}"
        print(f"{point:16}{cut:18}{channel:44}{times:>22}")


if __name__ == "__main__":
    sys.exit(main())
