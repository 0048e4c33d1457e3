"""Revokes credentials from a handler, in this order: `record_intent`, commit, `revoke_credentials`, respond."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from kataven.account import key_revocation
from kataven.revocation.receipt import Receipt
from kataven.revocation.revocation import Intent
from kataven.revocation.target import RevocationTarget
from kataven.web.request_context import RequestContext
from kataven.web.schema import View


class ReceiptView(View):
    """The receipt of a revocation. Once it is returned, no worker on any host accepts the credential."""

    id: UUID | None = Field(
        None, description="The ID with which `/v1/receipts` returns it. Omitted if no audit event has it."
    )
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


def record_intent(
    context: RequestContext,
    key_id: str,
    *,
    revoked: bool = True,
    generation: int | None = None,
    secrets_below: int | None = None,
) -> Intent:
    """Record a revocation intent for a key.

    `revoked` is False if the change only restricts the key, so that it must not be journalled as revoked. `generation`
    is set for a widget key: generations below it are revoked. `secrets_below` is set if only former secrets of the key
    end: those of lower generations.

    Call it as the last step of the transaction. If this process dies before `revoke_credentials` returns, the workers
    evict the credentials on their own when the intent is due.
    """
    revocation, account = context.services.revocation, context.account.account
    return key_revocation.write_intent(
        revocation, account, key_id, revoked=revoked, generation=generation, secrets_below=secrets_below
    )


def record_account_intent(context: RequestContext) -> Intent:
    """Record a revocation intent for several keys of the account. It covers everything of the account."""
    return context.services.revocation.write_intent(RevocationTarget(context.account.account))


def revoke_together(
    context: RequestContext, intent: Intent, revoked_key_ids: Sequence[UUID], event_ids: Sequence[UUID]
) -> dict[str, Any]:
    """Like `revoke_credentials`, for several keys: `intent` is from `record_account_intent`. Only the keys in
    `revoked_key_ids` are journalled as revoked."""
    revocation = context.services.revocation
    receipt = key_revocation.complete_together(revocation, intent, revoked_key_ids, event_ids, context.writing)
    return receipt.as_json()


def revoke_credentials(context: RequestContext, intent: Intent, event_id: UUID | None = None) -> dict[str, Any]:
    """Evict the revoked credentials from every worker's cache, and wait until every worker has acknowledged.

    Call it after the commit. Adds the receipt to the audit event `event_id`, which was committed with the change.
    Raises RevocationUnconfirmed if neither Redis nor the system database is reachable, and ChangeLost if the event does
    not exist any more.
    """
    receipt = key_revocation.complete(context.services.revocation, intent, event_id, context.writing)
    return with_id(receipt, event_id)


def with_id(receipt: Receipt, event_id: UUID | None) -> dict[str, Any]:
    """The receipt as JSON, with its id if it is stored."""
    shown = receipt.as_json()
    return shown if event_id is None else {"id": event_id, **shown}
