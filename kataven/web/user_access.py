"""Ends the sessions of a user of the account, and blocks users: the same steps for the API and for the Hub's pages.

The two databases have no common transaction. The event is recorded in the account's audit log first, then the system
database is changed, and then the receipt is added to the event. An event without a receipt is a change that may not
have been applied; the request can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from kataven.account import audit, people
from kataven.account.errors import Conflict
from kataven.account.models import SeenPerson
from kataven.identity.people import Person
from kataven.identity.principal import Role
from kataven.people.access import Cause
from kataven.revocation.receipt import Receipt
from kataven.system.cutoffs import Block
from kataven.web.access import Forbidden
from kataven.web.request_context import RequestContext


@dataclass(frozen=True, slots=True)
class SeenUser:
    """A user of the account, after the session on its database has ended."""

    id: UUID
    name: str
    role: str
    created_at: datetime
    last_seen_at: datetime


def end_sessions(context: RequestContext, person_id: UUID) -> tuple[SeenUser, Receipt, UUID]:
    """Refuse what was issued to the user until now, in this account. Returns the receipt and its audit event as well.
    Raises NotFound, Forbidden, and the errors of `PeopleAccess`."""
    cause = Cause("ended by an owner or admin", context.actor.label)
    return _restrict(
        context,
        person_id,
        "person.sessions_ended",
        {},
        lambda person, _: context.services.people.end_sessions(person, context.account.account, cause),
    )


def block(context: RequestContext, person_id: UUID, reason: str, *, confirmed: bool) -> tuple[SeenUser, Receipt, UUID]:
    """Refuse the user in this account until the block is lifted. Raises Conflict as well, if `confirmed` is required:
    for the caller, and for the last owner."""
    if not confirmed:
        _require_other_owner(context, person_id)
    cause = Cause(reason, context.actor.label)
    return _restrict(
        context,
        person_id,
        "person.blocked",
        {"reason": reason},
        lambda person, name: context.services.people.block(person, name, context.account.account, cause),
    )


def lift(context: RequestContext, person_id: UUID) -> SeenUser:
    """Lift a block. Raises NotFound or Forbidden."""
    with context.writing() as session:
        person = people.read(session, person_id)
        _require_authority(context, person)
        found = _seen_user(person)
        audit.record(session, context.actor, "person.unblocked", person_id, {"name": person.name})
    context.services.people.lift(str(person_id), context.account.account)
    return found


def blocks(context: RequestContext) -> dict[str, Block]:
    """The blocks of the account, by the id of the user."""
    return {one.subject: one for one in context.services.people.blocks(context.account.account)}


def _restrict(
    context: RequestContext,
    person_id: UUID,
    action: str,
    detail: Mapping[str, Any],
    change: Callable[[Person, str], Receipt],
) -> tuple[SeenUser, Receipt, UUID]:
    with context.writing() as session:
        seen = people.read(session, person_id)
        _require_authority(context, seen)
        person, found = Person(seen.issuer, seen.sub), _seen_user(seen)
        event = audit.record(session, context.actor, action, person_id, {"name": found.name, **detail})
        session.flush()
        event_id = event.id
    receipt = change(person, found.name)
    with context.writing() as session:
        audit.add_detail(session, event_id, receipt.as_detail())
    return found, receipt, event_id


def _seen_user(person: SeenPerson) -> SeenUser:
    return SeenUser(person.id, person.name, person.role, person.created_at, person.last_seen_at)


def _require_authority(context: RequestContext, person: SeenPerson) -> None:
    """An admin must not take an owner's access away."""
    if person.role == Role.OWNER and context.principal.role is not Role.OWNER:
        raise Forbidden("Only owners can end the sessions of an owner, or block one.")


def _require_other_owner(context: RequestContext, person_id: UUID) -> None:
    if str(person_id) == context.principal.person:
        raise Conflict("This is your own user. To block yourself, send `confirm=true`.")
    blocked = blocks(context).keys()
    with context.reading() as session:
        owners = people.owners(session)
    if str(person_id) in owners and not owners - blocked - {str(person_id)}:
        raise Conflict("This user is the last owner who can use the account. To block the user, send `confirm=true`.")
