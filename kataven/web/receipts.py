"""Revokes credentials from a handler, in this order: `record_intent`, commit, `revoke_credentials`, respond."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from kataven.account import audit
from kataven.revocation.revocation import Intent
from kataven.revocation.target import RevocationTarget
from kataven.web.request_context import RequestContext
from kataven.web.schema import View


class ReceiptView(View):
    """The receipt of a revocation. Once it is returned, no worker on any host accepts the credential."""

    workers: int
    acknowledged: int
    ms: float
    lapsed: int | None = Field(
        None, description="Number of workers that did not acknowledge and whose lease expired; omitted if zero."
    )
    redis: Literal["unreachable", "split"] | None = Field(
        None,
        description="Set if workers were notified through the system database: Redis was `unreachable`, or `split`, "
        "which means that a worker may renew its lease at a different Redis server from the one that received the "
        "event.",
    )


def record_intent(context: RequestContext, key_id: str | None) -> Intent:
    """Record a revocation intent for a key, or for all credentials of the account if `key_id` is None.

    Call it as the last step of the transaction. If this process dies before `revoke_credentials` returns, the workers
    evict the credentials on their own when the intent is due.
    """
    return context.services.revocation.write_intent(RevocationTarget(context.account.account, key_id))


def revoke_credentials(context: RequestContext, intent: Intent, event_id: UUID | None = None) -> dict[str, Any]:
    """Evict the revoked credentials from every worker's cache, and wait until every worker has acknowledged.

    Call it after the commit. Adds the receipt to the audit event `event_id`, which was committed with the change.
    Raises RevocationUnconfirmed if neither Redis nor the system database is reachable.
    """
    receipt = context.services.revocation.revoke(intent).as_json()
    if event_id is not None:
        with context.writing() as session:
            audit.add_detail(session, event_id, {"receipt": receipt})
    return receipt
