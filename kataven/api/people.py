"""`/v1/people`: the users of an account. Ends their sessions and blocks them. Requires a JWT of an owner or admin."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from flask import Response
from pydantic import Field

from kataven.account import audit, people
from kataven.account.errors import Conflict
from kataven.account.models import SeenPerson
from kataven.identity.people import Person
from kataven.identity.principal import Role
from kataven.people.access import Cause
from kataven.revocation.receipt import Receipt
from kataven.system.cutoffs import Block
from kataven.web.access import MANAGE, Forbidden
from kataven.web.operation import ApiBlueprint, ResponseSpec
from kataven.web.paging import PageQuery, write_page
from kataven.web.receipts import ReceiptView, with_id
from kataven.web.request_context import RequestContext
from kataven.web.schema import Input, Query, SingleLine, View, no_default, write_json

blueprint = ApiBlueprint(
    "people", __name__, "user", "The users of the account: end their sessions and block them, with a JWT."
)


class BlockInput(Input):
    """A block. The reason is shown to the account's owners and admins."""

    reason: Annotated[str, SingleLine(200)] = Field(default="", json_schema_extra=no_default)


class BlockQuery(Query):
    """Query parameters of a block."""

    confirm: Literal["true"] | None = Field(
        default=None, description="Required to block yourself, or the last owner of the account."
    )


class BlockView(View):
    """A block: since when, by whom, and why."""

    created_at: datetime
    created_by: str
    reason: str


class PersonView(View):
    """A user of the identity provider who used the account within the last 90 days."""

    id: UUID
    name: str
    role: Role = Field(description="The role at the last use.")
    created_at: datetime = Field(description="When the user was first seen.")
    last_seen_at: datetime
    block: BlockView | None


class EndedPersonView(PersonView):
    """A user, with the receipt: no worker on any host accepts what was ended."""

    receipt: ReceiptView


@blueprint.operation(
    "GET",
    "/v1/people",
    access=MANAGE,
    summary="List users",
    response=ResponseSpec(200, "A page of users, those who were first seen last first.", list[PersonView]),
    query=PageQuery,
)
def list_people(context: RequestContext, query: PageQuery) -> Response:
    """Returns the users who used the account within the last 90 days. A use is recorded within five minutes."""
    blocks = _blocks(context)
    with context.reading() as session:
        page = people.listing(session, query.limit, query.after)
        return write_page(page, lambda person: shape(person, blocks), query)


@blueprint.operation(
    "POST",
    "/v1/people/<person_id>/end-sessions",
    access=MANAGE,
    summary="End a user's sessions",
    response=ResponseSpec(200, "The user, with the receipt.", EndedPersonView),
)
def end_sessions(context: RequestContext, person_id: UUID) -> Response:
    """Refuses every token of the user from before this request in this account, and ends the user's sessions of the
    Hub. Users whom the identity provider still accepts can sign in again. To refuse them, block them."""
    return _restrict(
        context,
        person_id,
        "person.sessions_ended",
        {},
        lambda person, _: context.services.people.end_sessions(person, context.account.account, _cause(context)),
    )


@blueprint.operation(
    "PUT",
    "/v1/people/<person_id>/block",
    access=MANAGE,
    summary="Block a user",
    response=ResponseSpec(200, "The user, with the receipt.", EndedPersonView),
    body=BlockInput,
    query=BlockQuery,
    max_body_bytes=8 * 1024,
    refusals=("conflict",),
)
def block_person(context: RequestContext, person_id: UUID, body: BlockInput, query: BlockQuery) -> Response:
    """Refuses the user in this account until the block is lifted, even if the identity provider still grants a role.
    Remove the role at the identity provider as well. Without `confirm`, you can't block yourself or the last owner."""
    if query.confirm is None:
        _require_other_owner(context, person_id)
    return _restrict(
        context,
        person_id,
        "person.blocked",
        {"reason": body.reason},
        lambda person, name: context.services.people.block(
            person, name, context.account.account, Cause(body.reason, context.actor.label)
        ),
    )


@blueprint.operation(
    "DELETE",
    "/v1/people/<person_id>/block",
    access=MANAGE,
    summary="Lift a block",
    response=ResponseSpec(200, "The user.", PersonView),
)
def delete_block(context: RequestContext, person_id: UUID) -> Response:
    """Workers accept the user again within moments. Tokens from before an end of the sessions remain refused."""
    with context.writing() as session:
        person = people.read(session, person_id)
        _require_authority(context, person)
        found = shape(person, {})
        audit.record(session, context.actor, "person.unblocked", person_id, {"name": person.name})
    context.services.people.lift(str(person_id), context.account.account)
    return write_json(found)


def shape(person: SeenPerson, blocks: dict[str, Block]) -> dict[str, Any]:
    """A user as the API returns it."""
    return {
        "id": person.id,
        "name": person.name,
        "role": person.role,
        "created_at": person.created_at,
        "last_seen_at": person.last_seen_at,
        "block": shape_block(blocks.get(str(person.id))),
    }


def _restrict(
    context: RequestContext,
    person_id: UUID,
    action: str,
    detail: dict[str, Any],
    change: Callable[[Person, str], Receipt],
) -> Response:
    """Record the action, change the system database, and add the receipt to the event.

    The two databases have no common transaction. An event without a receipt is a change that may not have been applied;
    the request can be repeated.
    """
    with context.writing() as session:
        seen = people.read(session, person_id)
        _require_authority(context, seen)
        person, name, found = Person(seen.issuer, seen.sub), seen.name, seen
        event = audit.record(session, context.actor, action, person_id, {"name": name, **detail})
        session.flush()
        event_id = event.id
        before = shape(found, {})
    receipt = change(person, name)
    with context.writing() as session:
        audit.add_detail(session, event_id, receipt.as_detail())
    block = shape_block(_blocks(context).get(str(person_id)))
    return write_json({**before, "block": block, "receipt": with_id(receipt, event_id)})


def shape_block(block: Block | None) -> dict[str, Any] | None:
    """A block as the API returns it."""
    if block is None:
        return None
    return {"created_at": block.created_at, "created_by": block.created_by, "reason": block.reason}


def _require_authority(context: RequestContext, person: SeenPerson) -> None:
    """An admin must not take an owner's access away."""
    if person.role == Role.OWNER and context.principal.role is not Role.OWNER:
        raise Forbidden("Only owners can end the sessions of an owner, or block one.")


def _require_other_owner(context: RequestContext, person_id: UUID) -> None:
    if str(person_id) == context.principal.person:
        raise Conflict("This is your own user. To block yourself, send `confirm=true`.")
    blocked = _blocks(context).keys()
    with context.reading() as session:
        owners = people.owners(session)
    if str(person_id) in owners and not owners - blocked - {str(person_id)}:
        raise Conflict("This user is the last owner who can use the account. To block the user, send `confirm=true`.")


def _blocks(context: RequestContext) -> dict[str, Block]:
    return {block.subject: block for block in context.services.people.blocks(context.account.account)}


def _cause(context: RequestContext) -> Cause:
    return Cause("ended by an owner or admin", context.actor.label)
