"""Soak test: memory, descriptors and threads under full load, with revocations, new accounts and reloads.

    python -m bench.soak [--minutes 10]

Two workers, real PostgreSQL and Redis. After each quarter of the time the workers are replaced (SIGHUP). A generation
is measured ten seconds after its start and immediately before its end. Exit status 1 if a request failed, a revoked key
was accepted, or a generation, or the master during the whole run, grew by more than `GROWTH`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from sqlalchemy import create_engine, make_url, text

from bench.harness import shared_harness
from kataven.dev.personas import ALICE
from tests.support.app_harness import AppHarness, new_account
from tests.support.gunicorn import Gunicorn

GENERATIONS = 4
SETTLED_SECONDS = 10.0
GROWTH = 0.25
LIST_THREADS = 6


@dataclass(frozen=True)
class ResourceUse:
    """The resources that some processes use."""

    megabytes: float
    descriptors: int
    threads: int
    sessions: int = 0
    """PostgreSQL sessions. New accounts add sessions of two descriptors each, up to the host's limit."""

    @classmethod
    def at(cls, pids: set[int], sessions: int = 0) -> ResourceUse:
        megabytes, descriptors, threads = 0.0, 0, 0
        for pid in pids:
            status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            megabytes += int(status["VmRSS"].split()[0]) / 1024
            threads += int(status["Threads"])
            descriptors += len(os.listdir(f"/proc/{pid}/fd"))
        return cls(megabytes, descriptors, threads, sessions)

    def __str__(self) -> str:
        used = f"{self.megabytes:6.0f} MB {self.descriptors:5d} descriptors {self.threads:4d} threads"
        return f"{used} {self.sessions:4d} sessions" if self.sessions else used

    def has_grown(self, before: ResourceUse) -> bool:
        """Whether the growth exceeds what requests in progress and new connections explain."""
        connected = 2 * max(0, self.sessions - before.sessions)
        return (
            self.megabytes > before.megabytes * (1 + GROWTH)
            or self.descriptors > before.descriptors * (1 + GROWTH) + 20 + connected
            or self.threads > before.threads * (1 + GROWTH) + 4
        )


@dataclass
class Traffic:
    """The load, and the statuses of its responses."""

    harness: AppHarness
    server: Gunicorn
    statuses: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        tasks: list[Callable[[], None]] = [*[self._list_agents] * LIST_THREADS, self._revoke, self._add_accounts]
        self.threads = [threading.Thread(target=task) for task in tasks]
        for thread in self.threads:
            thread.start()

    def finish(self) -> None:
        """Stop the load. May be called repeatedly."""
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _list_agents(self) -> None:
        key = self.harness.new_key("acme")
        with self.server.client(key) as client:
            while not self.stop.is_set():
                self._count("list", lambda: client.get("/v1/agents"))

    def _revoke(self) -> None:
        while not self.stop.is_set():
            with self.server.client(self.harness.issuer.token(ALICE), "acme") as owner:
                created = owner.post("/v1/api-keys", json={"name": "soak", "expiry": "30d"})
                self.statuses[f"create {created.status_code}"] += 1
                if created.status_code != 201:
                    continue
                with self.server.client(created.json()["key"]) as client:
                    self._count("use", lambda c=client: c.get("/v1/me"))  # type: ignore[misc]
                    revoked = owner.patch(f"/v1/api-keys/{created.json()['id']}", json={"disabled": True})
                    self.statuses[f"revoke {revoked.status_code}"] += 1
                    self.accepted += revoked.status_code == 200 and client.get("/v1/me").status_code == 200

    def _add_accounts(self) -> None:
        number = 0
        while not self.stop.wait(5):
            new_account(self.harness.services, f"soak{(number := number + 1)}")
            with self.server.client(self.harness.new_key(f"soak{number}")) as client:
                self._count("cold", lambda c=client: c.get("/v1/agents"))  # type: ignore[misc]

    def _count(self, what: str, send: Callable[[], httpx2.Response]) -> None:
        try:
            self.statuses[f"{what} {send().status_code}"] += 1
        except httpx2.TransportError as error:
            self.statuses[f"{what} {type(error).__name__}"] += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    minutes = parser.parse_args().minutes
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kataven-bench-")))
        harness = stack.enter_context(shared_harness(folder))
        # Workers that restart after a number of requests would hide their growth.
        environ = {**harness.environ, "MAX_REQUESTS": "0"}
        server = stack.enter_context(Gunicorn(environ, folder / "log", workers=2))
        traffic = Traffic(harness, server)
        stack.callback(traffic.finish)
        traffic.start()
        passed, masters = True, []
        for generation in range(GENERATIONS):
            time.sleep(SETTLED_SECONDS)
            pids = _workers(server)
            before = ResourceUse.at(pids, _sessions(harness))
            masters.append(ResourceUse.at({server.process.pid}))
            time.sleep(max(0.0, minutes * 60 / GENERATIONS - SETTLED_SECONDS))
            after = ResourceUse.at(pids, _sessions(harness))
            passed = passed and not after.has_grown(before)
            print(f"generation {generation + 1}: {before}  →  {after}")
            if generation < GENERATIONS - 1:
                server.process.send_signal(signal.SIGHUP)
        traffic.finish()
        passed = passed and not ResourceUse.at({server.process.pid}).has_grown(masters[0])
        print(f"master:       {masters[0]}  →  {ResourceUse.at({server.process.pid})}")
        print(f"responses: {dict(sorted(traffic.statuses.items()))}; accepted after a receipt: {traffic.accepted}")
        expected = {"list 200", "create 201", "use 200", "revoke 200", "cold 200"}
        return 0 if passed and not traffic.accepted and set(traffic.statuses) <= expected else 1


def _workers(server: Gunicorn) -> set[int]:
    master = server.process.pid
    return {int(pid) for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split()}


def _sessions(harness: AppHarness) -> int:
    """The client sessions of PostgreSQL, including the benchmark's own."""
    engine = create_engine(make_url(harness.environ["KATAVEN_DATABASE_URL"]))
    with engine.connect() as connection:
        count = connection.scalar(text("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"))
    engine.dispose()
    return int(count or 0)


if __name__ == "__main__":
    sys.exit(main())
