"""Ending a credential: the one way there is. Commit first, then call this, then answer."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from kataven.account import audit
from kataven.revocation.scope import Scope
from kataven.web.call import Call
from kataven.web.schema import View


class ReceiptView(View):
    """What a revocation answers: when it is out, no worker on any host accepts the credential."""

    workers: int
    acknowledged: int
    ms: float
    lapsed: int | None = Field(None, description="Workers whose lease was waited out, where there were any.")
    redis: Literal["unreachable"] | None = Field(None, description="Where every lease had to be waited out.")


def end_credentials(call: Call, key_id: str | None, event_id: UUID | None = None) -> dict[str, Any]:
    """Make every worker forget a key, or with None all that belongs to the account, and wait until each has.

    The receipt is added to the audit event `event_id`, the one that was committed with the change.
    """
    receipt = call.services.revocation.revoke(Scope(call.account.account, key_id)).as_json()
    if event_id is not None:
        with call.writing() as session:
            audit.add_detail(session, event_id, {"receipt": receipt})
    return receipt
