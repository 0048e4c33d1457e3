"""Rotates one key again and again while threads use its old and its new secret."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx2

THREADS = 8
"""For each of the two secrets."""

Connect = Callable[[str], httpx2.Client]
"""A client that sends this credential."""


@dataclass
class Load:
    """What the threads saw. `wrong` describes each wrong response."""

    requests: int = 0
    refused: int = 0
    receipts: int = 0
    wrong: list[str] = field(default_factory=list)
    receipt_ms: list[float] = field(default_factory=list)


@dataclass
class _Round:
    """The times of one rotation on the monotonic clock, as far as they are known."""

    ending: float | None = None
    """Before the request that ends the former secret is sent."""
    ended: float | None = None
    """After its receipt."""


def rotate_under_load(owner: httpx2.Client, connect: Connect, rounds: int) -> Load:
    """In each round, both secrets are used while the old one is ended.

    Right is: 200 for the new secret; 200 for the old one until its end is requested, and 403 after the receipt.
    """
    load, lock = Load(), threading.Lock()
    created = owner.post("/v1/api-keys", json={"name": "Rotated", "expiry": "30d"})
    created.raise_for_status()
    key_id, old = created.json()["id"], created.json()["key"]
    with ThreadPoolExecutor(2 * THREADS) as pool:
        for number in range(rounds):
            rotated = owner.post(f"/v1/api-keys/{key_id}/rotate", json={"grace_seconds": 3600})
            rotated.raise_for_status()
            new, state, stop = rotated.json()["key"], _Round(), threading.Event()
            used = threading.Barrier(2 * THREADS + 1)
            users = [
                pool.submit(_use, connect, secret, secret == old, state, used, stop, load, lock)
                for secret in (old, new)
                for _ in range(THREADS)
            ]
            used.wait(60)
            state.ending = time.monotonic()
            ended = owner.patch(f"/v1/api-keys/{key_id}/former-secret", json={"ends_in_seconds": 0})
            ended.raise_for_status()
            state.ended = time.monotonic()
            load.receipts += 1
            load.receipt_ms.append(ended.json()["receipt"]["ms"])
            stop.set()
            for user in users:
                user.result(60)
            if load.wrong:
                load.wrong.append(f"in round {number}")
                return load
            old = new
    return load


def _use(
    connect: Connect,
    secret: str,
    is_old: bool,
    state: _Round,
    used: threading.Barrier,
    stop: threading.Event,
    load: Load,
    lock: threading.Lock,
) -> None:
    with connect(secret) as client:
        first, after_stop = True, 0
        while after_stop < 2:  # the last request starts after the receipt
            after_stop += stop.is_set()
            started = time.monotonic()
            response = client.get("/v1/me")
            finished = time.monotonic()
            with lock:
                load.requests += 1
                load.refused += response.status_code == 403
                wrong = _wrong(response, is_old, state, started, finished)
                if wrong is not None:
                    load.wrong.append(wrong)
            if first:
                used.wait(60)
            first = False


def _wrong(response: httpx2.Response, is_old: bool, state: _Round, started: float, finished: float) -> str | None:
    status = response.status_code
    accepted = status == 200
    refused = status == 403 and response.json()["code"] == "rotated_credential"
    if not accepted and not (is_old and refused):
        return f"{'old' if is_old else 'new'} secret: {status} {response.text[:200]}"
    if is_old and refused and (state.ending is None or finished < state.ending):
        return "the old secret was refused before its end"
    if is_old and accepted and state.ended is not None and started > state.ended:
        return "the old secret was accepted after the receipt"
    return None
