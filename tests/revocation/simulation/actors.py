"""Threads of which one runs at a time, and only as far as its next pause: whoever plays the scheduler decides."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

Ready = Callable[[], bool]
TIMEOUT_SECONDS = 60


class Ended(BaseException):
    """Raised out of `pause` when the world ends."""


def _always() -> bool:
    return True


class Actor:
    """Something that goes on by itself: a request, a worker's thread, a revoker."""

    def __init__(self, work: Callable[[], None], *, runnable: Ready = _always, is_request: bool = False) -> None:
        self.is_request = is_request
        self.wakes_at = math.inf
        """World time at which it will be ready, if nothing happens before."""
        self.done = False
        self._runnable = runnable
        self._ready: Ready = _always
        self._ended = False
        self._go = _closed_gate()
        self._back = _closed_gate()
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    @property
    def is_runnable(self) -> bool:
        """Whether it is one that may go on, now or later."""
        return not self.done and self._runnable()

    @property
    def ready(self) -> bool:
        return self.is_runnable and self._ready()

    def step(self) -> None:
        """Let it go on to its next pause, or to its end."""
        self._go.release()
        assert self._back.acquire(timeout=TIMEOUT_SECONDS), "an actor neither paused nor ended"

    def pause(self, ready: Ready, wakes_at: float) -> None:
        """Called by the actor itself: wait to be stepped, which makes sense once `ready`."""
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


def _closed_gate() -> threading.Lock:
    """A lock that one thread acquires to wait and another releases to wake it: the cheapest way to hand over."""
    gate = threading.Lock()
    gate.acquire()
    return gate


class _Acting(threading.local):
    actor: Actor | None = None


_acting = _Acting()


def pause(ready: Ready = _always, *, wakes_at: float = math.inf) -> None:
    """Pause the actor that this is called from; nothing elsewhere."""
    if _acting.actor is not None:
        _acting.actor.pause(ready, wakes_at)


def pause_at_clock() -> None:
    """A request may be held up right after it read the clock; for the others that would be nothing new."""
    if _acting.actor is not None and _acting.actor.is_request:
        pause()
