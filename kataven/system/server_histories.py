"""The history of each database server as the journal was last replayed for it: its system identifier and timeline."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from kataven.system.models import Account, ServerHistory
from kataven.system.servers import DEFAULT_SERVER
from kataven.tenancy.names import SYSTEM_DATABASE

CLAIM_SECONDS = 300
"""How long a claim is valid. A process that dies during a replay delays the replay by this time."""


def server_of(session: Session, account: str) -> str | None:
    """The name of the server that holds the database of an account; None if the account does not exist."""
    if account == SYSTEM_DATABASE:
        return DEFAULT_SERVER
    return session.scalar(select(Account.server).where(Account.account_id == account))


def recorded(session: Session, server: str, history: str) -> str:
    """The recorded history of a server. If none is recorded, `history` is recorded first."""
    session.execute(insert(ServerHistory).values(server=server, history=history).on_conflict_do_nothing())
    return session.execute(select(ServerHistory.history).where(ServerHistory.server == server)).scalar_one()


def claim(session: Session, server: str) -> bool:
    """Claim the replay for a server. Returns False while another process has claimed it."""
    now = func.clock_timestamp()
    is_free = or_(ServerHistory.claimed_at.is_(None), ServerHistory.claimed_at < now - timedelta(seconds=CLAIM_SECONDS))
    claimed = update(ServerHistory).where(ServerHistory.server == server, is_free).values(claimed_at=now)
    return session.execute(claimed.returning(ServerHistory.server)).first() is not None


def release(session: Session, server: str, history: str | None = None) -> None:
    """Release the claim. `history` is recorded if the replay is complete."""
    values = {"claimed_at": None} if history is None else {"claimed_at": None, "history": history}
    session.execute(update(ServerHistory).where(ServerHistory.server == server).values(values))
