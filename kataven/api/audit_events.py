"""`/v1/audit-events`: the account's audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from flask import Response
from pydantic import Field
from sqlalchemy import bindparam

from kataven.account.models import AuditEvent
from kataven.account.row_list import RowList
from kataven.validation import Shaped
from kataven.web.access import MANAGE
from kataven.web.operation import ApiBlueprint, ResponseSpec
from kataven.web.paging import PageQuery, write_rows
from kataven.web.request_context import RequestContext
from kataven.web.schema import View

blueprint = ApiBlueprint("audit-events", __name__, "audit event", "The account's audit log.")


class AuditQuery(PageQuery):
    """Query parameters to filter events."""

    action: Annotated[str, Shaped(r"^[a-z_.]{1,100}$", "must be an action like agent.created")] | None = Field(
        default=None, description="Only events of this action, such as `api_key.revoked`."
    )
    actor: Annotated[str, Shaped(r"^[!-~]{1,300}$", "must be the actor of an event, like jwt:alice")] | None = Field(
        default=None, description="Only events of this actor, such as `jwt:alice`."
    )


class AuditEventView(View):
    """An action, its actor and its time."""

    id: UUID
    created_at: datetime
    actor: str
    actor_name: str
    action: str
    target: str | None
    detail: dict[str, Any]
    request_id: str | None
    address: str | None


_LIST = RowList(
    AuditEvent,
    AuditEventView.model_fields,
    {"action": AuditEvent.action == bindparam("action"), "actor": AuditEvent.actor == bindparam("actor")},
)


@blueprint.operation(
    "GET",
    "/v1/audit-events",
    access=MANAGE,
    summary="List audit events",
    response=ResponseSpec(200, "A page of events, newest first.", list[AuditEventView]),
    query=AuditQuery,
)
def list_audit_events(context: RequestContext, query: AuditQuery) -> Response:
    """Returns events from newest to oldest. Filter by an action (`api_key.revoked`) or an actor (`jwt:alice`)."""
    page = _LIST.page(context.rows, query.limit, query.after, action=query.action, actor=query.actor)
    return write_rows(page, query)
