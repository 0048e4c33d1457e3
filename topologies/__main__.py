"""Runs the product on the engines that people have, with a failure in each, and prints what held.

    python -m topologies                                  every row
    python -m topologies --only redis-killed              one row; the option can be repeated
    python -m topologies --list                           the names of the rows
    python -m topologies --json topologies/results.json   also write all figures; rows that do not run are kept
    python -m topologies --only redis-killed --without-rule evict    check that the row counts late accepts
    python -m topologies --write-docs                     generate docs/topologies.md from topologies/results.json

Exits with 1 if a revoked key was accepted after its receipt, if a revoked key is valid again at the end, if a response
was a 5xx other than 503, or if a row could not be run.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from pathlib import Path

from topologies.packages import MissingPrograms, require
from topologies.report import RESULTS, print_table, write_page, write_results
from topologies.rows import ROWS
from topologies.run_row import Outcome, Row, run_row
from topologies.without_rule import RULES

DEFAULT_SECONDS = 6.0


def main() -> int:
    arguments = _arguments()
    if arguments.list:
        print("\n".join(f"{row.name}" for row in ROWS))
        return 0
    if arguments.write_docs:
        write_page()
        return 0
    chosen = [row for row in ROWS if row.name in arguments.only] if arguments.only else ROWS
    try:
        require({name for row in chosen for name in row.programs})
    except MissingPrograms as missing:
        print(f"topologies: {missing}", file=sys.stderr)
        return 1
    # As in the product's workers, so that the thread that receives a receipt does not wait for other threads.
    sys.setswitchinterval(0.0005)
    outcomes, failed = _run(list(chosen), arguments)
    print_table(outcomes)
    for name, reason in failed.items():
        print(f"NOT RUN {name}: {reason}", file=sys.stderr)
    held = all(one.passed for one in outcomes)
    return 0 if chosen and not failed and held else 1


def _run(rows: list[Row], arguments: argparse.Namespace) -> tuple[list[Outcome], dict[str, str]]:
    outcomes, failed = [], {}
    for row in rows:
        started = time.monotonic()
        print(f"{row.name}: {row.topology}; {row.failure}", flush=True)
        try:
            outcome = _run_row(row, arguments)
        except Exception as error:
            traceback.print_exc()
            failed[row.name] = f"{type(error).__name__}: {error}"
            continue
        outcomes.append(outcome)
        took = time.monotonic() - started
        print(f"  {'held' if outcome.passed else 'DID NOT HOLD'}, {took:.0f} s; {outcome.events}", flush=True)
        print(f"  unexpected responses: {dict(outcome.traffic.unexpected) or 'none'}", flush=True)
        if outcome.two_hosts is not None:
            print(f"  two hosts: {outcome.two_hosts}", flush=True)
        if arguments.json:
            write_results(arguments.json, outcome, arguments.seconds)
    return outcomes, failed


def _run_row(row: Row, arguments: argparse.Namespace) -> Outcome:
    """Run a row. One that raises before it has figures, because an engine did not start in time, is run once more."""
    try:
        return run_row(row, arguments.seconds, keep=arguments.keep, without_rule=arguments.without_rule)
    except Exception:
        traceback.print_exc()
        print("  did not run; once more", flush=True)
    return run_row(row, arguments.seconds, keep=arguments.keep, without_rule=arguments.without_rule)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m topologies", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", choices=[row.name for row in ROWS], help="run this row only")
    parser.add_argument(
        "--seconds", type=float, default=DEFAULT_SECONDS, help="shortest time of load after the failure (default: 6)"
    )
    parser.add_argument("--json", type=Path, help=f"write the figures of each row into this file ({RESULTS})")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folders with the logs")
    parser.add_argument(
        "--without-rule", choices=RULES, help="disable a rule of the revocation protocol: the row must then fail"
    )
    parser.add_argument("--list", action="store_true", help="print the names of the rows")
    parser.add_argument("--write-docs", action="store_true", help="generate docs/topologies.md and exit")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
