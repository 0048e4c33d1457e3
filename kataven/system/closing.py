"""Closing accounts and tightening their policy: the operators' half of "revoked means revoked".

Each of these ends credentials that were good a moment ago, so each commits, has every worker forget, and only then
returns, with the receipt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from kataven.revocation.receipt import Receipt
from kataven.revocation.scope import Scope
from kataven.system import accounts, operators
from kataven.system.database import SystemDatabase
from kataven.system.models import AccountStatus

ACTIVE, SUSPENDED, ARCHIVED = AccountStatus.ACTIVE, AccountStatus.SUSPENDED, AccountStatus.ARCHIVED


@dataclass(frozen=True, slots=True)
class Office:
    """Who acts on accounts from outside them, and with what."""

    operator: str
    system: SystemDatabase
    cap_expiry: Callable[[str, int], int]
    """Shortens the keys of an account that outlive so many days, and says how many. Raises TenancyError."""
    revoke: Callable[[Scope], Receipt]


def suspend(office: Office, account: str) -> Receipt:
    """Close an account for now. Raises NoSuchAccount or WrongStatus."""
    return _move(office, "account.suspended", account, SUSPENDED, ACTIVE)


def resume(office: Office, account: str) -> Receipt:
    """Open a suspended or archived account again. Raises NoSuchAccount or WrongStatus."""
    return _move(office, "account.resumed", account, ACTIVE, SUSPENDED, ARCHIVED)


def archive(office: Office, account: str) -> Receipt:
    """Close an account for good, and keep its database. Raises NoSuchAccount or WrongStatus."""
    return _move(office, "account.archived", account, ARCHIVED, ACTIVE, SUSPENDED)


def limit_expiry(office: Office, account: str, max_days: int | None, *, existing: bool) -> tuple[int, Receipt]:
    """Let keys live at most `max_days` from now on (None: for ever), and with `existing` those that are there too.

    How many keys were shortened, and the receipt. Raises NoSuchAccount or TenancyError.
    """
    with office.system.writing() as session:
        accounts.read(session, account, lock=True).max_key_expiry_days = max_days
        detail = {"max_key_expiry_days": max_days, "existing": existing}
        event = operators.record(session, office.operator, "account.policy_changed", account, detail)
        session.flush()
        event_id = event.id
    # Once so that no worker mints under the old policy any more, and once for the keys that this shortens.
    receipt = office.revoke(Scope(account))
    shortened = 0
    if existing and max_days is not None:
        shortened = office.cap_expiry(account, max_days)
        receipt = office.revoke(Scope(account))
    _note(office, event_id, receipt, {"keys_shortened": shortened})
    return shortened, receipt


def _move(office: Office, action: str, account: str, to: AccountStatus, *allowed: AccountStatus) -> Receipt:
    with office.system.writing() as session:
        accounts.move(session, account, to, *allowed)
        event = operators.record(session, office.operator, action, account)
        session.flush()
        event_id = event.id
    receipt = office.revoke(Scope(account))
    _note(office, event_id, receipt, {})
    return receipt


def _note(office: Office, event_id: UUID, receipt: Receipt, detail: Mapping[str, Any]) -> None:
    with office.system.writing() as session:
        operators.add_detail(session, event_id, {**detail, "receipt": receipt.as_json()})
