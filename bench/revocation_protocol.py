"""How long a revocation takes, between real processes, a real Redis and a system database: no Flask, no account.

    python -m bench.revocation_protocol [--revocations 300] [--workers 4] [--redis-url redis://…]

Three worlds: idle workers; workers with some work to do; workers whose threads never rest. In the last one it is the
interpreter's lock that is measured, with its default switch interval and with the one that gunicorn.conf.py sets.
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

from bench.worlds.ground import laid
from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.identity.credential import ApiKeyCredential, Credential
from kataven.identity.principal import CredentialKind, Principal
from kataven.revocation import CachingVerifier, Guard, Revocation, RevocationTarget, Spread
from kataven.revocation.epoch import Epoch
from kataven.revocation.fallback.channel import FallbackNotice
from kataven.revocation.lease import Lease
from kataven.system.database import SystemDatabase
from kataven.system.fallback_channel import SystemFallbackChannel

processes = multiprocessing.get_context("spawn")
KEY = ApiKeyCredential("sk_live_acme_" + "x" * 49, "acme")
LEASE_SECONDS = 10.0  # long, so that a worker that is late is measured and not waited out


@dataclass(frozen=True)
class Load:
    """What the threads of a worker do: compute, rest, and again."""

    name: str
    threads: int = 0
    compute_seconds: float = 0.0
    rest_seconds: float = 0.0
    switch_interval: float | None = None


WORLDS = [
    Load("idle"),
    Load("moderate", threads=4, compute_seconds=0.0005, rest_seconds=0.005),
    Load("saturated", threads=4, compute_seconds=0.0005),
    Load("saturated, switch interval 0.5 ms", threads=4, compute_seconds=0.0005, switch_interval=0.0005),
]


class Anybody:
    """A verifier that lets everybody in."""

    def verify(self, credential: Credential) -> Principal:
        return Principal(CredentialKind.API_KEY, credential.account, "key", "a key")


def revocation_at(redis_url: str, database_url: str) -> Revocation:
    return Revocation(
        redis_url, lease_seconds=LEASE_SECONDS, fallback=SystemFallbackChannel(SystemDatabase(database_url))
    )


def work(redis_url: str, database_url: str, load: Load, ready: Event, stopping: Event) -> None:
    """A worker process."""
    if load.switch_interval is not None:
        sys.setswitchinterval(load.switch_interval)
    revocation = revocation_at(redis_url, database_url)
    verifier = CachingVerifier(Anybody(), revocation.guard)
    revocation.start()
    while not revocation.status().lease_confirmed:
        time.sleep(0.01)
    for _ in range(load.threads):
        threading.Thread(target=be_busy, args=(verifier, load), daemon=True).start()
    ready.set()
    parent = multiprocessing.parent_process()
    while not stopping.wait(1) and parent is not None and parent.is_alive():
        pass  # a bench that was killed leaves nobody behind
    revocation.stop()


def be_busy(verifier: CachingVerifier, load: Load) -> None:
    """Verify and compute in short pieces, as handlers do, and rest as they do while they wait for a database."""
    while True:
        until = time.perf_counter() + load.compute_seconds
        while time.perf_counter() < until:
            verifier.verify(KEY)
        if load.rest_seconds:
            time.sleep(load.rest_seconds)


def measure(redis_url: str, database_url: str, load: Load, workers: int, revocations: int) -> None:
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
        receipts.append(revoker.revoke(revoker.intend(RevocationTarget("acme"))))
        time.sleep(0.005)
    stopping.set()
    for process in team:
        process.join()
    revoker.stop()
    missing = sum(receipt.expired for receipt in receipts)
    eviction = Spread.of([r.publish_to_last_ack_ms for r in receipts if r.publish_to_last_ack_ms is not None])
    whole = Spread.of([receipt.ms for receipt in receipts])
    print(f"{load.name:36} {show(eviction)}    {show(whole)}    {missing}")


def show(spread: Spread | None) -> str:
    return "       -       -       -" if spread is None else f"{spread.p50:8.2f}{spread.p99:8.2f}{spread.max:8.2f}"


def measure_hits() -> None:
    """What a hit costs in a hot loop."""
    guard = Guard(Lease(3600), Lease(3600))
    guard.home_recorded("redis")
    guard.apply_notice(guard.lease.clock(), FallbackNotice(0, "none"))
    guard.lease_confirmed(guard.lease.clock(), Epoch("redis", 0))
    verifier = CachingVerifier(Anybody(), guard)
    number = 50_000
    for name, credential in (("API key", KEY), ("JWT of 1 KB", ApiKeyCredential("e" * 1024, "acme"))):
        best = min(timeit.repeat(lambda: verifier.verify(credential), number=number, repeat=7)) / number  # noqa: B023
        print(f"a hit, {name}: {best * 1e6:.2f} µs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--revocations", type=int, default=300)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--redis-url")
    options = parser.parse_args()
    measure_hits()
    with ExitStack() as stack:
        ground = stack.enter_context(laid())
        redis_url = options.redis_url
        if redis_url is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            redis_url = stack.enter_context(EmbeddedRedis(Path(folder), persistent=False)).url
        print(f"{options.workers} workers, {options.revocations} revocations; ms: p50, p99, max")
        print(f"{'':36} {'publish to last acknowledgement':24}  {'whole revoke()':24}  lapsed")
        for load in WORLDS:
            measure(redis_url, ground.database_url, load, options.workers, options.revocations)


if __name__ == "__main__":
    main()
