"""What a request costs, as ratios in one run, with the floors that a noisy machine keeps.

    make bench                          or python -m bench.request [--rounds 12] [--seconds 1.0]

One gunicorn worker of four threads for each variant, on one core, the client on another; the variants take turns in
short slices. Misses and cold accounts are measured in this process, in turns as well. Exit status 1 below a floor.
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
from bench.request.client import Asker, requests_per_second
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
    """`name` in the table, `application` for gunicorn, `ours` with our configuration."""

    name: str
    application: str
    ours: bool = False


BARE = Variant("(a) bare Flask handler", "bench.request.handlers:bare()")
ORM = Variant("(b) Flask and the ORM's SELECT, defaults", "bench.request.handlers:orm()")
TUNED = Variant("(b) in AUTOCOMMIT", "bench.request.handlers:tuned()")
NAIVE = Variant("the naive assembly", "bench.request.handlers:naive()")
OURS = Variant("(c) our full request", "wsgi:api", ours=True)
VARIANTS = (BARE, ORM, TUNED, NAIVE, OURS)

FLOORS = ((OURS, ORM, 0.85), (OURS, TUNED, 0.70), (OURS, NAIVE, 1.6))

NETWORK_SECONDS = 0.0005
FLOORS_OVER_NETWORK = ((OURS, ORM, 1.0), (OURS, NAIVE, 1.6))


def main() -> int:
    options = _options()
    cores = sorted(os.sched_getaffinity(0))
    print(f"{len(cores)} cores, load average before: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="kataven-bench-") as name, shared_harness(Path(name)) as harness:
        folder = Path(name)
        key = _furnished(harness)
        os.sched_setaffinity(0, {cores[-1]})
        print("\nrequests a second, one worker on one core, the same 10 agents")
        with _serving(VARIANTS, harness.environ, key, folder, cores[0]) as urls:
            ok = _compare(urls, key, options, FLOORS)
        print(f"\nthe same with {NETWORK_SECONDS * 1000} ms of network to PostgreSQL and to Redis")
        far = (ORM, NAIVE, OURS)
        with _over_network(harness, folder) as environ, _serving(far, environ, key, folder, cores[0]) as urls:
            ok = _compare(urls, key, options, FLOORS_OVER_NETWORK) and ok
        os.sched_setaffinity(0, set(cores))
        _count_round_trips(harness, key, folder)
        ok = lookups.compare(harness, folder, options.rounds) and ok
    return 0 if ok else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each variant in each round")
    return parser.parse_args()


def _furnished(harness: AppHarness) -> str:
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
    """The environment with both servers further away."""
    database, redis_url = make_url(harness.environ["KATAVEN_DATABASE_URL"]), harness.environ["KATAVEN_REDIS_URL"]
    here = folder / "network"
    with (
        between(f"{database.query['host']}/{POSTGRES_SOCKET}", here / POSTGRES_SOCKET, NETWORK_SECONDS),
        between(urlsplit(redis_url).path, here / "redis", NETWORK_SECONDS),
    ):
        far = database.update_query_dict({"host": str(here)}).render_as_string(hide_password=False)
        yield {**harness.environ, "KATAVEN_DATABASE_URL": far, "KATAVEN_REDIS_URL": f"unix://{here / 'redis'}"}


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
    told = {"BENCH_DATABASE": acme, "BENCH_REDIS": environ["KATAVEN_REDIS_URL"], "BENCH_KEY": key}
    told |= {"PORT": str(port), "WORKERS": "1", "THREADS": "4", "MAX_REQUESTS": "0"}
    with (folder / f"{port}.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=CHECKOUT, env={**os.environ, **environ, **told}, stdout=log, stderr=log, start_new_session=True
        )
    os.sched_setaffinity(process.pid, {core})
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(url, key), 30, lambda: (folder / f"{port}.log").read_text()[-2000:])
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str, key: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        asker = Asker(url, PATH, key)
        with contextlib.closing(asker):
            return asker.ask() == 200
    return False


def _compare(
    urls: Mapping[Variant, str],
    key: str,
    options: argparse.Namespace,
    floors: Iterable[tuple[Variant, Variant, float]],
) -> bool:
    with contextlib.ExitStack() as stack:
        askers = {
            variant: [stack.enter_context(contextlib.closing(Asker(url, PATH, key))) for _ in range(CONNECTIONS)]
            for variant, url in urls.items()
        }
        for variant in urls:
            requests_per_second(askers[variant], 0.5)
        rates: dict[Variant, list[float]] = {variant: [] for variant in urls}
        for _ in range(options.rounds):
            for variant in urls:
                rates[variant].append(requests_per_second(askers[variant], options.seconds))
    for variant in urls:
        ratio = _ratio(rates, variant, ORM)
        print(f"  {variant.name:<44} {median(rates[variant]):7.0f}   {ratio:5.2f} of (b)")
    ok = True
    print("  our full request, next to")
    for ours, other, floor in floors:
        ratio = _ratio(rates, ours, other)
        ok = ok and ratio >= floor
        print(f"    {other.name:<42} {ratio:7.2f}   floor {floor:.2f}{'' if ratio >= floor else '   BELOW'}")
    return ok


def _ratio(rates: Mapping[Variant, list[float]], one: Variant, other: Variant) -> float:
    return median(a / b for a, b in zip(rates[one], rates[other], strict=True))


def _count_round_trips(harness: AppHarness, key: str, folder: Path) -> None:
    """By a proxy in front of PostgreSQL, and by what Redis says that it was asked."""
    print("\nround trips to PostgreSQL / commands to Redis, for each request")
    upstream = make_url(harness.environ["KATAVEN_DATABASE_URL"])
    for variant in VARIANTS:
        with CountingProxy(upstream) as proxy, redis.Redis.from_url(harness.environ["KATAVEN_REDIS_URL"]) as client:
            environ = {**harness.environ, "KATAVEN_DATABASE_URL": proxy.url.render_as_string(hide_password=False)}
            with _server(variant, environ, key, folder, min(os.sched_getaffinity(0))) as url:
                asker = Asker(url, PATH, key)
                for _ in range(WARM_UP):
                    asker.ask()
                before = proxy.round_trips
                with _watched(client) as commands:
                    for _ in range(COUNTED):
                        asker.ask()
                trips = (proxy.round_trips - before) / COUNTED
                asker.close()
        print(f"  {variant.name:<44} {trips:7.2f} / {len(commands) / COUNTED:.2f}")


@contextlib.contextmanager
def _watched(client: redis.Redis) -> Iterator[list[str]]:
    """What clients send until the block ends, by MONITOR; not what scripts call in turn."""
    seen: list[str] = []
    end = "the bench has counted enough"
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
