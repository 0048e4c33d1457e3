"""Sessions that every process caches and no process accepts after they are revoked. Needs REDIS_URL."""

import multiprocessing
import os
import time
from multiprocessing.connection import Connection

from kataven.revocation.cache import GuardedCache
from kataven.revocation.fallback.none import NoFallback
from kataven.revocation.revocation import Revocation
from kataven.revocation.target import RevocationTarget


def connect() -> Revocation:
    """Opens no connection: it can be called before a fork, and `start` after it."""
    return Revocation(os.environ["REDIS_URL"], namespace="shop", fallback=NoFallback())


def work(pipe: Connection) -> None:
    """A worker: it looks each session up once, and then uses its cache."""
    revocation = connect()
    users: GuardedCache[str, str] = GuardedCache(revocation.guard, ttl_seconds=30, capacity=10_000)
    revocation.start()
    while not revocation.guard.leases_valid():  # until then, the cache stores nothing
        time.sleep(0.01)
    lookups = 0

    def look_up() -> str:
        nonlocal lookups
        lookups += 1
        return "alice"

    pipe.send("ready")
    while session := pipe.recv():
        users.get(session, RevocationTarget("team-7", session), look_up)
        pipe.send(lookups)
    revocation.stop()


if __name__ == "__main__":
    ours, theirs = multiprocessing.Pipe()
    worker = multiprocessing.get_context("spawn").Process(target=work, args=(theirs,))
    worker.start()
    ours.recv()
    for _ in range(2):
        ours.send("session-1")
        print("lookups:", ours.recv())
    revocation = connect()
    # First commit the change in your own database. Then:
    receipt = revocation.revoke(RevocationTarget("team-7", "session-1"))
    print(f"evicted by {receipt.acknowledged} of {receipt.workers} workers")
    ours.send("session-1")
    print("lookups:", ours.recv())
    ours.send("")
    worker.join()
    revocation.stop()
