"""`/v1/people`: the users of an account. Ends their sessions and blocks them. Requires a JWT of an owner or admin."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from flask import Response
from pydantic import Field

from kataven.account import people
from kataven.account.models import SeenPerson
from kataven.identity.principal import Role
from kataven.revocation.receipt import Receipt
from kataven.system.cutoffs import Block
from kataven.web import user_access
from kataven.web.access import MANAGE
from kataven.web.operation import ApiBlueprint, ResponseSpec
from kataven.web.paging import PageQuery, write_page
from kataven.web.receipts import ReceiptView, with_id
from kataven.web.request_context import RequestContext
from kataven.web.schema import Input, Query, SingleLine, View, no_default, write_json
from kataven.web.user_access import SeenUser

blueprint = ApiBlueprint(
    "people", __name__, "user", "The users of the account: end their sessions and block them, with a JWT."
)


class BlockInput(Input):
    """A block. The reason is shown to the account's owners and admins."""

    reason: Annotated[str, SingleLine(200)] = Field(
        default="", examples=["The laptop was stolen."], json_schema_extra=no_default
    )


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
    blocks = user_access.blocks(context)
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
    return _write_ended(context, *user_access.end_sessions(context, person_id))


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
    confirmed = query.confirm is not None
    return _write_ended(context, *user_access.block(context, person_id, body.reason, confirmed=confirmed))


@blueprint.operation(
    "DELETE",
    "/v1/people/<person_id>/block",
    access=MANAGE,
    summary="Lift a block",
    response=ResponseSpec(200, "The user.", PersonView),
)
def delete_block(context: RequestContext, person_id: UUID) -> Response:
    """Workers accept the user again within moments. Tokens from before an end of the sessions remain refused."""
    return write_json(shape(user_access.lift(context, person_id), {}))


def shape(person: SeenPerson | SeenUser, blocks: dict[str, Block]) -> dict[str, Any]:
    """A user as the API returns it."""
    return {
        "id": person.id,
        "name": person.name,
        "role": person.role,
        "created_at": person.created_at,
        "last_seen_at": person.last_seen_at,
        "block": shape_block(blocks.get(str(person.id))),
    }


def _write_ended(context: RequestContext, person: SeenUser, receipt: Receipt, event_id: UUID) -> Response:
    return write_json({**shape(person, user_access.blocks(context)), "receipt": with_id(receipt, event_id)})


def shape_block(block: Block | None) -> dict[str, Any] | None:
    """A block as the API returns it."""
    if block is None:
        return None
    return {"created_at": block.created_at, "created_by": block.created_by, "reason": block.reason}
