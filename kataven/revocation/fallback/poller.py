"""The worker's other thread: it reads the notices, makes the worker forget, and writes that it has.

    look → is there another notice, another Redis, or is it time to write? → write that this worker reads → forget →
           write that it has

It waits for nothing but the place where the notices are, so that one that is slow doesn't hold the bus up.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
from collections import deque
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Event as Flag
from threading import Thread

from kataven.revocation.fallback.channel import (
    FallbackChannel,
    FallbackNotice,
    FallbackUnreachable,
    PollerHeartbeat,
    PollerId,
)
from kataven.revocation.guard import Guard
from kataven.revocation.lease import expiry_wait_seconds
from kataven.revocation.sweeper import Sweeper

BEATS_PER_LEASE = 4
LOOKS_PER_LEASE = 2
"""By the lease from Redis: so a revocation that Redis does not carry takes about as long as one lease."""

_log = logging.getLogger(__name__)


class FallbackPoller:
    """One thread between `start` and `stop`. To be started after a fork, never before."""

    def __init__(self, guard: Guard, fallback: FallbackChannel) -> None:
        self._guard = guard
        self._fallback = fallback
        self._lease = guard.reading
        self._seconds_between_looks = guard.lease.seconds / LOOKS_PER_LEASE
        self._sweeper: Sweeper[PollerId, int] = Sweeper(expiry_wait_seconds(guard.reading.seconds))
        self._stopping = Pause()
        self._thread: Thread | None = None
        self._read: FallbackNotice | None = None
        self._due = -math.inf
        self._beats = 0
        self._completed: deque[str] = deque()
        self.me = PollerId("", "", 0)

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Begin. Returns at once. Does nothing if it is running."""
        if self.running:
            return
        self.me = PollerId(secrets.token_hex(8), host_identity(), os.getpid())
        self._read, self._due = None, -math.inf
        self._stopping = Pause()
        self._thread = Thread(target=self.run, args=(self._stopping,), name="notices", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, then the lease."""
        if self._thread is None:
            return
        self._stopping.set()
        self._thread.join()
        self._thread = None
        self._lease.drop()
        self._guard.home_recorded("")
        with suppress(FallbackUnreachable):  # then the lease lapses, and another worker takes this one off
            self._complete()
            self._fallback.leave(self.me)

    def hurry(self) -> None:
        """Look now: this worker renews at another Redis than before. Safe to call from any thread."""
        self._stopping.wake()

    def completed(self, intent: str) -> None:
        """An intent has its receipt: to be written down with the next look, off the revoker's way."""
        self._completed.append(intent)

    def run(self, stopping: Pause) -> None:
        """What the thread does, until `stopping` is set."""
        reached = True
        while not stopping.is_set():
            try:
                self.look()
                reached = True
            except FallbackUnreachable as error:
                # Once per outage. The lease lapses by itself, if this lasts.
                _log.log(logging.WARNING if reached else logging.DEBUG, "revocation: notices can't be read: %s", error)
                reached = False
            except BaseException:  # a memory that can't forget, say: without a lease it is harmless
                _log.exception("revocation: this worker can't read notices")
            stopping.wait(self._seconds_between_looks)

    def look(self) -> None:
        """Read the notices, and write that this worker has, if there is another one or if it is time to.

        A revocation that was begun, and is not completed one look later, is one whose revoker is slow or dead. Its
        change may be committed any moment, so this worker forgets what it covers at each look, until it is completed.
        """
        self._complete()
        word = self._fallback.current(self._seconds_between_looks)
        for target in word.unfinished:
            self._guard.apply_intent(target)
        _, home_recorded = self._guard.home_to_record()
        if not home_recorded and self._lease.clock() < self._due and word.notice == self._read:
            return
        self._heartbeat()
        self._sweep()

    def _heartbeat(self) -> None:
        while True:
            redis, _ = self._guard.home_to_record()
            asked_at = self._lease.clock()
            self._beats += 1
            latest = self._fallback.heartbeat(PollerHeartbeat(self.me, self._beats, self._read, redis))
            self._guard.home_recorded(redis)
            self._guard.apply_notice(asked_at, latest)
            if latest == self._read:
                self._due = asked_at + self._lease.seconds / BEATS_PER_LEASE
                return
            self._read = latest  # forgotten by now, and said so the next time round

    def _complete(self) -> None:
        """Once more with the next look, if it fails."""
        done = list(self._completed)
        if done:
            self._fallback.complete(done)
            for _ in done:
                self._completed.popleft()

    def _sweep(self) -> None:
        if self._sweeper.due(self._lease.clock()):
            heartbeats = self._fallback.heartbeats()
            self._fallback.remove(self._sweeper.look(heartbeats, self._lease.clock()))
            self._fallback.complete(())


class Pause:
    """Ends a thread, and lets it wait in between, until it is told to hurry."""

    def __init__(self) -> None:
        self._stopping = False
        self._woken = Flag()

    def set(self) -> None:
        self._stopping = True
        self._woken.set()

    def is_set(self) -> bool:
        return self._stopping

    def wake(self) -> None:
        self._woken.set()

    def wait(self, seconds: float) -> None:
        """Returns after `seconds`, or at once if it was woken since the last wait."""
        self._woken.wait(seconds)
        self._woken.clear()


@cache
def host_identity() -> str:
    """Where this process's id means something: this boot of this machine, and this namespace of process ids."""
    try:
        return (
            f"{Path('/proc/sys/kernel/random/boot_id').read_text('ascii').strip()} {os.readlink('/proc/self/ns/pid')}"
        )
    except OSError:  # no Linux
        return f"unknown {secrets.token_hex(8)}"


def is_dead(reader: PollerId) -> bool:
    """Whether that process has surely ended. False if it lives elsewhere, where nobody can tell from here."""
    if reader.home != host_identity():
        return False
    try:
        os.kill(reader.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
