"""Worker processes that share one Redis and can be killed."""

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

# Spawned, not forked, so a worker inherits no threads or connections of the tests.
processes = multiprocessing.get_context("spawn")


def patient_limiter(redis_url: str) -> Limiter:
    """Like `Limiter.at`, but with long timeouts for a busy machine."""
    redis = RedisWindows(RedisPool(redis_url, PATIENT), prefix="limits:api:")
    return Limiter(FallbackWindows(redis, MemoryWindows()))


def peek(limiter: Limiter, account: str, limits: Limits) -> Decision:
    """The state of an account's limits. Consumes nothing."""
    return limiter.windows.peek(rate_limit_keys_of(account, limits, None, None))


def start(target: Callable[..., None], *arguments: Any) -> tuple[BaseProcess, Connection]:
    """Start `target(connection, *arguments)` in a process. Returns the process and the other end of the connection."""
    ours, theirs = processes.Pipe()
    process = processes.Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def hammer(talk: Connection, redis_url: str, limits: Limits, threads: int, requests: int) -> None:
    """Send `ready`, wait for a message, then send requests as fast as possible and return how many were admitted."""
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
    """Hold `slots` slots until a message requests a graceful stop, or the process is killed."""
    limiter = patient_limiter(redis_url)
    limiter.start()
    held: list[Admission] = [limiter.admit("acme", limits) for _ in range(slots)]
    talk.send("holding")
    talk.recv()
    for admission in held:
        admission.release()
    limiter.stop()
