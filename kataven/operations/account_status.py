"""Change the status of an account, and its policy for API keys.

Each operation here revokes credentials. It commits the change together with a revocation intent, waits until every
worker has applied the revocation, and returns the receipt. If the process dies in between, running the same operation
again completes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from kataven.account import api_keys
from kataven.operations.operator import Operator
from kataven.revocation.receipt import Receipt
from kataven.revocation.revocation import Intent
from kataven.revocation.target import RevocationTarget
from kataven.system import accounts, intents, operators, rotation_policy
from kataven.system.models import Account, AccountStatus, OperatorEvent

ACTIVE, SUSPENDED, ARCHIVED = AccountStatus.ACTIVE, AccountStatus.SUSPENDED, AccountStatus.ARCHIVED
FAILED, DELETING = AccountStatus.FAILED, AccountStatus.DELETING


def suspend(operator: Operator, account: str) -> Receipt:
    """Refuse all requests of an active account. Raises NoSuchAccount or WrongStatus."""
    return _change(operator, "account.suspended", account, SUSPENDED, ACTIVE)[1]


def resume(operator: Operator, account: str) -> Receipt:
    """Reactivate a suspended account. Raises NoSuchAccount or WrongStatus."""
    return _change(operator, "account.resumed", account, ACTIVE, SUSPENDED)[1]


def archive(operator: Operator, account: str) -> Receipt:
    """Refuse all requests of an account and keep its database. Raises NoSuchAccount or WrongStatus."""
    return _change(operator, "account.archived", account, ARCHIVED, ACTIVE, SUSPENDED)[1]


def restore(operator: Operator, account: str) -> Receipt:
    """Reactivate an archived account. Raises NoSuchAccount or WrongStatus."""
    return _change(operator, "account.restored", account, ACTIVE, ARCHIVED)[1]


def begin_deletion(operator: Operator, account: str) -> tuple[UUID, Receipt]:
    """Set an account to `deleting`. Returns the id of the audit event, and the receipt. Can be repeated.

    The lock of the account's database must be held. Raises NoSuchAccount, or WrongStatus if its creation has not ended.
    """
    return _change(operator, "account.deletion_begun", account, DELETING, ACTIVE, SUSPENDED, ARCHIVED, FAILED, DELETING)


def cancel_deletion(operator: Operator, account: str) -> Receipt:
    """Reactivate an account whose deletion was interrupted. Raises NoSuchAccount or WrongStatus.

    The lock of the account's database must be held: without it, a deletion in progress could still drop the database.
    """
    return _change(operator, "account.restored", account, ACTIVE, DELETING)[1]


def change_key_policy(
    operator: Operator,
    account: str,
    max_days: int | None,
    *,
    existing: bool,
    condition: Callable[[Account], None] | None = None,
) -> tuple[int, Receipt]:
    """Limit the lifetime of new API keys to `max_days` (None: no limit); `existing` shortens existing keys, too.

    Returns the number of shortened keys, and the receipt. `condition` is called with the account's row once it is
    locked. Raises what it raises, and NoSuchAccount or TenancyError.
    """
    with operator.system.writing() as session:
        row = accounts.read(session, account, lock=True)
        if condition is not None:
            condition(row)
        row.max_key_expiry_days = max_days
        detail = {"max_key_expiry_days": max_days, "existing": existing}
        event = operators.record(session, operator.name, "account.policy_changed", account, detail)
        session.flush()
        event_id, intent = event.id, add_intent(session, account)
    revoke = operator.services.revocation.revoke
    shortened = 0
    if existing and max_days is not None:
        # Two revocations: after the first, no worker issues a key under the old policy; the second covers the keys
        # that are shortened here.
        revoke(intent.target)
        with operator.sessions.writing(account) as tenant:
            shortened = api_keys.cap_expiry(tenant, max_days, operator.actor)
    receipt = revoke(intent)
    _add_receipt(operator, event_id, receipt, {"keys_shortened": shortened})
    return shortened, receipt


def change_rotation_policy(operator: Operator, account: str, days: int | None) -> None:
    """Mark keys whose secret is older than `days` as due for rotation; None: no keys. Their secrets remain accepted.

    Every worker applies it within a second. Raises NoSuchAccount or SystemSchemaBehind.
    """
    with operator.system.writing() as session:
        rotation_policy.write(session, account, days)
        operators.record(session, operator.name, "account.policy_changed", account, {"rotate_after_days": days})
    operator.services.revocation.announce(RevocationTarget(account))


def add_intent(session: Session, account: str) -> Intent:
    """Record, in the transaction of the change, that all credentials of an account are about to be revoked."""
    target = RevocationTarget(account)
    return Intent(target, str(intents.add(session, target)))


def _change(
    operator: Operator, action: str, account: str, to: AccountStatus, *allowed: AccountStatus
) -> tuple[UUID, Receipt]:
    with operator.system.writing() as session:
        event = _event_without_receipt(session, action, account, to)
        if event is None:
            accounts.move(session, account, to, *allowed)
            event = operators.record(session, operator.name, action, account)
            session.flush()
        event_id, intent = event.id, add_intent(session, account)
    receipt = operator.services.revocation.revoke(intent)
    _add_receipt(operator, event_id, receipt)
    return event_id, receipt


def _event_without_receipt(session: Session, action: str, account: str, to: AccountStatus) -> OperatorEvent | None:
    """The event of the same operation, if it was interrupted after its commit and before its receipt."""
    if accounts.read(session, account, lock=True).status != to:
        return None
    last = operators.latest(session, action, account)
    return last if last is not None and "receipt" not in last.detail else None


def _add_receipt(operator: Operator, event_id: UUID, receipt: Receipt, detail: Mapping[str, Any] | None = None) -> None:
    with operator.system.writing() as session:
        operators.add_detail(session, event_id, {**(detail or {}), "receipt": receipt.as_json()})
