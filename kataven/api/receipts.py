"""`/v1/receipts`: the receipts of the account's revocations, with the refused calls that followed."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from flask import Response
from pydantic import Field

from kataven.api.usage import LastCallView
from kataven.usage import receipts
from kataven.web.access import MANAGE
from kataven.web.operation import ApiBlueprint, ResponseSpec
from kataven.web.receipts import ReceiptView
from kataven.web.request_context import RequestContext
from kataven.web.schema import View, write_json
from kataven.web.usage_bodies import shape_stored_receipt

blueprint = ApiBlueprint("receipts", __name__, "receipt", "The receipts of revocations.")


class WorkerTimesView(View):
    """When one worker received and applied a revocation, in milliseconds after it was published. By the clock of Redis
    and the worker's own measurement."""

    worker: str
    heard_ms: float
    forgotten_ms: float


class StoredReceiptView(View):
    """A receipt, the change that it belongs to, and the calls that were refused since."""

    id: UUID
    created_at: datetime
    action: str
    target: str | None
    target_name: str | None
    actor: str
    actor_name: str
    receipt: ReceiptView
    times: list[WorkerTimesView] = Field(
        description="By worker. Empty for receipts of an earlier release, and if workers were notified through the "
        "system database."
    )
    refused_calls: int | None = Field(
        description="Calls that were refused since, because of this change. Null if the change ends no calls."
    )
    last_refused: LastCallView | None


@blueprint.operation(
    "GET",
    "/v1/receipts/<receipt_id>",
    access=MANAGE,
    summary="Read a receipt",
    response=ResponseSpec(200, "The receipt, and the refused calls since.", StoredReceiptView),
)
def read_receipt(context: RequestContext, receipt_id: UUID) -> Response:
    """The ID is that of the audit event of the change, such as `api_key.revoked`. Refused calls are counted within
    about 20 seconds, from the start of the minute of the change."""
    with context.reading() as session:
        found = receipts.read(session, receipt_id)
        shaped = shape_stored_receipt(found)
    return write_json(shaped)
