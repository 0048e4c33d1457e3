"""End the sessions of a user as an operator, in one account or in all; block a user in an account."""

from __future__ import annotations

from collections.abc import Callable

from kataven.identity.people import Person
from kataven.operations.operator import Operator
from kataven.people.access import Cause, PeopleAccess
from kataven.revocation.receipt import Receipt
from kataven.system import operators

ENDED = "person.sessions_ended"
BLOCKED = "person.blocked"
UNBLOCKED = "person.unblocked"
"""The actions in the operator audit log."""


def end_sessions(operator: Operator, person: Person, account: str | None) -> Receipt:
    """Return when no worker accepts what was issued to the user until now. Can be repeated.

    Raises NoSuchAccount or SystemDatabaseUnavailable; RevocationUnconfirmed if the sessions have ended but no receipt
    could be obtained. An event without a receipt in the operator audit log was not confirmed.
    """
    if account is not None:
        operator.read_account(account)
    cause = Cause("ended by an operator", f"operator:{operator.name}")
    return _recorded(operator, ENDED, account, person, lambda access: access.end_sessions(person, account, cause))


def block(operator: Operator, person: Person, name: str, account: str) -> Receipt:
    """Return when no worker accepts the user in the account. Can be repeated. Raises as `end_sessions`."""
    operator.read_account(account)
    cause = Cause("ended by an operator", f"operator:{operator.name}")
    return _recorded(operator, BLOCKED, account, person, lambda access: access.block(person, name, account, cause))


def lift(operator: Operator, subject: str, account: str) -> bool:
    """Lift a block, by the id of the user. Returns whether the user was blocked."""
    operator.read_account(account)
    with operator.system.writing() as session:
        operators.record(session, operator.name, UNBLOCKED, account, {"person": subject})
    access = PeopleAccess(operator.system, operator.services.revocation, "")
    return access.lift(subject, account)


def _recorded(
    operator: Operator, action: str, account: str | None, person: Person, change: Callable[[PeopleAccess], Receipt]
) -> Receipt:
    with operator.system.writing() as session:
        event = operators.record(session, operator.name, action, account, {"person": person.id, "sub": person.sub})
        session.flush()
        event_id = event.id
    receipt = change(PeopleAccess(operator.system, operator.services.revocation, person.issuer))
    with operator.system.writing() as session:
        operators.add_detail(session, event_id, {"receipt": receipt.as_json()})
    return receipt
