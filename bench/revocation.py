"""Revoked means revoked: revocations by the thousand while everything goes wrong, and how long they take.

    python -m bench.revocation                                     every world, 1,000 revocations in each
    python -m bench.revocation --world half-open --n 200           one of them
    python -m bench.revocation --world normal --lease-seconds 5    with another lease than its own

`bench/scenarios` says what the worlds are. Ends with 1 if a key was accepted once after its receipt, or if anything but
what was promised was answered.

PATCH is a revocation from its request to its answer, the barrier the part of it that the receipt tells. Clients and
workers share this machine's cores.
"""

from __future__ import annotations

import argparse
import sys
import time

from bench.scenarios import SCENARIOS, Scenario
from bench.scenarios.environment import Environment, open_environment
from bench.scenarios.scenario import run_scenario
from bench.scenarios.score import Score
from bench.scenarios.site import open_site

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def main() -> int:
    arguments = _arguments()
    chosen = SCENARIOS if arguments.scenario == "all" else (BY_NAME[arguments.scenario],)
    # As the product's workers do: the revoker's thread shouldn't wait for those that hammer.
    sys.setswitchinterval(0.0005)
    with open_environment() as environment:
        scores = [
            _run(environment, scenario, arguments.n, arguments.lease_seconds or scenario.lease_seconds)
            for scenario in chosen
        ]
    return 0 if all(score.passed for score in scores) else 1


def _run(environment: Environment, scenario: type[Scenario], rounds: int, lease_seconds: float) -> Score:
    print(
        f"\n{scenario.name}, lease {lease_seconds:g} s: {(scenario.__doc__ or '').strip().splitlines()[0]}", flush=True
    )
    started = time.monotonic()
    with open_site(
        environment, environment.folder / scenario.name, lease_seconds=lease_seconds, proxied=scenario.proxied
    ) as site:
        score = run_scenario(scenario(site, rounds))
    for line in [*score.lines(), f"{time.monotonic() - started:.0f} s in all"]:
        print(f"  {line}", flush=True)
    return score


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.revocation", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--n", type=int, default=1_000, help="how many revocations in each world; 1000")
    parser.add_argument("--scenario", choices=["all", *BY_NAME], default="all")
    parser.add_argument("--lease-seconds", type=float, help="the workers' lease; else the world's own, 0.2 or 1")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
