"""Worker processes to share a Redis with, to count together, and to kill."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from kataven.ratelimit.decision import Decision
from kataven.ratelimit.fallback import FallbackWindows
from kataven.ratelimit.limiter import Admission, Limiter, LimitExceeded
from kataven.ratelimit.limiter.admission import rate_limit_keys_of
from kataven.ratelimit.memory import MemoryWindows
from kataven.ratelimit.policy import Limits
from kataven.ratelimit.redis_pool import RedisPool
from kataven.ratelimit.windows import RedisWindows
from tests.ratelimit.conftest import PATIENT

# Not forked: a worker begins with nothing of the tests' own threads and connections.
processes = multiprocessing.get_context("spawn")


def patient_limiter(redis_url: str) -> Limiter:
    """As `Limiter.at` makes it, but one that waits for Redis however busy the machine is."""
    redis = RedisWindows(RedisPool(redis_url, PATIENT), prefix="limits:api:")
    return Limiter(FallbackWindows(redis, MemoryWindows()))


def look(limiter: Limiter, account: str, limits: Limits) -> Decision:
    """What is left of an account's limits, consuming nothing."""
    return limiter.windows.look(rate_limit_keys_of(account, limits, None, None))


def begin(target: Callable[..., None], *arguments: Any) -> tuple[BaseProcess, Connection]:
    """Start `target(connection, *arguments)` in a process, with the other end of its connection."""
    ours, theirs = processes.Pipe()
    process = processes.Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def hammer(talk: Connection, redis_url: str, limits: Limits, threads: int, requests: int) -> None:
    """Say when ready, wait for the word, then ask as fast as possible; answer how many were admitted."""
    limiter = patient_limiter(redis_url)
    limiter.start()
    admitted = [0] * threads

    def client(number: int) -> None:
        for _ in range(requests):
            try:
                limiter.admit("acme", limits).release()
            except LimitExceeded:
                continue
            admitted[number] += 1

    talk.send("ready")
    talk.recv()
    clients = [threading.Thread(target=client, args=(number,)) for number in range(threads)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    talk.send((sum(admitted), limiter.degraded))
    limiter.stop()


def hold(talk: Connection, redis_url: str, limits: Limits, slots: int) -> None:
    """Hold so many slots until told to end in good order, or killed."""
    limiter = patient_limiter(redis_url)
    limiter.start()
    held: list[Admission] = [limiter.admit("acme", limits) for _ in range(slots)]
    talk.send("holding")
    talk.recv()
    for admission in held:
        admission.release()
    limiter.stop()
