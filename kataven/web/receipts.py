"""Ending a credential, the one way there is: `begin_ending`, commit, `end_credentials`, answer."""

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
    """What a revocation answers: when it is out, no worker on any host accepts the credential."""

    workers: int
    acknowledged: int
    ms: float
    lapsed: int | None = Field(None, description="Workers whose lease was waited out, where there were any.")
    redis: Literal["unreachable", "split"] | None = Field(
        None,
        description="Set if workers were told through the system database: Redis was `unreachable`, or `split`, which "
        "means that a worker may renew its lease at another Redis than the one that took the event.",
    )


def begin_ending(context: RequestContext, key_id: str | None) -> Intent:
    """Write down what is about to end: a key, or with None all that belongs to the account.

    To be called inside the transaction, as its last step: from here on workers act by themselves if this process dies.
    """
    return context.services.revocation.write_intent(RevocationTarget(context.account.account, key_id))


def end_credentials(context: RequestContext, ending: Intent, event_id: UUID | None = None) -> dict[str, Any]:
    """Make every worker forget what ended, and wait until each has. The change is committed by now.

    The receipt is added to the audit event `event_id`, the one that was committed with the change. Raises ChangeLost if
    the event does not exist any more.
    """
    receipt = context.services.revocation.revoke(ending).as_json()
    if event_id is not None:
        with context.writing() as session:
            audit.add_detail(session, event_id, {"receipt": receipt})
    return receipt
