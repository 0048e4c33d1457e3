"""Detects that a database server has another history than before, for example because a failover promoted a replica.

The history of a server is its system identifier and its timeline. A promotion and a recovery from a backup start a new
timeline, and commits of the old one may be missing from it. The history is read when a connection is opened. Later
connections to the same server only check, with their first statement, that it is still the same running server.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from kataven.tenancy.dialect import server_key
from kataven.tenancy.directory import Tenant
from kataven.tenancy.pg_connection import ServerInstance

_log = logging.getLogger(__name__)

UNSETTLED_SECONDS = 600.0
"""How long after a change of history a process may still commit on the old server, where the commit will be lost. A
primary that was paused or cut off, and resumes, does that until it is demoted."""


@dataclass(frozen=True, slots=True)
class HistoryReport:
    """A history that this process has not seen before at this server. `account` is one of the server's accounts."""

    account: str
    history: str
    is_change: bool
    """Whether this process had seen another history. False for the first connection to a server."""


class ServerHistories:
    """The histories that the connections of this process found. Thread-safe."""

    def __init__(self, unsettled_seconds: float = UNSETTLED_SECONDS, clock: Callable[[], float] = monotonic) -> None:
        self.unsettled_seconds = unsettled_seconds
        self._clock = clock
        self._unsettled_until = 0.0
        self.changes = 0
        """Counter: how often a server had another history than before."""
        self._lock = threading.Lock()
        self._seen: dict[object, str] = {}
        self._instances: dict[object, ServerInstance] = {}
        self._reports: deque[HistoryReport] = deque()
        self._subscribers: list[Callable[[], None]] = []

    def subscribe(self, on_change: Callable[[], None]) -> None:
        """Have `on_change()` called when a history changes, in the connecting thread and before the result of its first
        statement."""
        self._subscribers.append(on_change)

    def changed_recently(self) -> bool:
        """Whether a server has had another history for less than `unsettled_seconds`."""
        return self._clock() < self._unsettled_until

    def may_have_changed(self) -> bool:
        """Whether a server has another history since recently, or its history was not compared with the recorded one
        yet."""
        return bool(self._reports) or self.changed_recently()

    def mark_unsettled(self, seconds: float) -> None:
        """A server has another history, which will be settled in `seconds`."""
        self._unsettled_until = max(self._unsettled_until, self._clock() + seconds)

    def instance_of(self, tenant: Tenant) -> ServerInstance | None:
        """The instance of the tenant's server that had the history that was seen last; None if none was seen."""
        return self._instances.get(server_key(tenant.url))

    def observe(self, tenant: Tenant, history: str, instance: ServerInstance | None = None) -> bool:
        """A new connection to the tenant's database found this history. Returns whether it was another one before."""
        server = server_key(tenant.url)
        with self._lock:
            if instance is not None:
                self._instances[server] = instance
            before = self._seen.get(server)
            if before == history:
                return False
            self._seen[server] = history
            if before is not None:
                self.changes += 1
                self.mark_unsettled(self.unsettled_seconds)
            self._reports.append(HistoryReport(tenant.account, history, before is not None))
        if before is not None:
            _log.warning(
                "the database server of %s has another history (system identifier/timeline): %s, before: %s."
                " Commits may be lost. The caches are cleared and the revocation journal is applied again",
                tenant.account,
                history,
                before,
            )
            for on_change in self._subscribers:
                on_change()
        return before is not None

    def count_change(self) -> None:
        """Count a change that happened before this process connected for the first time."""
        with self._lock:
            self.changes += 1

    def next_report(self) -> HistoryReport | None:
        """The oldest report that was not taken yet."""
        with self._lock:
            return self._reports.popleft() if self._reports else None

    def report_again(self, report: HistoryReport) -> None:
        """Return a report that could not be handled yet."""
        with self._lock:
            self._reports.append(report)
