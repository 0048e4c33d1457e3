"""Count the usable keys under each pepper, over all accounts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from kataven.account import peppers
from kataven.operations.operator import Operator
from kataven.system import accounts
from kataven.system.models import AccountStatus
from kataven.tenancy.errors import TenancyError

WITH_DATABASE = frozenset({AccountStatus.ACTIVE, AccountStatus.SUSPENDED, AccountStatus.ARCHIVED})


@dataclass(slots=True)
class PepperUse:
    """The keys under each pepper."""

    by_account: dict[str, Counter[str]] = field(default_factory=dict)
    """The number of usable keys by account and pepper."""
    created: dict[str, tuple[datetime, datetime]] = field(default_factory=dict)
    """When the first and the last key under each pepper was created."""
    unreachable: list[str] = field(default_factory=list)
    """The accounts whose database is unavailable."""

    def total(self) -> Counter[str]:
        return sum(self.by_account.values(), Counter[str]())

    def current_since(self, older: Iterable[str]) -> datetime | None:
        """The latest time by which the current pepper had come into use, as far as the keys show; None without keys.

        No key was created under an older pepper after it was replaced. With only one pepper, its first key counts.
        """
        replaced = [self.created[name][1] for name in older if name in self.created]
        return max(replaced) if replaced else min((first for first, _ in self.created.values()), default=None)


def count(operator: Operator) -> PepperUse:
    """Raises SystemDatabaseUnavailable."""
    with operator.system.reading() as session:
        names = [account.account_id for account in accounts.listing(session) if account.status in WITH_DATABASE]
    use = PepperUse()
    for name in names:
        try:
            with operator.sessions.reading(name) as tenant:
                use.by_account[name] = peppers.in_use(tenant)
                created = peppers.created(tenant)
        except TenancyError:
            use.unreachable.append(name)
            continue
        for pepper, times in created.items():
            known = use.created.get(pepper, times)
            use.created[pepper] = min(known[0], times[0]), max(known[1], times[1])
    return use
