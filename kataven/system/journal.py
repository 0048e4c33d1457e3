"""The revocation journal: a second record of each revoked key, in the system database.

The revocation itself is a row in the account's database. A failover of that server can lose its latest commits, and
a restored backup lacks them, so the key's row can be valid again. The journal is in another database, which the
failover does not affect. It is read with the account's record, so it costs a verification no round trip.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType

from sqlalchemy import ScalarSelect, bindparam, case, delete, func, literal_column, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from kataven.revocation.target import RevokedKey
from kataven.system.models import Account, JournalledKey

RETENTION_DAYS = 35
MAX_LISTED = 100
"""How many revoked keys an account's record lists. For an account with more, each key is looked up on a cache miss."""

Generations = Mapping[str, int | None]
"""The journalled keys of an account: the generation by key id."""
EMPTY: Generations = MappingProxyType({})


def add(session: Session, key: RevokedKey) -> None:
    """Record that a key is revoked. Call this only after the revocation is committed in the account's database."""
    row = insert(JournalledKey).values(account=key.account, key_id=key.key_id, generation=key.generation)
    known, new = JournalledKey.generation, row.excluded.generation
    session.execute(
        row.on_conflict_do_update(
            index_elements=[JournalledKey.account, JournalledKey.key_id],
            set_={
                "generation": case((known.is_(None) | new.is_(None), None), else_=func.greatest(known, new)),
                "revoked_at": func.clock_timestamp(),
            },
        )
    )


def expire(session: Session, retention_days: int) -> None:
    """Delete the entries that are older than any backup."""
    oldest = func.clock_timestamp() - timedelta(days=retention_days)
    session.execute(delete(JournalledKey).where(JournalledKey.revoked_at < oldest))


def listed() -> ScalarSelect[object]:
    """Up to `MAX_LISTED + 1` entries of the account in the parameter `account`, as a JSON object; NULL for none."""
    entries = (
        select(JournalledKey.key_id, JournalledKey.generation)
        .where(JournalledKey.account == bindparam("account"))
        .limit(literal_column(str(MAX_LISTED + 1)))  # no parameter: the statement is prepared
        .subquery()
    )
    return select(func.jsonb_object_agg(entries.c.key_id, entries.c.generation)).scalar_subquery()


def of_account(session: Session, account: str) -> Generations:
    """All entries of an account."""
    entries = select(JournalledKey.key_id, JournalledKey.generation).where(JournalledKey.account == account)
    return {row.key_id: row.generation for row in session.execute(entries)}


def of_key(session: Session, account: str, *key_ids: str) -> Generations:
    """The entries of one key and of its secrets, if they are journalled."""
    entries = select(JournalledKey.key_id, JournalledKey.generation).where(
        JournalledKey.account == account, JournalledKey.key_id.in_(key_ids)
    )
    return {row.key_id: row.generation for row in session.execute(entries)}


def accounts_on(session: Session, server: str) -> list[str]:
    """The accounts on a server that have entries."""
    has_entries = select(JournalledKey.account).where(JournalledKey.account == Account.account_id).exists()
    found = select(Account.account_id).where(Account.server == server, has_entries)
    return list(session.scalars(found.order_by(Account.account_id)))


def covers(entries: Generations, key_id: str, generation: int | None = None) -> bool:
    """Whether the key is revoked. `generation` is that of a widget key, which can be enabled again."""
    if key_id not in entries:
        return False
    revoked_below = entries[key_id]
    return revoked_below is None or generation is None or generation < revoked_below
