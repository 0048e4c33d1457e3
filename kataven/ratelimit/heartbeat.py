"""The pulse of a worker: one thread that keeps its in-flight slots alive and shows that the worker itself is alive.

A slot is a lease of a few seconds. While its request runs, the pulse renews it; when the worker is killed, nobody does,
and the slot is free again as soon as the lease is over.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
"""The longest time between two beats: a third of a slot's lease, so that one or two may fail."""


_chance = random.SystemRandom()  # not the module's own state, which belongs to whoever seeds it


class Heartbeat:
    """Calls `beat` every half to whole `BEAT_SECONDS`, at random, so that workers that start together drift apart."""

    def __init__(self, heartbeat: Callable[[], None], name: str = "limits-pulse") -> None:
        self._heartbeat = heartbeat
        self._name = name
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, with a first beat at once. Call it after the fork: threads don't survive one."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, after the beat under way. May be repeated."""
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
                log.exception("%s: a beat failed; the next one tries again", self._name)
            stopped = self._stopping.wait(_chance.uniform(BEAT_SECONDS / 2, BEAT_SECONDS))
