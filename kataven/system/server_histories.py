"""The history of each database server as the journal was last replayed for it: its system identifier and timeline."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from kataven.system.models import Account, ServerHistory
from kataven.system.servers import DEFAULT_SERVER
from kataven.tenancy.names import SYSTEM_DATABASE

CLAIM_SECONDS = 300
"""How long a claim is valid. A process that dies during a replay delays the replay by this time."""


@dataclass(frozen=True, slots=True)
class RecordedHistory:
    """The recorded history of a server."""

    history: str
    settled: bool
    """False if the journal must be replayed once more."""
    changed_seconds_ago: float
    """Infinite if the history never changed."""


def server_of(session: Session, account: str) -> str | None:
    """The name of the server that holds the database of an account; None if the account does not exist."""
    if account == SYSTEM_DATABASE:
        return DEFAULT_SERVER
    return session.scalar(select(Account.server).where(Account.account_id == account))


def recorded(session: Session, server: str, history: str) -> RecordedHistory:
    """The recorded history of a server. If none is recorded, `history` is recorded first."""
    session.execute(insert(ServerHistory).values(server=server, history=history).on_conflict_do_nothing())
    age = func.extract("epoch", func.clock_timestamp() - ServerHistory.changed_at)
    columns = select(ServerHistory.history, ServerHistory.settled, age).where(ServerHistory.server == server)
    found, settled, seconds = session.execute(columns).one()
    return RecordedHistory(found, settled, float("inf") if seconds is None else float(seconds))


def is_unsettled(session: Session, server: str) -> bool:
    """Whether the journal must be replayed once more for a server."""
    return session.scalar(select(ServerHistory.settled).where(ServerHistory.server == server)) is False


def claim(session: Session, server: str) -> bool:
    """Claim the replay for a server. Returns False while another process has claimed it."""
    now = func.clock_timestamp()
    is_free = or_(ServerHistory.claimed_at.is_(None), ServerHistory.claimed_at < now - timedelta(seconds=CLAIM_SECONDS))
    claimed = update(ServerHistory).where(ServerHistory.server == server, is_free).values(claimed_at=now)
    return session.execute(claimed.returning(ServerHistory.server)).first() is not None


def release(session: Session, server: str, history: str | None = None, *, settled: bool = False) -> None:
    """Release the claim. `history` is recorded if the replay is complete, and `settled` if it was the last one."""
    values: dict[str, object] = {"claimed_at": None}
    if settled:
        values["settled"] = True
    elif history is not None:
        values |= {"history": history, "changed_at": func.clock_timestamp(), "settled": False}
    session.execute(update(ServerHistory).where(ServerHistory.server == server).values(values))
