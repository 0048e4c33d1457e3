"""One command for all parts:

    python -m bench.tenancy                     1,000 accounts, about half an hour
    python -m bench.tenancy --accounts 100      smaller, a few minutes
    python -m bench.tenancy --only memory       one part: creation, memory, throughput, bulkheads, migrations or soak

It starts a separate PostgreSQL without fsync, and removes it. Ratios are comparable across machines, times are not.
"""

import argparse
import logging
import os
import time
from collections.abc import Callable

from bench.tenancy import bulkheads, creation, memory, migrations, soak, throughput
from bench.tenancy.world import World, world


def main() -> None:
    arguments = _arguments()
    logging.basicConfig(level=logging.ERROR)  # some parts cause failures in accounts
    parts: dict[str, Callable[[World], None]] = {
        "creation": lambda here: creation.run(here, accounts=arguments.accounts),
        "memory": lambda here: memory.run(here, accounts=min(300, arguments.accounts)),
        "throughput": lambda here: throughput.run(
            here, accounts=min(300, arguments.accounts), seconds=arguments.seconds / 6, rounds=3
        ),
        "bulkheads": lambda here: bulkheads.run(here, seconds=arguments.seconds / 6, rounds=3),
        "migrations": lambda here: migrations.run(here, accounts=arguments.accounts),
        "soak": lambda here: soak.run(here, seconds=arguments.seconds),
    }
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    print(f"{os.cpu_count()} cores, load average before: {load}")
    for name in [arguments.only] if arguments.only else parts:
        started_at = time.monotonic()
        print(f"\n{name}", flush=True)
        with world(in_memory=arguments.in_memory) as here:
            parts[name](here)
        print(f"  ({time.monotonic() - started_at:.0f} s)")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.tenancy")
    parser.add_argument("--accounts", type=int, default=1000)
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="the duration of the soak; other timed parts use a fraction of it"
    )
    parser.add_argument("--only", choices=["creation", "memory", "throughput", "bulkheads", "migrations", "soak"])
    parser.add_argument("--in-memory", action="store_true", help="keep the server's files in /dev/shm")
    return parser.parse_args()


if __name__ == "__main__":
    main()
