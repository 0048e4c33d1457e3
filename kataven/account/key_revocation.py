"""Revokes a key of an account: the one sequence for the API, the Hub, the console and the commands.

    change the row · `write_intent` · commit · `complete`

`write_intent` is the last step of the transaction. If the process dies before `complete` returns, the workers evict the
credentials on their own when the intent is due.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from uuid import UUID

from sqlalchemy.orm import Session

from kataven.account import audit
from kataven.revocation.receipt import Receipt
from kataven.revocation.revocation import Intent, Revocation
from kataven.revocation.target import RevocationTarget, RevokedKey, secrets_of


def write_intent(
    revocation: Revocation,
    account: str,
    key_id: str,
    *,
    revoked: bool = True,
    generation: int | None = None,
    secrets_below: int | None = None,
) -> Intent:
    """Record a revocation intent for a key.

    `revoked` is False if the change only restricts the key, so that it must not be journalled as revoked. `generation`
    is set for a widget key: generations below it are revoked. `secrets_below` is set if only former secrets of the key
    end: those of lower generations.
    """
    revoked_key = RevokedKey(account, key_id, generation) if revoked else None
    if secrets_below is not None:
        revoked_key = RevokedKey(account, secrets_of(key_id), secrets_below)
    return revocation.write_intent(RevocationTarget(account, key_id), revoked_key)


def complete_together(
    revocation: Revocation,
    intent: Intent,
    revoked_key_ids: Sequence[UUID],
    event_ids: Sequence[UUID],
    writing: Callable[[], AbstractContextManager[Session]],
) -> Receipt:
    """Like `complete`, for several keys of the account that `intent` covers. Every event gets the same receipt."""
    account = intent.target.account
    assert account is not None  # noqa: S101  the intent names an account
    receipt = revocation.revoke_together(intent, [RevokedKey(account, str(key_id)) for key_id in revoked_key_ids])
    if event_ids:
        with writing() as session:
            for event_id in event_ids:
                audit.add_detail(session, event_id, receipt.as_detail())
    return receipt


def complete(
    revocation: Revocation,
    intent: Intent,
    event_id: UUID | None,
    writing: Callable[[], AbstractContextManager[Session]],
) -> Receipt:
    """Evict the key from every worker's cache, and wait until every worker has acknowledged.

    Adds the receipt to the audit event `event_id`, which was committed with the change, in a session from `writing`.
    Raises RevocationUnconfirmed if neither Redis nor the system database is reachable, and ChangeLost if the event does
    not exist any more.
    """
    receipt = revocation.revoke(intent)
    if event_id is not None:
        with writing() as session:
            audit.add_detail(session, event_id, receipt.as_detail())
    return receipt
