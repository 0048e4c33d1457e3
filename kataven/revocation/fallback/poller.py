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

HEARTBEATS_PER_LEASE = 4
POLLS_PER_LEASE = 2
"""By the lease from Redis: so a revocation that Redis does not carry takes about as long as one lease."""

_log = logging.getLogger(__name__)


class FallbackPoller:
    """One thread between `start` and `stop`. To be started after a fork, never before."""

    def __init__(self, guard: Guard, fallback: FallbackChannel) -> None:
        self._guard = guard
        self._fallback = fallback
        self._lease = guard.reader_lease
        self._poll_interval = guard.lease.seconds / POLLS_PER_LEASE
        self._sweeper: Sweeper[PollerId, int] = Sweeper(expiry_wait_seconds(guard.reader_lease.seconds))
        self._stopping = WakeableFlag()
        self._thread: Thread | None = None
        self._read: FallbackNotice | None = None
        self._due = -math.inf
        self._heartbeat_count = 0
        self._intents_to_remove: deque[str] = deque()
        self.id = PollerId("", "", 0)

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Begin. Returns at once. Does nothing if it is running."""
        if self.running:
            return
        self.id = PollerId(secrets.token_hex(8), pid_namespace(), os.getpid())
        self._read, self._due = None, -math.inf
        self._stopping = WakeableFlag()
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
        self._guard.home_written("")
        with suppress(FallbackUnreachable):  # then the lease lapses, and another worker takes this one off
            self._complete()
            self._fallback.deregister(self.id)

    def poll_soon(self) -> None:
        """Look now: this worker renews at another Redis than before. Safe to call from any thread."""
        self._stopping.wake()

    def remove_intent_later(self, intent: str) -> None:
        """An intent has its receipt: to be written down with the next look, off the revoker's way."""
        self._intents_to_remove.append(intent)

    def run(self, stopping: WakeableFlag) -> None:
        """What the thread does, until `stopping` is set."""
        reached = True
        while not stopping.is_set():
            try:
                self.poll()
                reached = True
            except FallbackUnreachable as error:
                # Once per outage. The lease lapses by itself, if this lasts.
                _log.log(logging.WARNING if reached else logging.DEBUG, "revocation: notices can't be read: %s", error)
                reached = False
            except BaseException:  # a memory that can't forget, say: without a lease it is harmless
                _log.exception("revocation: this worker can't read notices")
            stopping.wait(self._poll_interval)

    def poll(self) -> None:
        """Read the notices, and write that this worker has, if there is another one or if it is time to.

        A revocation that was begun, and is not completed one look later, is one whose revoker is slow or dead. Its
        change may be committed any moment, so this worker forgets what it covers at each look, until it is completed.
        """
        self._complete()
        state = self._fallback.read_state(self._poll_interval)
        for target in state.overdue:
            self._guard.apply_intent(target)
        _, home_is_new = self._guard.home_to_write()
        if not home_is_new and self._lease.clock() < self._due and state.notice == self._read:
            return
        self._heartbeat()
        self._sweep()

    def _heartbeat(self) -> None:
        while True:
            redis, _ = self._guard.home_to_write()
            counted_from = self._lease.clock()
            self._heartbeat_count += 1
            latest = self._fallback.write_heartbeat(PollerHeartbeat(self.id, self._heartbeat_count, self._read, redis))
            self._guard.home_written(redis)
            self._guard.apply_notice(counted_from, latest)
            if latest == self._read:
                self._due = counted_from + self._lease.seconds / HEARTBEATS_PER_LEASE
                return
            self._read = latest  # forgotten by now, and said so the next time round

    def _complete(self) -> None:
        """Once more with the next look, if it fails."""
        done = list(self._intents_to_remove)
        if done:
            self._fallback.remove_intents(done)
            for _ in done:
                self._intents_to_remove.popleft()

    def _sweep(self) -> None:
        if self._sweeper.due(self._lease.clock()):
            heartbeats = self._fallback.heartbeat_counts()
            self._fallback.remove_readers(self._sweeper.unchanged(heartbeats, self._lease.clock()))
            self._fallback.remove_intents(())


class WakeableFlag:
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
def pid_namespace() -> str:
    """Where this process's id means something: this boot of this machine, and this namespace of process ids."""
    try:
        return (
            f"{Path('/proc/sys/kernel/random/boot_id').read_text('ascii').strip()} {os.readlink('/proc/self/ns/pid')}"
        )
    except OSError:  # no Linux
        return f"unknown {secrets.token_hex(8)}"


def has_exited(reader: PollerId) -> bool:
    """Whether that process has surely ended. False if it lives elsewhere, where nobody can tell from here."""
    if reader.pid_namespace != pid_namespace():
        return False
    try:
        os.kill(reader.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
