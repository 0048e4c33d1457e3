"""The product on two hosts: two gunicorn masters with two workers each, on one PostgreSQL and one Redis.

The second host connects through proxies if the scenario requires that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import make_url

from bench.scenarios.connection import Connection, Response, request
from bench.scenarios.environment import Environment, open_foundation
from bench.scenarios.persistent_redis import PersistentRedis
from kataven.assembly import Foundation
from tests.support.gunicorn import Gunicorn
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

WORKERS_PER_HOST = 2
THREADS_PER_WORKER = 2
CONNECTIONS_PER_WORKER = THREADS_PER_WORKER + 2 + THREADS_PER_WORKER
MAX_CONNECTIONS = 2_000
HEALTHY_SECONDS = 30.0
HOURS = 24 * 3600
"""In seconds: an idle connection is not closed."""
PG_SOCKET = ".s.PGSQL.5432"
_HEALTH = request("GET", "/healthz", {})
_READINESS = request("GET", "/readyz", {})


@dataclass
class Worker:
    """One worker process, and connections that it has accepted."""

    id: str
    """Its id in responses and on the list of workers."""
    pid: int
    host: int
    clients: Sequence[Connection] = field(repr=False)
    """For the load."""
    revoker: Connection = field(repr=False)
    watcher: Connection = field(repr=False)
    late: Sequence[Connection] = field(repr=False)
    """For requests while it is paused."""

    def readiness(self) -> Response:
        return self.watcher.exchange(_READINESS)

    def is_healthy(self) -> bool:
        """Whether it reaches Redis and holds a lease, so that it uses its cache."""
        checks = self.readiness().json()["checks"]
        return bool(checks["redis"] == checks["lease"] == "ok")


@dataclass
class Site:
    """See `open_site`."""

    environment: Environment
    redis: PersistentRedis
    parts: Foundation
    hosts: Sequence[Gunicorn]
    redis_proxy: Proxy
    database_proxy: Proxy
    receipts: Path
    workers: list[Worker]
    owner_headers: dict[str, str] = field(repr=False)

    def on_host(self, host: int) -> list[Worker]:
        return [worker for worker in self.workers if worker.host == host]

    def wait_until_healthy(self) -> None:
        """Return when every worker is healthy. Raises TimeoutError."""
        wait_until(lambda: all(worker.is_healthy() for worker in self.workers), HEALTHY_SECONDS, self._why_not)

    def _why_not(self) -> str:
        return "; ".join(f"worker {worker.id}: {worker.readiness().json()['checks']}" for worker in self.workers)

    def evictions_ms(self) -> list[float]:
        """The time from publication to last eviction, for each revocation that every worker acknowledged."""
        return [float(line) for line in self.receipts.read_text().split()] if self.receipts.exists() else []


@contextmanager
def open_site(
    environment: Environment,
    folder: Path,
    *,
    lease_seconds: float,
    proxied: bool,
    application: str = "bench.scenarios.recorded_receipts:api",
) -> Iterator[Site]:
    """A site in a new `folder`. With `proxied`, the second host connects through the proxies."""
    with ExitStack() as stack:
        folder.mkdir()
        redis = stack.enter_context(PersistentRedis(folder / "redis"))
        redis_proxy = stack.enter_context(Proxy(redis.socket))
        database_proxy = stack.enter_context(
            Proxy(Path(str(make_url(environment.database_url).query["host"])) / PG_SOCKET)
        )
        far_redis = f"redis://127.0.0.1:{redis_proxy.port}/0" if proxied else redis.url
        far_database = _through(environment.database_url, database_proxy) if proxied else environment.database_url
        near = environment.process_settings(redis.url, environment.database_url, lease_seconds)
        far = environment.process_settings(far_redis, far_database, lease_seconds)
        observed = {"OBSERVED_RECEIPTS": str(folder / "receipts"), "GUNICORN_CMD_ARGS": f"--keep-alive={HOURS}"}
        hosts = [
            stack.enter_context(
                Gunicorn({**environ, **observed}, folder / f"host{number}.log", WORKERS_PER_HOST, application)
            )
            for number, environ in enumerate((near, far))
        ]
        parts = stack.enter_context(open_foundation(environment.foundation(redis.url, lease_seconds)))
        site = Site(
            environment,
            redis,
            parts,
            hosts,
            redis_proxy,
            database_proxy,
            folder / "receipts",
            [],
            environment.owner_headers(),
        )
        for number, host in enumerate(hosts):
            site.workers.extend(_connect_to_workers(site, number, host, stack))
        _warm_up_workers(site)
        site.wait_until_healthy()
        yield site


def _warm_up_workers(site: Site) -> None:
    """Make each worker fetch the issuer's keys and open its connections, as its first request does."""
    rename = request("PATCH", f"/v1/api-keys/{site.environment.next_key().id}", site.owner_headers, {"name": "warm-up"})
    for worker in site.workers:
        answer = worker.revoker.exchange(rename)
        if answer.status != 200:
            raise RuntimeError(f"the warm-up request returned {answer.status}: {answer.body.decode()}")


def _through(database_url: str, proxy: Proxy) -> str:
    far = make_url(database_url).set(host="127.0.0.1", port=proxy.port, query={"sslmode": "disable"})
    return far.render_as_string(hide_password=False)


def _pids(site: Site, workers: Sequence[str]) -> dict[str, int]:
    """The process id of each worker, after all are on the list of workers."""

    def listed() -> dict[str, int]:
        return {member.id: member.pid for member in site.parts.revocation.workers()}

    wait_until(lambda: listed().keys() >= {*workers}, HEALTHY_SECONDS)
    return listed()


def _connect_to_workers(site: Site, number: int, host: Gunicorn, stack: ExitStack) -> Iterator[Worker]:
    met: dict[str, list[Connection]] = {}
    for _ in range(MAX_CONNECTIONS):
        if len(met) == WORKERS_PER_HOST and all(len(mine) == CONNECTIONS_PER_WORKER for mine in met.values()):
            break
        connection = stack.enter_context(closing(Connection(host.port)))
        mine = met.setdefault(connection.exchange(_HEALTH).worker, [])
        if len(mine) < CONNECTIONS_PER_WORKER:
            mine.append(connection)
        else:
            connection.close()
    else:
        raise RuntimeError(f"host {number} did not respond with both of its workers: {[*met]}")
    pids = _pids(site, [*met])
    for worker, connections in met.items():
        revoker, watcher, *others = connections
        yield Worker(
            worker,
            pids[worker],
            number,
            others[:THREADS_PER_WORKER],
            revoker,
            watcher,
            others[THREADS_PER_WORKER:],
        )
