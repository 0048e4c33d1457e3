"""When a key was last used, kept off the request's path.

A request leaves a note in memory. A thread writes the notes, at most one a minute for a key whatever number of workers
see it, and the first use of a key within milliseconds, because removing a key asks whether it was ever used.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import or_, update
from sqlalchemy.orm import Session

from kataven.account.models import ApiKey

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 60.0
SETTLE_SECONDS = 0.05
MAX_REMEMBERED = 100_000

Write = Callable[[str, Mapping[str, datetime]], None]
"""Stores an account's notes, `{key_id: when}`; may raise anything."""


class LastUsedTracker:
    """The notes of one worker process."""

    def __init__(self, write: Write, clock: Callable[[], float] = time.time) -> None:
        self._write = write
        self._clock = clock
        self._noted: dict[str, float] = {}
        self._pending: dict[str, dict[str, datetime]] = {}
        self._unwritten: set[str] = set()
        self._lock = threading.Lock()
        self._written = threading.Condition(self._lock)
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def note(self, account: str, key_id: str) -> None:
        """This key is being used now. Costs a dictionary look-up, but once a minute."""
        now = self._clock()
        if now - self._noted.get(key_id, 0.0) < INTERVAL_SECONDS:
            return
        with self._lock:
            if len(self._noted) >= MAX_REMEMBERED:
                self._noted.clear()
            self._noted[key_id] = now
            self._pending.setdefault(account, {})[key_id] = datetime.fromtimestamp(now, UTC)
            self._unwritten.add(key_id)
        self._wake.set()

    def flush(self) -> None:
        """Write every note. An account that can't be written loses its notes and gets the next ones."""
        with self._lock:
            pending, self._pending = self._pending, {}
        for account, uses in pending.items():
            try:
                self._write(account, uses)
            except Exception as error:
                # Whatever one account's database does, the next one's notes are written.
                log.warning("last use not stored", extra={"account": account, "error": type(error).__name__})
                self._forget(uses)
            with self._written:
                self._unwritten.difference_update(uses)
                self._written.notify_all()

    def settle(self, key_id: str | None) -> None:
        """Return when every note of this key, or with None of all keys, is written, or after `SETTLE_SECONDS`.

        For whoever ends a key and then asks whether it was ever used. Costs nothing but in the moment of a first use.
        """
        with self._written:
            self._written.wait_for(lambda: not self._awaits(key_id), SETTLE_SECONDS)

    def start(self) -> None:
        """Begin writing, in a thread of this process."""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="last-used", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what is left and end the thread."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None
        self.flush()

    def _awaits(self, key_id: str | None) -> bool:
        return bool(self._unwritten) if key_id is None else key_id in self._unwritten

    def _forget(self, uses: Mapping[str, datetime]) -> None:
        with self._lock:
            for key_id in uses:
                self._noted.pop(key_id, None)

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait()
            self._wake.clear()
            self.flush()


def store(session: Session, uses: Mapping[str, datetime]) -> None:
    """Write an account's notes, skipping keys that another worker wrote within the interval."""
    for key_id, at in sorted(uses.items()):
        stale = at - timedelta(seconds=INTERVAL_SECONDS)
        session.execute(
            update(ApiKey)
            .where(ApiKey.id == UUID(key_id), or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < stale))
            .values(last_used_at=at)
        )
