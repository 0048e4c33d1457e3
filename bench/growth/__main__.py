"""The cost of lists, look-ups and revocations against the number of rows, accounts and workers.

    python -m bench.growth [--only agents|keys|events|accounts|workers ...] [--small] [--plans]

Each operation runs at several sizes, in this process, on servers that are started for it. Printed is the fastest of
several runs, and the ratio of the largest size to the smallest one. Exit status 1 if a cost grows more than stated: a
page costs the same at every size, and a command that prints each item costs as much per item.

`--small` stops two sizes earlier. `--plans` prints the plan of each query at the largest size instead. The full run
creates a million audit events and 200 processes: about ten minutes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench.growth import account_rows, accounts, workers
from bench.growth.growth import Quantity, run
from bench.growth.plans import StatementLog
from bench.harness import shared_harness

QUANTITIES = ("agents", "keys", "events", "accounts", "workers")


def main() -> int:
    options = _options()
    print(f"{os.cpu_count()} cores, load average before: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="kataven-bench-") as name, ExitStack() as opened:
        folder = Path(name)
        results: list[bool] = []
        if set(options.only) - {"workers"}:
            harness = opened.enter_context(shared_harness(folder))
            log = StatementLog(harness.environ["KATAVEN_DATABASE_URL"], folder / "postgres" / "server.log")
            harness.services.start()
            opened.callback(harness.services.stop)
            for quantity in (*account_rows.quantities(harness), accounts.quantity(harness, opened)):
                if quantity.what.split()[0] not in options.only:
                    continue
                limited = _limited(quantity, options.small)
                if options.plans:
                    _print_plans(limited, log)
                else:
                    results += run(limited)
        if "workers" in options.only:
            results += run(_limited(workers.quantity(opened, folder / "workers"), options.small))
    print("\nas stated" if all(results) else "\nWORSE than stated")
    return 0 if all(results) else 1


def _print_plans(quantity: Quantity, log: StatementLog) -> None:
    size = quantity.sizes[-1]
    quantity.grow(size)
    print(f"\n{size:,} {quantity.what}")
    for measure in quantity.measures(size):
        log.print_plans(measure)


def _limited(quantity: Quantity, small: bool) -> Quantity:
    sizes = quantity.sizes[: max(len(quantity.sizes) - 2, 2)] if small else quantity.sizes
    return Quantity(quantity.what, sizes, quantity.grow, quantity.measures)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=QUANTITIES, default=list(QUANTITIES))
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--plans", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
