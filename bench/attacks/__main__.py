"""Measures the latency of a valid key and of revocation receipts during attacks by unauthenticated clients.

    python -m bench.attacks [--only NAME …] [--seconds 5]

The server is the one that `make run` starts (two workers of eight threads, API and Hub), with real PostgreSQL and Redis
over loopback. Each attack runs in a separate process. Slices with the attack alternate with slices without it, so load
on the machine affects both. Requires Linux, because attackers use separate addresses in 127.0.0.0/8.

Exits with status 1 if a ceiling is exceeded, if a valid client is not served, if a key is accepted after its receipt,
or if a response is 500.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench.attacks.campaign import Campaign
from bench.attacks.catalog import ATTACKS, Attack
from bench.attacks.site import Site, open_site
from bench.attacks.verdict import Row, failures, header, line
from bench.harness import shared_harness
from kataven.dev.terminal import STOP_SIGNALS, StopRequested, ignore_stop_signals, stop_on_signals

BY_NAME = {attack.name: attack for attack in ATTACKS}


def main() -> int:
    options = _options()
    chosen = [BY_NAME[name] for name in options.only or BY_NAME]
    stop_on_signals()
    try:
        with ExitStack() as stack:
            stack.callback(ignore_stop_signals)  # cleanup must not be interrupted
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kataven-bench-")))
            harness = stack.enter_context(shared_harness(folder))
            site = stack.enter_context(open_site(harness, folder))
            stack.callback(ignore_stop_signals)
            return asyncio.run(_run(site, chosen, options.seconds))
    except (StopRequested, asyncio.CancelledError):
        return 130


async def _run(site: Site, attacks: list[Attack], seconds: float) -> int:
    _cancel_on_signals()
    print(f"{os.cpu_count()} cores, load average before: {os.getloadavg()[0]:.1f}", flush=True)
    gc.collect()
    gc.freeze()
    rows: list[Row] = []
    async with Campaign(site, seconds) as campaign:
        print("\n".join(header()), flush=True)
        for number, attack in enumerate(attacks):
            row = await campaign.run(attack, number)
            rows.append(row)
            print(line(row), flush=True)
    wrong = {row.name: failures(row) for row in rows}
    print()
    for name, reasons in wrong.items():
        for reason in reasons:
            print(f"{name}: {reason}")
    passed = sum(not reasons for reasons in wrong.values())
    print(f"{passed} of {len(rows)} attacks are within their ceilings")
    return 0 if passed == len(rows) else 1


def _cancel_on_signals() -> None:
    """Let a stop signal cancel this task. An exception from a signal handler could be raised in any task."""
    task = asyncio.current_task()
    assert task is not None
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, lambda: task.cancelling() or task.cancel())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.attacks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=[*BY_NAME], nargs="+", metavar="NAME", help=", ".join(BY_NAME))
    parser.add_argument(
        "--seconds",
        type=float,
        default=5.0,
        help="duration of each attack, and of the same time without it (default: 5)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
