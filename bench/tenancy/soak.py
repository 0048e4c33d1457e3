"""200 threads in four workers send requests for 50 accounts, while engines are evicted, a database is dropped and
created again, and the workers are replaced. Every session checks its database's canary, and every row its owner.
"""

import json
import logging
import random
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import make_url, select, text

from bench.tenancy.world import ROWS, Agent, World, report_row
from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import TenantUnavailable
from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.tenancy.serving.pool_limits import PoolLimits
from kataven.tenancy.serving.registry import EngineRegistry
from kataven.tenancy.serving.slots import HostSlots
from kataven.tenancy.testing import account_of, assert_no_leaks, check_canary

WORKERS, THREADS, ACCOUNTS, CAP = 4, 50, 50, 24


def run(world: World, *, seconds: float) -> None:
    """Print the number of sessions, and whether rows crossed accounts, connections leaked, or the cap was exceeded."""
    tenants = world.accounts("soak", ACCOUNTS)
    with TemporaryDirectory(prefix="slots-") as slots:
        workers = [_Worker(tenants, slots) for _ in range(WORKERS)]
        over = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            watcher = pool.submit(_most_sessions, world, over)
            try:
                time.sleep(seconds / 3)
                world.drop(tenants[-1:])
                successors = [_Worker(tenants, slots) for _ in range(WORKERS)]  # a reload: old and new ones overlap
                done = [worker.stop() for worker in workers]
                time.sleep(seconds / 3)
                world.create(tenants[-1])
                time.sleep(seconds / 3)
                done += [worker.stop() for worker in successors]
            finally:
                over.set()
            most = watcher.result()
    totals = {key: sum(worker[key] for worker in done) for key in done[0]}
    report_row(f"sessions of {WORKERS * THREADS} threads in {WORKERS} + {WORKERS} workers", str(totals["sessions"]))
    report_row("rejected: of the dropped account / of the others", f"{totals['refused_dropped']} / {totals['refused']}")
    report_row("evictions and displaced connections during the run", str(totals["evictions"]))
    report_row("rows of another account, or leaked connections, in any worker", str(totals["wrong"]), "0")
    report_row("maximum number of sessions on the server", str(most), f"at most {CAP}")
    world.drop(tenants)


class _Worker:
    """A process with threads, like a gunicorn worker."""

    def __init__(self, tenants: Sequence[Tenant], slots: str) -> None:
        command = [sys.executable, "-m", "bench.tenancy.soak", slots]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        urls = [tenant.url.render_as_string(hide_password=False) for tenant in tenants]
        self._send(json.dumps(urls))

    def stop(self) -> dict[str, int]:
        """Wait for the requests in progress. Returns the worker's counts."""
        self._send("stop")
        output, _ = self._process.communicate()
        if self._process.returncode:
            raise AssertionError("a worker failed")
        counts: dict[str, int] = json.loads(output)
        return counts

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()


def _most_sessions(world: World, over: threading.Event) -> int:
    query, most = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'soak'"), 0
    with world.server.connect("postgres") as connection:
        while not over.is_set():
            most = max(most, connection.execute(query).scalar_one())
    return most


def _work(slots: str) -> dict[str, int]:
    logging.basicConfig(level=logging.ERROR)
    urls = [make_url(url) for url in json.loads(sys.stdin.readline())]
    tenants = [Tenant(str(url.database), url) for url in urls]
    share = PoolLimits(engines=ACCOUNTS // 3, connections=CAP // WORKERS, wait=30)
    slots_of_host = HostSlots(Path(slots), CAP)
    options = {"expire_on_commit": False}
    registry = EngineRegistry(share, ConnectionSettings("soak"), host_slots=slots_of_host, session_options=options)
    registry.start()
    over = threading.Event()
    with ThreadPoolExecutor(THREADS) as pool:
        threads = [pool.submit(_requests, registry, tenants, over, number) for number in range(THREADS)]
        sys.stdin.readline()
        over.set()
        counts = [thread.result() for thread in threads]
    registry.stop()
    assert_no_leaks(registry)
    metrics = registry.metrics()
    registry.close()
    totals = {key: sum(count[key] for count in counts) for key in counts[0]}
    return totals | {"evictions": metrics.evictions + metrics.displaced_connections}


def _requests(registry: EngineRegistry, tenants: Sequence[Tenant], over: threading.Event, seed: int) -> dict[str, int]:
    counts = {"sessions": 0, "refused": 0, "refused_dropped": 0, "wrong": 0}
    generator = random.Random(seed)  # noqa: S311 - the same sequence each time
    while not over.is_set():
        tenant = generator.choice(tenants)
        session_of = registry.reading if generator.random() < 0.8 else registry.writing
        try:
            with session_of(tenant) as session:
                check_canary(session)
                agents = session.scalars(select(Agent)).all()
        except TenantUnavailable:
            counts["refused_dropped" if tenant is tenants[-1] else "refused"] += 1
            continue
        owners = {agent.name.split()[0] for agent in agents} | {account_of(agent) for agent in agents}
        counts["wrong"] += owners != {tenant.account} or len(agents) != ROWS
        counts["sessions"] += 1
    return counts


if __name__ == "__main__":
    print(json.dumps(_work(sys.argv[1])))
