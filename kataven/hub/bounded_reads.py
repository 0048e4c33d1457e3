"""Reads for the console that a page must not wait for, such as from the database of an account on a slow server.

A page waits a fraction of a second. The read continues in its thread, and its result is kept for some seconds, so that
the page has it after a reload. At most one read per key, and `MAX_READS` in total, are in progress.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

log = logging.getLogger(__name__)

KEPT_SECONDS = 5.0
MAX_READS = 8
WAIT_SECONDS = 0.15

Result = TypeVar("Result")


@dataclass(slots=True)
class _Read:
    """A read. `value` is None until it has ended, and if it failed."""

    started_at: float
    ended: threading.Event = field(default_factory=threading.Event)
    value: Any = None


class BoundedReads:
    """The reads of one process of the Hub. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._reads: dict[str, _Read] = {}

    def read(self, key: str, function: Callable[[], Result], wait_seconds: float = WAIT_SECONDS) -> Result | None:
        """The result of `function`; None if it fails, takes longer than `wait_seconds`, or could not be started."""
        with self._lock:
            found = self._reads.get(key)
            if found is not None and found.ended.is_set() and self._clock() - found.started_at >= KEPT_SECONDS:
                found = None
            if found is None:
                self._remove_old()
                if sum(not one.ended.is_set() for one in self._reads.values()) >= MAX_READS:
                    return None
                found = _Read(self._clock())
                try:
                    threading.Thread(target=_run, args=(found, function), name="bounded-read", daemon=True).start()
                except RuntimeError:  # the process has too many threads: the next page tries again
                    return None
                self._reads[key] = found
        found.ended.wait(wait_seconds)
        value: Result | None = found.value
        return value

    def _remove_old(self) -> None:
        now = self._clock()
        for key, one in list(self._reads.items()):
            if one.ended.is_set() and now - one.started_at >= KEPT_SECONDS:
                del self._reads[key]


def _run(read: _Read, function: Callable[[], Any]) -> None:
    try:
        read.value = function()
    except Exception as error:
        log.warning("read for the console failed", extra={"error": type(error).__name__})
    finally:
        read.ended.set()
