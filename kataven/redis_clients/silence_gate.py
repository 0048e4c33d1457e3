"""Bounds how many threads wait for a Redis that does not respond."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

PROBE_SECONDS = 1.0
"""How long after a probe without a reply the next one is sent."""


class SilenceGate:
    """Commands pass until one of them gets no reply in time. From then on, one at a time passes as a probe, and the
    others fail at once. The first reply opens the gate again. Thread-safe.

    The first probe passes immediately, on a new connection: the connection of the command can be broken while Redis
    works. Later ones pass once per `PROBE_SECONDS`. A connection that is refused or closed fails without a wait, so it
    does not close the gate.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._silent = False
        self._probing = False
        self._probe_at = 0.0
        self._bypassed = threading.local()
        self.timeout_seconds = 0.0
        """The client's. A command that fails after it was not refused, whatever its error is."""
        self.on_silence: Callable[[], None] = lambda: None
        """Closes the client's idle connections, which can be broken like the one that had no reply."""

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Send one command in this block. Raises redis.ConnectionError if it must not be sent."""
        if getattr(self._bypassed, "active", False):
            yield
            return
        probes = self._silent and self._start_probe()
        started_at = self._clock()
        try:
            yield
        except ResponseError:
            self._silent = False  # an error is a reply
            raise
        except RedisTimeout:
            self._close(after_probe=probes)
            raise
        except RedisConnectionError:
            if 0 < self.timeout_seconds <= self._clock() - started_at:
                self._close(after_probe=probes)
            raise
        else:
            self._silent = False
        finally:
            if probes:
                self._probing = False

    @contextmanager
    def bypassed(self) -> Iterator[None]:
        """This thread's commands pass in this block: without them, others would have to wait for an expiry."""
        self._bypassed.active = True
        try:
            yield
        finally:
            self._bypassed.active = False

    def _start_probe(self) -> bool:
        with self._lock:
            if not self._silent:
                return False
            if self._probing or self._clock() < self._probe_at:
                raise RedisConnectionError("Redis did not respond a moment ago.")
            self._probing = True
            return True

    def _close(self, *, after_probe: bool) -> None:
        with self._lock:
            self._silent = True
            self._probe_at = self._clock() + (PROBE_SECONDS if after_probe else 0)
        self.on_silence()
