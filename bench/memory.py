"""Memory of the workers of the API and the Hub, and of the auth-service, after 1,000 requests for 10 accounts.

    python -m bench.memory [--most 60] [--only api hub auth-service]

Two gunicorn workers of 8 threads, as `make run` starts them, with real PostgreSQL and Redis. *Private* is the memory
that a process shares with no other process (`Private_Clean` and `Private_Dirty` of /proc/<pid>/smaps_rollup), and *PSS*
divides shared pages among the processes that share them. Exit status 1 if the private memory of a worker is above
`--most` megabytes. Requires Linux.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx2

import app as factory
from bench.harness import shared_harness
from kataven import settings
from kataven.dev.personas import ALICE
from kataven.web.services import EXTENSION
from tests.hub.conftest import HUB_URL
from tests.hub.hub_browser import HubBrowser
from tests.support.app_harness import ACCOUNTS, AppHarness, new_account
from tests.support.auth_service import Service, remote_environ, serves
from tests.support.gunicorn import Gunicorn, free_port
from tests.support.waiting import wait_until

ALL_ACCOUNTS = 10
REQUESTS = 1_000
CLIENTS = 10
"""Each with its own address, because addresses have a budget for pages."""
KEYS_PER_ACCOUNT = 20
"""For the auth-service, which verifies each key once per worker and 30 s."""
API_PATHS = ("/v1/agents", "/v1/me", "/v1/api-keys", "/v1/agents?limit=5")
HUB_PATHS = ("/", "/settings/api-keys", "/agents", "/requests", "/widget", "/settings/widget-keys", "/people")


@dataclass(frozen=True)
class Memory:
    """The memory of a process, in megabytes."""

    private: float
    pss: float
    total: float

    @classmethod
    def of(cls, pid: int) -> Self:
        kilobytes: dict[str, int] = {}
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, _, value = line.partition(":")
            kilobytes[name] = int(value.split()[0])
        private = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
        return cls(private / 1024, kilobytes["Pss"] / 1024, kilobytes["Rss"] / 1024)


@dataclass
class Report:
    """Prints the rows of the table, and keeps the largest private memory of a worker."""

    largest: float = 0.0
    names: Iterator[int] = field(default_factory=itertools.count)

    def add(self, process: str, when: str, pids: Sequence[int], *, bounded: bool = True) -> None:
        for pid in pids:
            found = Memory.of(pid)
            print(f"| {process} | {when} | {found.private:.1f} | {found.pss:.1f} | {found.total:.1f} |", flush=True)
            if bounded:
                self.largest = max(self.largest, found.private)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=float, default=60.0)
    parser.add_argument("--only", nargs="+", choices=MEASURED, default=list(MEASURED))
    options = parser.parse_args()
    report = Report()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kataven-bench-")))
        harness = stack.enter_context(shared_harness(folder))
        accounts = [*ACCOUNTS, *(f"memory{number}" for number in range(ALL_ACCOUNTS - len(ACCOUNTS)))]
        for account in accounts[len(ACCOUNTS) :]:
            new_account(harness.services, account)
        keys = [harness.new_key(account) for _ in range(KEYS_PER_ACCOUNT) for account in accounts]
        print("| process | when | private, MB | PSS, MB | total, MB |\n| --- | --- | --- | --- | --- |")
        for name in options.only:
            MEASURED[name](report, harness, folder, keys)
    print(f"The largest worker has {report.largest:.1f} MB of private memory; {options.most:.0f} MB are allowed.")
    return 0 if report.largest <= options.most else 1


def _measure_api(report: Report, harness: AppHarness, folder: Path, keys: Sequence[str]) -> None:
    with Gunicorn(_served(harness.environ), folder / "api.log") as server:
        report.add("API worker", "start", _workers(server))
        _send(server, [{"Authorization": f"Bearer {key}"} for key in keys[:ALL_ACCOUNTS]], API_PATHS)
        report.add("API worker", f"{REQUESTS:,} requests", server.worker_pids())
        report.add("API master", f"{REQUESTS:,} requests", [server.process.pid], bounded=False)


def _measure_hub(report: Report, harness: AppHarness, folder: Path, keys: Sequence[str]) -> None:
    environ = {**_served(harness.environ), "KATAVEN_HUB_URL": HUB_URL}
    # Signs in at an app in this process: sessions are in Redis, so the workers have them as well.
    signed_in_at = factory.create_hub(settings.load(environ))
    browsers = [HubBrowser(signed_in_at, HUB_URL).sign_in(ALICE) for _ in range(ALL_ACCOUNTS)]
    headers = [{"Cookie": _cookies(browser), "Host": HUB_URL.partition("//")[2]} for browser in browsers]
    with Gunicorn(environ, folder / "hub.log", application="wsgi:hub") as server:
        report.add("Hub worker", "start", _workers(server))
        _send(server, headers, HUB_PATHS)
        report.add("Hub worker", f"{REQUESTS:,} requests", server.worker_pids())
        report.add("Hub master", f"{REQUESTS:,} requests", [server.process.pid], bounded=False)
    signed_in_at.extensions[EXTENSION].stop()


def _measure_auth_service(report: Report, harness: AppHarness, folder: Path, keys: Sequence[str]) -> None:
    address = f"127.0.0.1:{free_port()}"
    environ = remote_environ(_served(harness.environ), address)
    with Service(harness.environ, folder / "auth.log", address) as service:
        wait_until(lambda: serves(address), 60, lambda: (folder / "auth.log").read_text()[-2000:])
        report.add("auth-service", "start", [service.process.pid], bounded=False)
        with Gunicorn(environ, folder / "remote.log") as server:
            _send(server, [{"Authorization": f"Bearer {key}"} for key in keys], API_PATHS)
            report.add("auth-service", f"{REQUESTS:,} requests", [service.process.pid], bounded=False)
            report.add("API worker with an auth-service", f"{REQUESTS:,} requests", server.worker_pids())


MEASURED = {"api": _measure_api, "hub": _measure_hub, "auth-service": _measure_auth_service}


def _workers(server: Gunicorn) -> list[int]:
    wait_until(lambda: len(server.worker_pids()) == server.workers, 30)
    return server.worker_pids()


def _served(environ: Mapping[str, str]) -> dict[str, str]:
    return {**environ, "MAX_REQUESTS": "0", "THREADS": "8"}


def _cookies(browser: HubBrowser) -> str:
    cookies = browser.client._cookies.values()
    return "; ".join(f"{cookie.key}={cookie.value}" for cookie in cookies)


def _send(server: Gunicorn, callers: Sequence[Mapping[str, str]], paths: Sequence[str]) -> None:
    """Send the requests over keep-alive connections. Raises RuntimeError if one is not accepted."""
    statuses: list[tuple[str, int]] = []

    def client(first: int) -> None:
        transport = httpx2.HTTPTransport(local_address=f"127.0.1.{first + 1}", trust_env=False)
        with httpx2.Client(base_url=server.url, timeout=60, transport=transport) as http:
            for number in range(first, REQUESTS, CLIENTS):
                path = paths[(number // len(callers)) % len(paths)]
                statuses.append((path, http.get(path, headers=callers[number % len(callers)]).status_code))

    threads = [threading.Thread(target=client, args=(first,)) for first in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = sorted({found for found in statuses if found[1] != 200})
    if refused or len(statuses) != REQUESTS:
        raise RuntimeError(f"{len(statuses)} responses; not accepted: {refused}")


if __name__ == "__main__":
    sys.exit(main())
