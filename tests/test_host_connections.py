"""All processes of a host together never exceed the connection limit, even during a reload."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from kataven.dev.embedded.postgres import EmbeddedPostgres
from tests.support.app_harness import AppHarness, new_account
from tests.support.gunicorn import Gunicorn
from tests.support.servers import ask
from tests.support.waiting import wait_until

pytestmark = pytest.mark.processes

CAP, WORKERS, THREADS = 3, 3, 6
ACCOUNTS = tuple(f"host-{number}" for number in range(6))
SESSIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname LIKE 'host-%' AND backend_type = 'client backend'
"""


def test_the_connections_of_all_workers_never_exceed_the_limit(
    harness: AppHarness, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    keys = []
    for account in ACCOUNTS:
        new_account(harness.services, account)
        keys.append(harness.new_key(account))
        harness.services.registry.forget(account)
    slots = {"KATAVEN_HOST_CONNECTIONS": str(CAP), "KATAVEN_HOST_SLOTS_DIR": str(tmp_path / "slots")}
    with (
        Gunicorn({**harness.environ, **slots}, tmp_path / "log", workers=WORKERS) as server,
        watched(postgres) as seen,
    ):
        first = set(server.worker_pids())
        statuses = send_requests(server, keys, requests=60)
        server.process.send_signal(signal.SIGHUP)  # old and new workers overlap
        statuses += send_requests(server, keys, requests=60)
        wait_until(lambda: not first & set(server.worker_pids()), 60)
        statuses += send_requests(server, keys, requests=30)
    assert set(statuses) <= {200, 503}, statuses
    assert statuses[200] > statuses[503]
    assert 2 <= max(seen) <= CAP


def send_requests(server: Gunicorn, keys: list[str], requests: int) -> Counter[int]:
    """The statuses of requests for each account in turn, each over a new connection, so that all workers serve some."""

    def ask_for(thread: int) -> Counter[int]:
        statuses: Counter[int] = Counter()
        for turn in range(requests // THREADS):
            with server.client(keys[(thread + turn) % len(keys)]) as client:
                statuses[client.get("/v1/agents").status_code] += 1
        return statuses

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(ask_for, range(THREADS)), Counter())


@contextmanager
def watched(postgres: EmbeddedPostgres) -> Iterator[set[int]]:
    """The numbers of sessions on these accounts' databases, sampled continuously."""
    seen: set[int] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            seen.add(int(str(ask(postgres, SESSIONS)[0][0])))

    with ThreadPoolExecutor(1) as pool:
        watcher = pool.submit(watch)
        try:
            yield seen
        finally:
            over.set()
            watcher.result()
