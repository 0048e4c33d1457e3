"""The worker's second background thread: polls the fallback channel and writes the worker's heartbeats.

    poll → new notice, new home Redis, or heartbeat due? → write a heartbeat → clear the caches → write that the notice
           was read

It is separate from the subscriber's thread, so that a slow system database does not delay events.
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
from threading import Thread

from kataven.background import WakeableFlag
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
from kataven.revocation.target import RevokedKey

HEARTBEATS_PER_LEASE = 4
POLLS_PER_LEASE = 2
"""Per lease from Redis, so that a revocation through a fallback notice takes about half a lease."""

_log = logging.getLogger(__name__)


class FallbackPoller:
    """One thread between `start` and `stop`. Must be started after a fork, never before."""

    def __init__(self, guard: Guard, fallback: FallbackChannel) -> None:
        self._guard = guard
        self._fallback = fallback
        self._lease = guard.reader_lease
        self._poll_interval = guard.lease.seconds / POLLS_PER_LEASE
        self._sweeper: Sweeper[PollerId, int] = Sweeper(expiry_wait_seconds(guard.reader_lease.seconds))
        self._stopping = WakeableFlag()
        self._thread: Thread | None = None
        self._read: FallbackNotice | None = None
        self._heartbeat_due_at = -math.inf
        self._heartbeat_count = 0
        self._intents_to_remove: deque[str] = deque()
        self._keys_to_journal: deque[RevokedKey] = deque()
        self.id = PollerId("", "", 0)

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the thread, unless it is running. Returns immediately."""
        if self.running:
            return
        self.id = PollerId(secrets.token_hex(8), pid_namespace(), os.getpid())
        self._read, self._heartbeat_due_at = None, -math.inf
        self._stopping = WakeableFlag()
        self._thread = Thread(target=self.run, args=(self._stopping,), name="fallback-poller", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, then give up the reader lease and remove this worker from the list of readers."""
        if self._thread is None:
            return
        self._stopping.set()
        self._thread.join()
        self._thread = None
        self._lease.drop()
        self._guard.home_written("")
        with suppress(FallbackUnreachable):  # if this fails, the lease expires and another worker removes this one
            self._remove_intents()
            self._journal_keys()
            self._fallback.deregister(self.id)

    def poll_soon(self) -> None:
        """Poll now, because this worker has a new home Redis to write. Safe to call from any thread."""
        self._stopping.wake()

    def remove_intent_later(self, intent: str) -> None:
        """Remove an intent at the next poll, so that its revoker need not wait for the write."""
        self._intents_to_remove.append(intent)

    def journal_later(self, key: RevokedKey) -> None:
        """Journal a key at the next poll that reaches the channel."""
        self._keys_to_journal.append(key)

    def run(self, stopping: WakeableFlag) -> None:
        """The thread's loop. Returns when `stopping` is set."""
        reached = True
        while not stopping.is_set():
            try:
                self.poll()
                reached = True
            except FallbackUnreachable as error:
                # A warning once per outage. If the outage lasts, the reader lease expires.
                level = logging.WARNING if reached else logging.DEBUG
                _log.log(level, "revocation: the fallback channel is unreachable: %s", error)
                reached = False
            except BaseException:  # for example a cache that fails to evict: without a lease it is not used
                _log.exception("revocation: this worker cannot poll the fallback channel")
            stopping.wait(self._poll_interval)

    def poll(self) -> None:
        """Read the channel, and write a heartbeat if the notice or the home Redis is new, or if a heartbeat is due.

        An intent that is older than the poll interval belongs to a revoker that is slow or has died. Its change may be
        committed at any time, so this worker evicts what it covers at each poll until the intent is removed.
        """
        self._remove_intents()
        self._journal_keys()
        state = self._fallback.read_state(self._poll_interval)
        for target in state.overdue:
            self._guard.apply_intent(target)
        _, home_is_new = self._guard.home_to_write()
        if not home_is_new and self._lease.clock() < self._heartbeat_due_at and state.notice == self._read:
            return
        self._write_heartbeat()
        self._sweep()

    def _write_heartbeat(self) -> None:
        while True:
            redis, _ = self._guard.home_to_write()
            counted_from = self._lease.clock()
            self._heartbeat_count += 1
            latest = self._fallback.write_heartbeat(PollerHeartbeat(self.id, self._heartbeat_count, self._read, redis))
            self._guard.home_written(redis)
            self._guard.apply_notice(counted_from, latest)
            if latest == self._read:
                self._heartbeat_due_at = counted_from + self._lease.seconds / HEARTBEATS_PER_LEASE
                return
            self._read = latest  # the caches are cleared; the next iteration writes that

    def _remove_intents(self) -> None:
        """Remove the intents whose receipts were returned. If this fails, the next poll repeats it."""
        done = list(self._intents_to_remove)
        if done:
            self._fallback.remove_intents(done)
            for _ in done:
                self._intents_to_remove.popleft()

    def _journal_keys(self) -> None:
        while self._keys_to_journal:
            self._fallback.journal(self._keys_to_journal[0])
            self._keys_to_journal.popleft()

    def _sweep(self) -> None:
        if self._sweeper.due(self._lease.clock()):
            heartbeats = self._fallback.heartbeat_counts()
            self._fallback.remove_readers(self._sweeper.unchanged(heartbeats, self._lease.clock()))
            self._fallback.remove_intents(())
            self._fallback.expire_journal()


@cache
def pid_namespace() -> str:
    """Where the pid of this process is unique: this boot of this machine, and this PID namespace."""
    try:
        return (
            f"{Path('/proc/sys/kernel/random/boot_id').read_text('ascii').strip()} {os.readlink('/proc/self/ns/pid')}"
        )
    except OSError:  # not Linux
        return f"unknown {secrets.token_hex(8)}"


def has_exited(reader: PollerId) -> bool:
    """Whether that process has certainly ended. False in another PID namespace, where this cannot be checked."""
    if reader.pid_namespace != pid_namespace():
        return False
    try:
        os.kill(reader.pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False
