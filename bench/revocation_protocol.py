"""Measures how long a revocation takes with real processes, Redis and system database, without Flask or accounts.

    python -m bench.revocation_protocol [--revocations 300] [--workers 4] [--redis-url redis://…]

Three loads: idle workers, moderate load, and threads that never pause. The last one measures the interpreter lock, with
its default switch interval and with the one that gunicorn.conf.py sets.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import threading
import time
import timeit
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

from bench.scenarios.environment import open_environment
from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.identity.credential import ApiKeyCredential, Credential
from kataven.identity.principal import CredentialKind, Principal
from kataven.revocation import CachingVerifier, Guard, Percentiles, Revocation, RevocationTarget
from kataven.revocation.epoch import Epoch
from kataven.revocation.fallback.channel import FallbackNotice
from kataven.revocation.lease import Lease
from kataven.system.database import SystemDatabase
from kataven.system.fallback_channel import SystemFallbackChannel

processes = multiprocessing.get_context("spawn")
KEY = ApiKeyCredential("sk_live_acme_" + "x" * 49, "acme")
LEASE_SECONDS = 10.0  # long, so that late acknowledgements are measured rather than expired


@dataclass(frozen=True)
class WorkerLoad:
    """The load of a worker's threads: compute, pause, and repeat."""

    name: str
    threads: int = 0
    compute_seconds: float = 0.0
    rest_seconds: float = 0.0
    switch_interval: float | None = None


SCENARIOS = [
    WorkerLoad("idle"),
    WorkerLoad("moderate", threads=4, compute_seconds=0.0005, rest_seconds=0.005),
    WorkerLoad("saturated", threads=4, compute_seconds=0.0005),
    WorkerLoad("saturated, switch interval 0.5 ms", threads=4, compute_seconds=0.0005, switch_interval=0.0005),
]


class AcceptEverything:
    """A verifier that accepts every credential."""

    def verify(self, credential: Credential) -> Principal:
        return Principal(CredentialKind.API_KEY, credential.account, "key", "a key")


def revocation_at(redis_url: str, database_url: str) -> Revocation:
    return Revocation(
        redis_url, lease_seconds=LEASE_SECONDS, fallback=SystemFallbackChannel(SystemDatabase(database_url))
    )


def work(redis_url: str, database_url: str, load: WorkerLoad, ready: Event, stopping: Event) -> None:
    """A worker process."""
    if load.switch_interval is not None:
        sys.setswitchinterval(load.switch_interval)
    revocation = revocation_at(redis_url, database_url)
    verifier = CachingVerifier(AcceptEverything(), revocation.guard)
    revocation.start()
    while not revocation.status().lease_confirmed:
        time.sleep(0.01)
    for _ in range(load.threads):
        threading.Thread(target=generate_load, args=(verifier, load), daemon=True).start()
    ready.set()
    parent = multiprocessing.parent_process()
    while not stopping.wait(1) and parent is not None and parent.is_alive():
        pass  # if the benchmark was killed, its workers end too
    revocation.stop()


def generate_load(verifier: CachingVerifier, load: WorkerLoad) -> None:
    """Verify and compute in short slices, as handlers do, and pause as they do while they wait for a database."""
    while True:
        until = time.perf_counter() + load.compute_seconds
        while time.perf_counter() < until:
            verifier.verify(KEY)
        if load.rest_seconds:
            time.sleep(load.rest_seconds)


def measure(redis_url: str, database_url: str, load: WorkerLoad, workers: int, revocations: int) -> None:
    stopping = processes.Event()
    ready = [processes.Event() for _ in range(workers)]
    team = [processes.Process(target=work, args=(redis_url, database_url, load, event, stopping)) for event in ready]
    for process in team:
        process.start()
    for event in ready:
        event.wait()
    revoker = revocation_at(redis_url, database_url)
    revoker.revoke(RevocationTarget("acme"))  # connects
    receipts = []
    for _ in range(revocations):
        receipts.append(revoker.revoke(revoker.write_intent(RevocationTarget("acme"))))
        time.sleep(0.005)
    stopping.set()
    for process in team:
        process.join()
    revoker.stop()
    missing = sum(receipt.expired for receipt in receipts)
    eviction = Percentiles.of([r.publish_to_last_ack_ms for r in receipts if r.publish_to_last_ack_ms is not None])
    whole = Percentiles.of([receipt.ms for receipt in receipts])
    print(f"{load.name:36} {format_row(eviction)}    {format_row(whole)}    {missing}")


def format_row(row: Percentiles | None) -> str:
    return "       -       -       -" if row is None else f"{row.p50:8.2f}{row.p99:8.2f}{row.max:8.2f}"


def measure_hits() -> None:
    """Measure the cost of a cache hit in a hot loop."""
    guard = Guard(Lease(3600), Lease(3600))
    guard.home_written("redis")
    guard.apply_notice(guard.lease.clock(), FallbackNotice(0, "none"))
    guard.confirm_lease(guard.lease.clock(), Epoch("redis", 0))
    verifier = CachingVerifier(AcceptEverything(), guard)
    number = 50_000
    for name, credential in (("API key", KEY), ("JWT of 1 KB", ApiKeyCredential("e" * 1024, "acme"))):
        best = min(timeit.repeat(lambda: verifier.verify(credential), number=number, repeat=7)) / number  # noqa: B023
        print(f"cache hit, {name}: {best * 1e6:.2f} µs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--revocations", type=int, default=300)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--redis-url")
    options = parser.parse_args()
    measure_hits()
    with ExitStack() as stack:
        environment = stack.enter_context(open_environment())
        redis_url = options.redis_url
        if redis_url is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            redis_url = stack.enter_context(EmbeddedRedis(Path(folder), persistent=False)).url
        print(f"{options.workers} workers, {options.revocations} revocations; ms: p50, p99, max")
        print(f"{'':36} {'publish to last acknowledgement':24}  {'whole revoke()':24}  expired")
        for load in SCENARIOS:
            measure(redis_url, environment.database_url, load, options.workers, options.revocations)


if __name__ == "__main__":
    main()
