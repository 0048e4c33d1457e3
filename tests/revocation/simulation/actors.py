"""Threads that run one at a time, each until its next pause. The caller is the scheduler."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

Ready = Callable[[], bool]
TIMEOUT_SECONDS = 60


class Ended(BaseException):
    """Raised from `pause` when the simulation ends."""


def _always() -> bool:
    return True


class Actor:
    """A concurrent activity: a request, a worker's thread or a revoker."""

    def __init__(self, work: Callable[[], None], *, runnable: Ready = _always, is_request: bool = False) -> None:
        self.is_request = is_request
        self.wakes_at = math.inf
        """The simulated time at which it becomes ready, unless it does so earlier."""
        self.done = False
        self._runnable = runnable
        self._ready: Ready = _always
        self._ended = False
        self._go = _locked_lock()
        self._back = _locked_lock()
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    @property
    def is_runnable(self) -> bool:
        """Whether it may run, now or later."""
        return not self.done and self._runnable()

    @property
    def ready(self) -> bool:
        return self.is_runnable and self._ready()

    def step(self) -> None:
        """Run it until its next pause or its end."""
        self._go.release()
        assert self._back.acquire(timeout=TIMEOUT_SECONDS), "an actor neither paused nor ended"

    def pause(self, ready: Ready, wakes_at: float) -> None:
        """Called by the actor: wait for the next step, which is due when `ready` returns True."""
        self._ready, self.wakes_at = ready, wakes_at
        self._back.release()
        self._go.acquire()
        if self._ended:
            raise Ended

    def end(self) -> None:
        self._ended = True
        while not self.done:
            self.step()
        self._thread.join()

    def _run(self, work: Callable[[], None]) -> None:
        self._go.acquire()
        _acting.actor = self
        try:
            if not self._ended:
                work()
        except Ended:
            pass
        finally:
            self.done = True
            self._back.release()


def _locked_lock() -> threading.Lock:
    """A lock that one thread acquires to wait and another releases to wake it, the fastest way to switch threads."""
    lock = threading.Lock()
    lock.acquire()
    return lock


class _Acting(threading.local):
    actor: Actor | None = None


_acting = _Acting()


def pause(ready: Ready = _always, *, wakes_at: float = math.inf) -> None:
    """Pause the calling actor; does nothing in other threads."""
    if _acting.actor is not None:
        _acting.actor.pause(ready, wakes_at)


def pause_at_clock() -> None:
    """Pause a request after it read the clock. Other actors pause elsewhere."""
    if _acting.actor is not None and _acting.actor.is_request:
        pause()
