"""Bounds how many threads wait for a Redis that does not respond."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout

PROBE_SECONDS = 1.0
"""How long after a command without a reply the next one is sent."""


class SilenceGate:
    """Commands pass until one of them gets no reply in time. From then on, one at a time passes, once per
    `PROBE_SECONDS`, and the others fail at once. The first reply opens the gate again. Thread-safe.

    A refused or broken connection fails without a wait, so it does not close the gate.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._silent = False
        self._probing = False
        self._probe_at = 0.0

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Send one command in this block. Raises redis.ConnectionError if it must not be sent."""
        probes = self._silent and self._start_probe()
        try:
            yield
        except RedisTimeout:
            self._close()
            raise
        else:
            if self._silent:
                self._silent = False
        finally:
            if probes:
                self._probing = False

    def _start_probe(self) -> bool:
        with self._lock:
            if not self._silent:
                return False
            if self._probing or self._clock() < self._probe_at:
                raise RedisConnectionError("Redis did not respond a moment ago.")
            self._probing = True
            return True

    def _close(self) -> None:
        with self._lock:
            self._silent = True
            self._probe_at = self._clock() + PROBE_SECONDS
