"""The rotation policy of an account: after how many days the secret of an API key is due for rotation.

A secret that is due remains accepted. The API, the SDK and the Hub show which keys are due.
"""

from __future__ import annotations

from sqlalchemy import Integer, cast, column, func, literal_column, select, update
from sqlalchemy.orm import Session

from kataven.system import accounts
from kataven.system.errors import SystemSchemaBehind
from kataven.system.models import Account
from kataven.system.schema import system_has, system_revision

SINCE = "system_0009"

# Through JSON, because a system database before `system_0009` lacks the column, and workers must serve with it.
ROTATE_AFTER_DAYS = cast(func.to_jsonb(literal_column("accounts")).op("->>")("rotate_after_days"), Integer).label(
    "rotate_after_days"
)
"""A column of queries that select from Account."""


def read(session: Session, account: str) -> int | None:
    """The policy of an account in days; None for no policy, and for an unknown account."""
    return session.scalar(select(ROTATE_AFTER_DAYS).where(Account.account_id == account))


def write(session: Session, account: str, days: int | None) -> None:
    """Set the policy; None removes it. Raises NoSuchAccount or SystemSchemaBehind."""
    if not system_has(session, SINCE):
        raise SystemSchemaBehind(system_revision(session), SINCE)
    accounts.read(session, account, lock=True)
    session.execute(update(Account).where(Account.account_id == account).values({column("rotate_after_days"): days}))
