"""End the sessions of a user as an operator, in one account or in all."""

from __future__ import annotations

from kataven.identity.people import Person
from kataven.operations.operator import Operator
from kataven.people.access import Cause, PeopleAccess
from kataven.revocation.receipt import Receipt
from kataven.system import operators

ENDED = "person.sessions_ended"
"""The action in the operator audit log."""


def end_sessions(operator: Operator, person: Person, account: str | None) -> Receipt:
    """Return when no worker accepts what was issued to the user until now. Can be repeated.

    Raises NoSuchAccount or SystemDatabaseUnavailable; RevocationUnconfirmed if the sessions have ended but no receipt
    could be obtained. An event without a receipt in the operator audit log was not confirmed.
    """
    if account is not None:
        operator.read_account(account)
    with operator.system.writing() as session:
        event = operators.record(session, operator.name, ENDED, account, {"person": person.id, "sub": person.sub})
        session.flush()
        event_id = event.id
    access = PeopleAccess(operator.system, operator.services.revocation, person.issuer)
    receipt = access.end_sessions(person, account, Cause("ended by an operator", f"operator:{operator.name}"))
    with operator.system.writing() as session:
        operators.add_detail(session, event_id, {"receipt": receipt.as_json()})
    return receipt
