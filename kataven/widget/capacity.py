"""Limits the number of stored visitor sessions, so unauthenticated callers can't fill Redis.

A widget key is public and an `Origin` can be forged, so any caller can create visitor sessions for an account with a
widget. Each session is stored for two hours. The script that stores a session also counts sessions in Redis, per widget
key, per account and in total.
"""

from __future__ import annotations

from dataclasses import dataclass

from kataven.widget.errors import TooManySessions
from kataven.widget.store import WidgetStore

TOTAL = 100_000
PER_ACCOUNT = 20_000


@dataclass(frozen=True, slots=True)
class SessionCounters:
    """The counters of a widget key, its account and the installation, with their limits."""

    counters: tuple[str, str, str]
    limits: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Capacity:
    """The limits for the installation and for an account. A widget key can have half as many as an account."""

    total: int = TOTAL
    per_account: int = PER_ACCOUNT

    def session_counters(self, store: WidgetStore, account: str, widget_key_id: str) -> SessionCounters:
        """The counters for sessions of this widget key."""
        counters = (
            store.key("visits-of-key", f"{account}:{widget_key_id}"),
            store.key("visits-of-account", account),
            store.key("visits", "all"),
        )
        return SessionCounters(counters, (max(1, self.per_account // 2), self.per_account, self.total))


LIMIT_NAMES = ("widget-key-visits", "account-visits", "visits")
"""The names of the counters in metrics."""


def too_many_sessions(result: list[str | None]) -> TooManySessions:
    """The error for a script's result `full`, the index of the counter, and the milliseconds to wait."""
    index, milliseconds = int(result[1] or 0), int(result[2] or 0)
    return TooManySessions(LIMIT_NAMES[index], max(1, -(-milliseconds // 1000)))
