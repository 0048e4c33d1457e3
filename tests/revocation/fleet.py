"""Real worker processes that send requests with keys while these are revoked, and count what they accept too late."""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import os
import signal
import threading
from multiprocessing.sharedctypes import RawArray, RawValue
from typing import Any, Self

from kataven.identity.credential import ApiKeyCredential, Credential
from kataven.identity.errors import Refused, RevokedCredential
from kataven.identity.principal import CredentialKind, Principal
from kataven.revocation import CachingVerifier, Receipt, Revocation, RevocationTarget
from kataven.revocation.lease import boottime
from kataven.system.database import SystemDatabase
from kataven.system.fallback_channel import SystemFallbackChannel
from tests.revocation.eventually import TIMEOUT_SECONDS, eventually

MAX_KEYS = 2_000
_processes = multiprocessing.get_context("spawn")


class Shared:
    """Shared memory of all processes. `revoked` is the database; `receipt_at` is when each receipt was returned."""

    def __init__(self, workers: int) -> None:
        self.current = RawValue(ctypes.c_int, 0)
        self.revoked = RawArray(ctypes.c_bool, MAX_KEYS)
        self.receipt_at = RawArray(ctypes.c_double, [math.inf] * MAX_KEYS)
        self.accepted = RawArray(ctypes.c_int, workers)
        self.accepted_from_cache = RawArray(ctypes.c_int, workers)
        self.accepted_too_late = RawArray(ctypes.c_int, workers)
        self.stopping = _processes.Event()


class Database:
    """Reads whether a key is revoked. Some reads are so slow that their result is out of date when it arrives."""

    def __init__(self, shared: Shared, slow_every: int) -> None:
        self._shared = shared
        self._slow_every = slow_every
        self._reads = 0

    def verify(self, credential: Credential) -> Principal:
        revoked = self._shared.revoked[int(credential.token)]
        self._reads += 1
        if self._slow_every and self._reads % self._slow_every == 0:
            self._shared.stopping.wait(0.02)
        if revoked:
            raise RevokedCredential
        return Principal(CredentialKind.API_KEY, credential.account, credential.token, "a key")


class Fleet:
    """Worker processes, one for each Redis URL in `urls`, and a revoker in this process that uses `redis_url`.

    The revoker is also a worker, unless `revoker_is_worker` is false, as in a command. All processes use the system
    database at `system_url` as their fallback channel.
    """

    def __init__(
        self,
        system_url: str,
        redis_url: str,
        urls: list[str],
        *,
        lease_seconds: float,
        lose_every: int = 0,
        slow_every: int = 0,
        revoker_is_worker: bool = True,
    ) -> None:
        self.shared = Shared(len(urls))
        self._revoker_works = revoker_is_worker
        self._database = SystemDatabase(system_url)
        fallback = SystemFallbackChannel(self._database)
        self.revocation = Revocation(redis_url, lease_seconds=lease_seconds, fallback=fallback)
        self._processes = [
            _processes.Process(
                target=work,
                args=(number, url, system_url, lease_seconds, self.shared, lose_every, slow_every),
                daemon=True,
            )
            for number, url in enumerate(urls)
        ]

    def revoke_next(self) -> Receipt:
        """Revoke the current key after a worker has accepted it, and continue with a new key."""
        shared, key = self.shared, self.shared.current.value
        self._wait_until_key_is_accepted()
        shared.revoked[key] = True
        receipt = self.revocation.revoke(RevocationTarget("acme", str(key)))
        shared.receipt_at[key] = boottime()
        # Requests with the old key continue: see `send_requests`.
        shared.current.value = key + 1
        return receipt

    def signal(self, worker: int, number: signal.Signals) -> None:
        pid = self._processes[worker].pid
        assert pid is not None
        os.kill(pid, number)

    @property
    def accepted_too_late(self) -> int:
        return sum(self.shared.accepted_too_late)

    @property
    def accepted_from_cache(self) -> int:
        return sum(self.shared.accepted_from_cache)

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        if self._revoker_works:
            self.revocation.start()
            assert eventually(lambda: self.revocation.status().lease_confirmed), "the revoker has no lease"
        self.wait_until_every_worker_caches()
        return self

    def __exit__(self, *_: object) -> None:
        self.shared.stopping.set()
        for number, process in enumerate(self._processes):
            self.signal(number, signal.SIGCONT)
            process.join(TIMEOUT_SECONDS)
            assert process.exitcode == 0
        self.revocation.stop()
        self._database.close()

    def wait_until_every_worker_caches(self) -> None:
        """Return when each worker process has accepted the key from its cache again, so its leases are valid."""
        before = list(self.shared.accepted_from_cache)
        assert eventually(
            lambda: all(now > then for now, then in zip(self.shared.accepted_from_cache, before, strict=True))
        ), "a worker does not use its cache"

    def _wait_until_key_is_accepted(self) -> None:
        before = sum(self.shared.accepted)
        assert eventually(lambda: sum(self.shared.accepted) > before), "no worker accepts a valid key"


def work(
    number: int,
    redis_url: str,
    system_url: str,
    lease_seconds: float,
    shared: Shared,
    lose_every: int,
    slow_every: int,
) -> None:
    """A worker process with two threads that send requests."""
    database = SystemDatabase(system_url)
    revocation = Revocation(redis_url, lease_seconds=lease_seconds, fallback=SystemFallbackChannel(database))
    verifier = CachingVerifier(Database(shared, slow_every), revocation.guard)
    if lose_every:
        _lose_events(revocation, lose_every)
    revocation.start()
    threads = [threading.Thread(target=send_requests, args=(number, shared, revocation, verifier)) for _ in range(2)]
    for thread in threads:
        thread.start()
    parent = multiprocessing.parent_process()
    while not shared.stopping.wait(1) and parent is not None and parent.is_alive():
        pass
    shared.stopping.set()  # if the test process was killed, its workers end too
    for thread in threads:
        thread.join()
    revocation.stop()
    database.close()


def send_requests(number: int, shared: Shared, revocation: Revocation, verifier: CachingVerifier) -> None:
    while not shared.stopping.wait(0.0005):
        current = shared.current.value
        for key in range(max(0, current - 1), current + 1):
            started = boottime()
            hits = revocation.stats.hits
            try:
                verifier.verify(ApiKeyCredential(str(key), "acme"))
            except Refused:
                continue
            shared.accepted[number] += key == current
            shared.accepted_from_cache[number] += revocation.stats.hits > hits
            if shared.receipt_at[key] < started:
                shared.accepted_too_late[number] += 1


def _lose_events(revocation: Revocation, every: int) -> None:
    """Drop every Nth event before this worker applies it."""
    worker: Any = revocation._subscriber
    apply, received = worker._apply, 0

    def apply_most(messages: list[str]) -> Any:
        nonlocal received
        kept = []
        for message in messages:
            received += 1
            if received % every:
                kept.append(message)
        return apply(kept)

    worker._apply = apply_most
