"""Background threads that repeat a function. Imports no other module of the project.

Start a thread after the fork: threads don't survive a fork.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

_log = logging.getLogger(__name__)

_random = random.SystemRandom()  # not the `random` module's state, which tests and libraries seed


class BackgroundLoop:
    """A thread that calls `run`, waits for `interval()` seconds, and repeats, between `start` and `stop`.

    With an interval of None it waits for `wake`. If `run` raises an Exception, it is logged and the thread continues.
    """

    def __init__(
        self, name: str, run: Callable[[], object], interval: Callable[[], float | None], *, run_at_start: bool = True
    ) -> None:
        """`name` is the name of the thread. Without `run_at_start`, the first run follows the first wait."""
        self._name = name
        self._run = run
        self._interval = interval
        self._run_at_start = run_at_start
        self._flag = WakeableFlag()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def running(self) -> bool:
        thread = self._thread  # `stop` may set it to None at any time
        return thread is not None and thread.is_alive()

    def start(self) -> None:
        """Start the thread, unless it is running. Returns immediately."""
        if self.running:
            return
        with self._lock:
            if not self.running:
                self._flag = WakeableFlag()  # a new one: the previous thread, if it still runs, must stop
                self._thread = threading.Thread(target=self._loop, args=(self._flag,), name=self._name, daemon=True)
                self._thread.start()

    def wake(self) -> None:
        """Run again now, or immediately after the current run. Safe to call from any thread."""
        self._flag.wake()

    def stop(self, timeout: float | None = None) -> bool:
        """Stop the thread after its current run, for which it waits at most `timeout` seconds. Idempotent.

        Returns whether the thread had been started.
        """
        with self._lock:
            thread = self._thread
            self._flag.set()
        if thread is None:
            return False
        thread.join(timeout)
        with self._lock:
            if self._thread is thread:  # not if it was started again in the meantime
                self._thread = None
        return True

    def _loop(self, flag: WakeableFlag) -> None:
        stopped = not self._run_at_start and flag.wait(self._interval())
        while not stopped:
            try:
                self._run()
            except Exception:
                _log.exception("%s: a run failed; the thread continues", self._name)
            stopped = flag.wait(self._interval())


class WakeableFlag:
    """Stops a thread, and lets it wait until it is woken."""

    def __init__(self) -> None:
        self._set = False
        self._woken = threading.Event()

    def set(self) -> None:
        self._set = True
        self._woken.set()

    def is_set(self) -> bool:
        return self._set

    def wake(self) -> None:
        self._woken.set()

    def wait(self, seconds: float | None) -> bool:
        """Return after `seconds`, or immediately after a call of `wake` or `set`. Returns whether the flag is set."""
        self._woken.wait(seconds)
        self._woken.clear()
        return self._set


def jittered(seconds: float) -> Callable[[], float]:
    """An interval of a random 50 % to 100 % of `seconds`, so that the workers don't stay in step."""
    return lambda: _random.uniform(seconds / 2, seconds)
