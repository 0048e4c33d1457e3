"""The cost of a request, as ratios within one run, with floors that hold on a busy machine.

    make bench                          or python -m bench.request [--rounds 12] [--seconds 1.0]

Each variant is one gunicorn worker of four threads on one core, with the client on another. The variants alternate in
short slices. Cache misses and cold accounts are measured in this process, also alternating. Exit status 1 if a ratio is
below its floor.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import redis
from sqlalchemy import make_url

from bench.harness import shared_harness
from bench.request import lookups
from bench.request.client import Connection, requests_per_second
from bench.request.handlers import PATH
from bench.request.network import between
from tests.support.app_harness import AppHarness
from tests.support.gunicorn import CHECKOUT, free_port
from tests.support.waiting import wait_until
from tests.tenancy.proxy import CountingProxy

AGENTS = 10
CONNECTIONS = 4
WARM_UP = 200
COUNTED = 300
POSTGRES_SOCKET = ".s.PGSQL.5432"


@dataclass(frozen=True)
class Variant:
    """One row of the table: gunicorn serves `application`, with the product's configuration if `ours`."""

    name: str
    application: str
    ours: bool = False


BARE = Variant("(a) bare Flask handler", "bench.request.handlers:bare()")
ORM = Variant("(b) Flask and the ORM's SELECT, defaults", "bench.request.handlers:orm()")
TUNED = Variant("(b) in AUTOCOMMIT", "bench.request.handlers:tuned()")
NAIVE = Variant("the naive assembly", "bench.request.handlers:naive()")
OURS = Variant("(c) our full request", "wsgi:api", ours=True)
VARIANTS = (BARE, ORM, TUNED, NAIVE, OURS)

FLOORS = ((OURS, ORM, 1.25), (OURS, TUNED, 1.0), (OURS, NAIVE, 2.0))

NETWORK_SECONDS = 0.0005
FLOORS_OVER_NETWORK = ((OURS, ORM, 1.0), (OURS, NAIVE, 1.6))


def main() -> int:
    options = _options()
    cores = sorted(os.sched_getaffinity(0))
    print(f"{len(cores)} cores, load average before: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="kataven-bench-") as name, shared_harness(Path(name)) as harness:
        folder = Path(name)
        key = _create_agents(harness)
        os.sched_setaffinity(0, {cores[-1]})
        print("\nrequests per second, one worker on one core, the same 10 agents")
        with _serving(VARIANTS, harness.environ, key, folder, cores[0]) as urls:
            passed = _compare(urls, key, options, FLOORS)
        print(f"\nthe same, with {NETWORK_SECONDS * 1000} ms of network latency to PostgreSQL and Redis")
        distant = (ORM, NAIVE, OURS)
        with _over_network(harness, folder) as environ, _serving(distant, environ, key, folder, cores[0]) as urls:
            passed = _compare(urls, key, options, FLOORS_OVER_NETWORK) and passed
        os.sched_setaffinity(0, set(cores))
        _count_round_trips(harness, key, folder)
        passed = lookups.compare(harness, folder, options.rounds) and passed
    return 0 if passed else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=1.0, help="the duration of each variant in each round")
    return parser.parse_args()


def _create_agents(harness: AppHarness) -> str:
    key = harness.new_key("acme")
    for number in range(AGENTS):
        agent = {"name": f"Agent {number}", "system_prompt": "x" * 40, "greeting_message": "Good day."}
        assert harness.bearer(key).post("/v1/agents", agent).status_code == 201
    return key


@contextlib.contextmanager
def _serving(
    variants: Iterable[Variant], environ: Mapping[str, str], key: str, folder: Path, core: int
) -> Iterator[dict[Variant, str]]:
    with contextlib.ExitStack() as stack:
        yield {variant: stack.enter_context(_server(variant, environ, key, folder, core)) for variant in variants}


@contextlib.contextmanager
def _over_network(harness: AppHarness, folder: Path) -> Iterator[Mapping[str, str]]:
    """The environment, with network latency to both servers."""
    database, redis_url = make_url(harness.environ["KATAVEN_DATABASE_URL"]), harness.environ["KATAVEN_REDIS_URL"]
    sockets = folder / "network"
    with (
        between(f"{database.query['host']}/{POSTGRES_SOCKET}", sockets / POSTGRES_SOCKET, NETWORK_SECONDS),
        between(urlsplit(redis_url).path, sockets / "redis", NETWORK_SECONDS),
    ):
        distant = database.update_query_dict({"host": str(sockets)}).render_as_string(hide_password=False)
        yield {**harness.environ, "KATAVEN_DATABASE_URL": distant, "KATAVEN_REDIS_URL": f"unix://{sockets / 'redis'}"}


@contextlib.contextmanager
def _server(variant: Variant, environ: Mapping[str, str], key: str, folder: Path, core: int) -> Iterator[str]:
    """One worker of four threads on `core`; yields its URL."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", variant.application]
    if variant.ours:
        command += ["-c", "gunicorn.conf.py"]
    else:
        command += ["-k", "gthread", "--threads", "4", "--workers", "1", "--keep-alive", "75", "-c", "/dev/null"]
        command += ["--bind", f"127.0.0.1:{port}"]
    acme = make_url(environ["KATAVEN_DATABASE_URL"]).set(database="acme").render_as_string(hide_password=False)
    variables = {"BENCH_DATABASE": acme, "BENCH_REDIS": environ["KATAVEN_REDIS_URL"], "BENCH_KEY": key}
    variables |= {"PORT": str(port), "WORKERS": "1", "THREADS": "4", "MAX_REQUESTS": "0"}
    with (folder / f"{port}.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env={**os.environ, **environ, **variables},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    os.sched_setaffinity(process.pid, {core})
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _responds(url, key), 30, lambda: (folder / f"{port}.log").read_text()[-2000:])
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _responds(url: str, key: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        connection = Connection(url, PATH, key)
        with contextlib.closing(connection):
            return connection.request() == 200
    return False


def _compare(
    urls: Mapping[Variant, str],
    key: str,
    options: argparse.Namespace,
    floors: Iterable[tuple[Variant, Variant, float]],
) -> bool:
    with contextlib.ExitStack() as stack:
        connections = {
            variant: [stack.enter_context(contextlib.closing(Connection(url, PATH, key))) for _ in range(CONNECTIONS)]
            for variant, url in urls.items()
        }
        for variant in urls:
            requests_per_second(connections[variant], 0.5)
        rates: dict[Variant, list[float]] = {variant: [] for variant in urls}
        for _ in range(options.rounds):
            for variant in urls:
                rates[variant].append(requests_per_second(connections[variant], options.seconds))
    for variant in urls:
        ratio = _ratio(rates, variant, ORM)
        print(f"  {variant.name:<44} {median(rates[variant]):7.0f}   {ratio:5.2f} of (b)")
    passed = True
    print("  our full request, compared with")
    for ours, other, floor in floors:
        ratio = _ratio(rates, ours, other)
        passed = passed and ratio >= floor
        print(f"    {other.name:<42} {ratio:7.2f}   floor {floor:.2f}{'' if ratio >= floor else '   BELOW'}")
    return passed


def _ratio(rates: Mapping[Variant, list[float]], one: Variant, other: Variant) -> float:
    return median(a / b for a, b in zip(rates[one], rates[other], strict=True))


def _count_round_trips(harness: AppHarness, key: str, folder: Path) -> None:
    """Counted by a proxy in front of PostgreSQL, and by Redis's MONITOR."""
    print("\nround trips to PostgreSQL / commands to Redis, per request")
    upstream = make_url(harness.environ["KATAVEN_DATABASE_URL"])
    for variant in VARIANTS:
        # On a busy machine, MONITOR can be silent for longer than the client's default timeout of 5 s.
        client = redis.Redis.from_url(harness.environ["KATAVEN_REDIS_URL"], socket_timeout=60)
        with CountingProxy(upstream) as proxy, client:
            environ = {**harness.environ, "KATAVEN_DATABASE_URL": proxy.url.render_as_string(hide_password=False)}
            with _server(variant, environ, key, folder, min(os.sched_getaffinity(0))) as url:
                connection = Connection(url, PATH, key)
                for _ in range(WARM_UP):
                    connection.request()
                before = proxy.round_trips
                with _monitored(client) as commands:
                    for _ in range(COUNTED):
                        connection.request()
                trips = (proxy.round_trips - before) / COUNTED
                connection.close()
        print(f"  {variant.name:<44} {trips:7.2f} / {len(commands) / COUNTED:.2f}")


@contextlib.contextmanager
def _monitored(client: redis.Redis) -> Iterator[list[str]]:
    """The commands that clients send until the block ends, from MONITOR, without those that scripts call."""
    seen: list[str] = []
    end = "end of the count"
    with client.monitor() as monitor:  # type: ignore[no-untyped-call]

        def listen() -> None:
            for command in monitor.listen():
                if end in command["command"]:
                    return
                if command["client_type"] != "lua":
                    seen.append(command["command"])

        listener = threading.Thread(target=listen)
        listener.start()
        yield seen
        client.echo(end)
        listener.join()


if __name__ == "__main__":
    sys.exit(main())
