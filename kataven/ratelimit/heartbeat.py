"""A background thread that renews this worker's concurrency slots and its membership among the workers.

A slot is a lease of a few seconds, which the heartbeat renews while the request runs. If the worker is killed, the slot
is free again when the lease expires.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 1.0
"""The longest time between two heartbeats: a third of a slot's lease, so one or two of them can fail."""

_chance = random.SystemRandom()  # not the `random` module's state, which tests and libraries seed


class Heartbeat:
    """Calls `heartbeat` after a random 50 % to 100 % of `HEARTBEAT_SECONDS`, so workers don't stay in step."""

    def __init__(self, heartbeat: Callable[[], None], name: str = "limits-heartbeat") -> None:
        self._heartbeat = heartbeat
        self._name = name
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start with an immediate heartbeat. Must be called after the fork: threads don't survive a fork."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current heartbeat. Idempotent."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        stopped = False
        while not stopped:
            try:
                self._heartbeat()
            except Exception:
                log.exception("%s: heartbeat failed; retrying with the next one", self._name)
            stopped = self._stopping.wait(_chance.uniform(HEARTBEAT_SECONDS / 2, HEARTBEAT_SECONDS))
