"""What strangers can do to a good key: its latency and the revocation receipts during each attack, next to without.

    python -m bench.strangers [--only NAME …] [--seconds 5]

The product as `make run` starts it (two workers of eight threads, API and Hub), real PostgreSQL and Redis, everything
over loopback. Each attack has a process of its own, and every slice of it has a quiet slice beside it, so that a busy
machine is busy for both. Linux only: strangers come from addresses of their own in 127.0.0.0/8. Exit status 1 if a
ceiling is exceeded, and in any case for a good client that is not served, for a key that is let in after its receipt,
and for a 500.
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

from bench.harness import shared_harness
from bench.strangers.attacks import ATTACKS, Attack
from bench.strangers.campaign import Campaign
from bench.strangers.site import Site, opened_site
from bench.strangers.verdict import Row, failures, header, line
from kataven.dev.terminal import STOP_SIGNALS, StopRequested, ignore_stop_signals, stop_on_signals

BY_NAME = {attack.name: attack for attack in ATTACKS}


def main() -> int:
    options = _options()
    chosen = [BY_NAME[name] for name in options.only or BY_NAME]
    stop_on_signals()
    try:
        with ExitStack() as stack:
            stack.callback(ignore_stop_signals)  # what was opened is closed in peace
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kataven-bench-")))
            harness = stack.enter_context(shared_harness(folder))
            site = stack.enter_context(opened_site(harness, folder))
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
    kept = sum(not reasons for reasons in wrong.values())
    print(f"{kept} of {len(rows)} attacks keep their floors")
    return 0 if kept == len(rows) else 1


def _cancel_on_signals() -> None:
    """A stop signal cancels this task: an exception that a handler raised would end up in any of the tasks."""
    task = asyncio.current_task()
    assert task is not None
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, lambda: task.cancelling() or task.cancel())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.strangers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=[*BY_NAME], nargs="+", metavar="NAME", help=", ".join(BY_NAME))
    parser.add_argument("--seconds", type=float, default=5.0, help="of each attack, and as many without it; 5")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
