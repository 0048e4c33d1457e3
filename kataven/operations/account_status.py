"""Closing accounts and tightening their policy: the operators' half of "revoked means revoked".

Each of these ends credentials that were good a moment ago, so each commits, together with the intent to revoke, has
every worker forget, and only then returns, with the receipt. If it was cut off in between, the same again completes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from kataven.revocation.receipt import Receipt
from kataven.revocation.revocation import Intent
from kataven.revocation.target import RevocationTarget
from kataven.system import accounts, intents, operators
from kataven.system.database import SystemDatabase
from kataven.system.models import Account, AccountStatus, OperatorEvent

UsableKeys = Mapping[UUID, datetime | None]
"""Keys that nobody has ended, and when they end by themselves (None: never)."""

ACTIVE, SUSPENDED, ARCHIVED = AccountStatus.ACTIVE, AccountStatus.SUSPENDED, AccountStatus.ARCHIVED
FAILED, DELETING = AccountStatus.FAILED, AccountStatus.DELETING


@dataclass(frozen=True, slots=True)
class OperatorContext:
    """Who acts on accounts from outside them, and with what."""

    operator: str
    system: SystemDatabase
    cap_expiry: Callable[[str, int], int]
    """Shortens the keys of an account that outlive so many days, and says how many. Raises TenancyError."""
    revoke: Callable[[Intent | RevocationTarget], Receipt]
    standing_keys: Callable[[Connection], UsableKeys]
    """The keys that are good in an account's database."""
    end_other_keys: Callable[[Connection, UsableKeys], int]
    """Ends all others in another database of the same account, and says how many there were."""
    forget_limits: Callable[[str], None]
    """Lets an account of this name begin with nothing used of its rate limits. Does not raise."""


def suspend(office: OperatorContext, account: str) -> Receipt:
    """Close an account for now. Raises NoSuchAccount or WrongStatus."""
    return _move(office, "account.suspended", account, SUSPENDED, ACTIVE)[1]


def resume(office: OperatorContext, account: str) -> Receipt:
    """Open a suspended account again. Raises NoSuchAccount or WrongStatus."""
    return _move(office, "account.resumed", account, ACTIVE, SUSPENDED)[1]


def archive(office: OperatorContext, account: str) -> Receipt:
    """Close an account for good, and keep its database. Raises NoSuchAccount or WrongStatus."""
    return _move(office, "account.archived", account, ARCHIVED, ACTIVE, SUSPENDED)[1]


def restore(office: OperatorContext, account: str) -> Receipt:
    """Open an archived account again, or one that was to be deleted. Raises NoSuchAccount or WrongStatus."""
    return _move(office, "account.restored", account, ACTIVE, ARCHIVED, DELETING)[1]


def begin_deletion(office: OperatorContext, account: str) -> tuple[UUID, Receipt]:
    """Close an account for ever, whatever it was before; with the event that says so. May be repeated."""
    return _move(office, "account.deletion_begun", account, DELETING, ACTIVE, SUSPENDED, ARCHIVED, FAILED, DELETING)


def limit_expiry(
    office: OperatorContext,
    account: str,
    max_days: int | None,
    *,
    existing: bool,
    condition: Callable[[Account], None] | None = None,
) -> tuple[int, Receipt]:
    """Let keys live at most `max_days` from now on (None: for ever), and with `existing` those that are there too.

    How many keys were shortened, and the receipt. Raises NoSuchAccount, TenancyError, and what the condition raises:
    it looks at the account's row once it is locked.
    """
    with office.system.writing() as session:
        row = accounts.read(session, account, lock=True)
        if condition is not None:
            condition(row)
        row.max_key_expiry_days = max_days
        detail = {"max_key_expiry_days": max_days, "existing": existing}
        event = operators.record(session, office.operator, "account.policy_changed", account, detail)
        session.flush()
        event_id, ending = event.id, begin_ending(session, account)
    # Once so that no worker mints under the old policy any more, and once for the keys that this shortens.
    shortened = 0
    if existing and max_days is not None:
        office.revoke(ending.target)
        shortened = office.cap_expiry(account, max_days)
    receipt = office.revoke(ending)
    _note(office, event_id, receipt, {"keys_shortened": shortened})
    return shortened, receipt


def begin_ending(session: Session, account: str) -> Intent:
    """Write down, with the change itself, that all that belongs to an account is about to end."""
    scope = RevocationTarget(account)
    return Intent(scope, str(intents.add(session, scope)))


def _move(
    office: OperatorContext, action: str, account: str, to: AccountStatus, *allowed: AccountStatus
) -> tuple[UUID, Receipt]:
    with office.system.writing() as session:
        event = _cut_off(session, action, account, to)
        if event is None:
            accounts.move(session, account, to, *allowed)
            event = operators.record(session, office.operator, action, account)
            session.flush()
        event_id, ending = event.id, begin_ending(session, account)
    receipt = office.revoke(ending)
    _note(office, event_id, receipt, {})
    return event_id, receipt


def _cut_off(session: Session, action: str, account: str, to: AccountStatus) -> OperatorEvent | None:
    """The event of an operator who did the same and was cut off before the receipt: what is left is to give one."""
    if accounts.read(session, account, lock=True).status != to:
        return None
    last = operators.latest(session, action, account)
    return last if last is not None and "receipt" not in last.detail else None


def _note(office: OperatorContext, event_id: UUID, receipt: Receipt, detail: Mapping[str, Any]) -> None:
    with office.system.writing() as session:
        operators.add_detail(session, event_id, {**detail, "receipt": receipt.as_json()})
