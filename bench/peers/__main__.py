"""Our request beside the same request of other systems, by CPU time. Not part of `make bench`, and nothing fails on it.

    python -m bench.peers --install      install the other systems into bench/peers, from its lock files
    python -m bench.peers [--rounds 40] [--seconds 0.25] [--only orm kataven]

Each system is one worker on one core; the client is on another, with keep-alive connections. The systems run in turn,
in slices of a quarter of a second, after a warm-up. Requests per CPU second are the requests of a slice divided by the
CPU time, in user and kernel mode, of the system's processes. The work that a system does without requests, in timers
and background threads, is measured while all are idle, and takes its share of the second instead. PostgreSQL and Redis,
which all systems share, are not counted. Other work on the machine changes the latency much and the ratios little.

The first table lists 10 agents. The second table only verifies a key. `--only` names systems.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import redis

from bench.harness import shared_harness
from bench.peers import installation
from bench.peers.installation import NODE, PYTHON, NotInstalled
from bench.peers.measuring import Series, Slice, Target, alternate, idle_shares
from bench.peers.servers import Server, Site, open_site
from bench.peers.systems import LIST, ME, ORM, OURS, SYSTEMS, System
from bench.peers.table import omissions, table
from bench.request.client import Connection

CONNECTIONS = 4
WARM_UP_SECONDS = 3.0
IDLE_SECONDS = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    try:
        if options.install:
            installation.install()
            return 0
        installation.check({each.language for each in options.systems if each.language})
    except NotInstalled as error:
        print(error, file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"{error.cmd[0]} failed with exit status {error.returncode}", file=sys.stderr)
        return 2
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("this needs two cores: one for the systems, and one for the client", file=sys.stderr)
        return 2
    _run(options, cores)
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    by_id = {system.id: system for system in SYSTEMS}
    parser.add_argument("--install", action="store_true", help="install the other systems, and measure nothing")
    parser.add_argument("--rounds", type=_count, default=40, help="slices of each system (default: 40)")
    parser.add_argument("--seconds", type=_duration, default=0.25, help="the duration of a slice (default: 0.25)")
    parser.add_argument(
        "--only", nargs="+", choices=by_id, default=list(by_id), metavar="SYSTEM", help=", ".join(by_id)
    )
    options = parser.parse_args(arguments)
    options.systems = [by_id[each] for each in dict.fromkeys(options.only)]
    return options


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of rounds: must be 1 or more")
    return int(text)


def _duration(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a duration in seconds: must be above 0")
    return seconds


def _run(options: argparse.Namespace, cores: Sequence[int]) -> None:
    load = os.getloadavg()[0]
    systems: list[System] = options.systems
    with tempfile.TemporaryDirectory(prefix="kataven-bench-") as name, shared_harness(Path(name)) as harness:
        site = open_site(harness, Path(name), cores[0])
        os.sched_setaffinity(0, {cores[-1]})
        with contextlib.ExitStack() as stack:
            servers = [stack.enter_context(site.running(system)) for system in systems]
            listed = {server.system.name: (server, LIST) for server in servers}
            lists = _measure(site, listed, options)
            verified = {
                _row(server.system, path): (server, path)
                for server in servers
                for path in server.system.paths
                if path != LIST
            }
            idle = idle_shares({server.system.id: server.pids for server in servers}, IDLE_SECONDS)
            verifications = _measure(site, verified, options)
    print(_conditions(systems, options, load))
    print("\nList 10 agents of the caller's account\n")
    print(table(_series(lists, listed, idle), ORM.name))
    print("\nVerify a key\n")
    print(table(_series(verifications, verified, idle), _row(OURS, ME)))
    print()
    print(omissions([(system.name, system.leaves_out) for system in systems]))


def _row(system: System, path: str) -> str:
    return f"{system.name}, `{path}`" if system is OURS else system.name


def _series(
    slices: Mapping[str, Sequence[Slice]], rows: Mapping[str, tuple[Server, str]], idle: Mapping[str, float]
) -> dict[str, Series]:
    return {name: Series(each, idle[rows[name][0].system.id]) for name, each in slices.items()}


def _measure(site: Site, rows: Mapping[str, tuple[Server, str]], options: argparse.Namespace) -> dict[str, list[Slice]]:
    with contextlib.ExitStack() as stack:
        targets = {}
        for name, (server, path) in rows.items():
            connections = [
                stack.enter_context(contextlib.closing(Connection(server.url, path, server.key)))
                for _ in range(CONNECTIONS)
            ]
            for connection in connections:
                connection.request()  # a server can close a connection that stays silent
            targets[name] = Target(connections, server.pids)
            if server.system.keeps_history:
                client = stack.enter_context(redis.Redis.from_url(site.redis_url(server.system.redis_database)))
                targets[name] = Target(connections, server.pids, client.flushdb)
        return alternate(targets, options.rounds, options.seconds, WARM_UP_SECONDS)


def _conditions(systems: Sequence[System], options: argparse.Namespace, load: float) -> str:
    versions = {"python": platform.python_version()}
    versions |= {
        name: version(name) for name in ("flask", "flask-limiter", "sqlalchemy", "psycopg2-binary", "gunicorn")
    }
    measured = f"{options.rounds} slices of {options.seconds} s for each row, {CONNECTIONS} connections"
    loads = f"load average {load:.1f} before and {os.getloadavg()[0]:.1f} after"
    lines = [f"{datetime.now(UTC):%d %B %Y}, {loads}; {measured}", "versions: " + _listed(versions)]
    for language in (PYTHON, NODE):
        if any(system.language == language for system in systems):
            lines.append(f"versions of the other systems, {language}: " + _listed(_versions(language)))
    return "\n".join(lines)


def _versions(language: str) -> dict[str, str]:
    found = installation.versions(language)
    if language == NODE:
        printed = subprocess.run([installation.node(), "--version"], capture_output=True, text=True, check=True)
        return {"node": printed.stdout.strip().removeprefix("v"), **found}
    return found


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())


if __name__ == "__main__":
    sys.exit(main())
