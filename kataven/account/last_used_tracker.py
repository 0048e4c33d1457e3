"""Records when a key was last used, without I/O on the request path.

A request records the use in memory. A background thread writes it, at most once per minute and key over all workers.
The first use of a key is written within milliseconds, because removing a key depends on whether it was ever used.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import or_, update
from sqlalchemy.orm import Session

from kataven.account.models import ApiKey
from kataven.account.rotation import LateUse
from kataven.background import BackgroundLoop

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 60.0
WAIT_SECONDS = 0.05
COMPLETION_INTERVAL_SECONDS = 1.0
"""How often the first use of a new secret is written, until this worker has read that it is recorded."""
MAX_KEYS = 100_000


@dataclass(slots=True)
class Uses:
    """The uses of one account's keys that are not stored yet."""

    keys: dict[str, datetime] = field(default_factory=dict)
    by_browsers: dict[str, datetime] = field(default_factory=dict)
    completed: dict[str, str] = field(default_factory=dict)
    """The former secrets whose grace period starts: the id of the key by the id of the secret."""
    late: dict[str, LateUse] = field(default_factory=dict)
    """By the id of the former secret."""


Write = Callable[[str, Uses], None]
"""Stores an account's uses. May raise any exception."""


class LastUsedTracker:
    """The uses that one worker process recorded."""

    def __init__(self, write: Write, clock: Callable[[], float] = time.time) -> None:
        self._write = write
        self._clock = clock
        self._recorded: dict[str, float] = {}
        self._pending: dict[str, Uses] = {}
        self._unwritten: set[str] = set()
        self._lock = threading.Lock()
        self._written = threading.Condition(self._lock)
        self._thread = BackgroundLoop("last-used", self.flush, lambda: INTERVAL_SECONDS if self._pending else None)

    def record_use(self, account: str, key_id: str) -> None:
        """Record that a key is used now. Costs a dictionary lookup, except once a minute."""
        now = self._clock()
        if now - self._recorded.get(key_id, 0.0) < INTERVAL_SECONDS:
            return
        with self._lock:
            self._remember(key_id, now)
            self._uses_of(account).keys[key_id] = datetime.fromtimestamp(now, UTC)
            self._unwritten.add(key_id)
        self._thread.wake()

    def record_browser_use(self, account: str, key_id: str) -> None:
        """Record that a browser sent a key now, and that it was refused. At most once a minute for each key."""
        now = self._clock()
        with self._lock:
            if now - self._recorded.get(f"browser {key_id}", 0.0) < INTERVAL_SECONDS:
                return
            self._remember(f"browser {key_id}", now)
            self._uses_of(account).by_browsers[key_id] = datetime.fromtimestamp(now, UTC)
        self._thread.wake()

    def record_completion(self, account: str, key_id: str, former_id: str) -> None:
        """Record that the new secret of a rotated key is used, so that the grace period of the former one starts.

        If the write fails, or this process dies, a later use of the new secret records it.
        """
        now, mark = self._clock(), f"former {former_id}"
        if now - self._recorded.get(mark, 0.0) < COMPLETION_INTERVAL_SECONDS:
            return
        with self._lock:
            self._remember(mark, now)
            self._uses_of(account).completed[former_id] = key_id
        self._thread.wake()

    def record_late_use(self, account: str, former_id: str, address: str) -> None:
        """Count a use of a former secret that was refused. Written at once, and then at most once a minute."""
        now, mark = self._clock(), f"late {former_id}"
        with self._lock:
            late, known = self._uses_of(account).late, 0
            if former_id in late:
                known = late[former_id].count
            late[former_id] = LateUse(known + 1, datetime.fromtimestamp(now, UTC), address)
            if now - self._recorded.get(mark, 0.0) < INTERVAL_SECONDS:
                return
            self._remember(mark, now)
        self._thread.wake()

    def _remember(self, mark: str, now: float) -> None:
        """For the intervals. The caller holds the lock."""
        if len(self._recorded) >= MAX_KEYS:
            self._recorded.clear()
        self._recorded[mark] = now

    def _uses_of(self, account: str) -> Uses:
        return self._pending.setdefault(account, Uses())

    def flush(self) -> None:
        """Write all recorded uses. If this fails for an account, its uses are lost, but not its later uses."""
        with self._lock:
            pending, self._pending = self._pending, {}
        for account, uses in pending.items():
            try:
                self._write(account, uses)
            except Exception as error:
                # An error in one account's database must not prevent writing the uses of other accounts.
                log.warning("last use not stored", extra={"account": account, "error": type(error).__name__})
                self._forget([*uses.keys, *(f"former {former_id}" for former_id in uses.completed)])
            with self._written:
                self._unwritten.difference_update(uses.keys)
                self._written.notify_all()

    def wait_until_written(self, key_id: str | None) -> None:
        """Wait until all uses of this key, or of all keys with None, are written, at most `WAIT_SECONDS`.

        Called after a key was revoked and before checking whether it was ever used. Returns immediately unless a first
        use is being written.
        """
        with self._written:
            self._written.wait_for(lambda: not self._is_pending(key_id), WAIT_SECONDS)

    def start(self) -> None:
        """Start the background thread of this process."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and write the remaining uses."""
        self._thread.stop(timeout=5)
        self.flush()

    def _is_pending(self, key_id: str | None) -> bool:
        return bool(self._unwritten) if key_id is None else key_id in self._unwritten

    def _forget(self, recorded: Iterable[str]) -> None:
        with self._lock:
            for mark in recorded:
                self._recorded.pop(mark, None)


def store_browser_uses(session: Session, uses: Mapping[str, datetime]) -> None:
    """Write when browsers sent an account's keys, except for keys that another worker updated within the interval."""
    for key_id, at in sorted(uses.items()):
        stale = at - timedelta(seconds=INTERVAL_SECONDS)
        session.execute(
            update(ApiKey)
            .where(ApiKey.id == UUID(key_id), or_(ApiKey.browser_use_at.is_(None), ApiKey.browser_use_at < stale))
            .values(browser_use_at=at)
        )


def store(session: Session, uses: Mapping[str, datetime]) -> None:
    """Write an account's uses, except for keys that another worker updated within the interval."""
    for key_id, at in sorted(uses.items()):
        stale = at - timedelta(seconds=INTERVAL_SECONDS)
        session.execute(
            update(ApiKey)
            .where(ApiKey.id == UUID(key_id), or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < stale))
            .values(last_used_at=at)
        )
