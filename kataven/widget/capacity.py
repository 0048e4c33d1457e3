"""How many visits may be kept at a time, so that strangers who begin visits can't fill Redis.

A widget key is public and an `Origin` can be made up, so anybody can begin visits of any account that has a widget.
Each is kept for two hours. What is kept is counted for each widget key, each account and the whole installation, in
Redis, in the same step that keeps one more.
"""

from __future__ import annotations

from dataclasses import dataclass

from kataven.widget.errors import TooManyVisits
from kataven.widget.store import WidgetStore

TOTAL = 100_000
PER_ACCOUNT = 20_000


@dataclass(frozen=True, slots=True)
class SessionCounters:
    """The counters of one widget key, its account and the installation, and the most that each may say."""

    counters: tuple[str, str, str]
    limits: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Capacity:
    """The most visits of the installation and of an account; of a widget key half as many as of an account."""

    total: int = TOTAL
    per_account: int = PER_ACCOUNT

    def session_counters(self, store: WidgetStore, account: str, widget_key_id: str) -> SessionCounters:
        """Where visits by this widget key are counted."""
        counters = (
            store.key("visits-of-key", f"{account}:{widget_key_id}"),
            store.key("visits-of-account", account),
            store.key("visits", "all"),
        )
        return SessionCounters(counters, (max(1, self.per_account // 2), self.per_account, self.total))


LIMIT_NAMES = ("widget-key-visits", "account-visits", "visits")
"""Which of the counters is full, as metrics name it."""


def refusal(found: list[str | None]) -> TooManyVisits:
    """The refusal for what a script answers when there is no room: `full`, which counter, milliseconds to wait."""
    which, milliseconds = int(found[1] or 0), int(found[2] or 0)
    return TooManyVisits(LIMIT_NAMES[which], max(1, -(-milliseconds // 1000)))
