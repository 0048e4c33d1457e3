"""Checks the revocation guarantee in every fault scenario, and measures how long revocations take.

    python -m bench.revocation                                        every scenario, 1,000 revocations each
    python -m bench.revocation --scenario half-open --n 200           one scenario
    python -m bench.revocation --scenario normal --lease-seconds 5    another lease length than the scenario's

`bench/scenarios` describes the scenarios. Exits with 1 if a key was accepted after its receipt, or if any response was
unexpected.

PATCH is the duration of a revocation from request to response; barrier is the part that the receipt reports. Clients
and workers share the cores of this machine.
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
    # As in the product's workers, so that the receiving thread does not wait for the threads of the load.
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
    for line in [*score.lines(), f"{time.monotonic() - started:.0f} s in total"]:
        print(f"  {line}", flush=True)
    return score


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.revocation", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--n", type=int, default=1_000, help="number of revocations per scenario (default: 1000)")
    parser.add_argument("--scenario", choices=["all", *BY_NAME], default="all", help="which scenario to run")
    parser.add_argument("--lease-seconds", type=float, help="lease length (default: that of the scenario, 0.2 or 1)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
