"""The receipts of an account's revocations, and the refused calls that followed each.

A receipt is stored with the audit event of its change, and has the id of that event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from kataven.account.errors import NotFound
from kataven.account.models import AuditEvent, UsageCaller
from kataven.usage import keys

CODES = {
    "api_key.revoked": ("revoked_credential",),
    "api_key.paused": ("paused_credential",),
    "api_key.rotated": ("rotated_credential",),
    "api_key.former_secret_ended": ("rotated_credential",),
    "api_key.rules_changed": ("insufficient_scope", "address_not_allowed", "browser_use", "credential_not_yet_valid"),
    "person.blocked": ("access_blocked",),
    "person.sessions_ended": ("session_ended",),
}
"""The problem codes with which the calls are refused that an event ends."""


@dataclass(frozen=True, slots=True)
class StoredReceipt:
    """A receipt, the event that it belongs to, and the calls that were refused since."""

    event: AuditEvent
    receipt: Mapping[str, Any]
    refused_calls: int | None
    """None if the event ends no calls, such as a resumption."""
    last_refused: UsageCaller | None
    """The last call of the key or user, if it was refused because of the event."""


def read(session: Session, receipt_id: UUID) -> StoredReceipt:
    """Raises NotFound."""
    event = session.get(AuditEvent, receipt_id)
    if event is None or "receipt" not in event.detail:
        raise NotFound("receipt")
    codes, target = CODES.get(event.action), _target(event)
    refused, last = None, None
    if codes is not None and target is not None:
        refused = keys.refused_since(session, target, codes, event.created_at)
        last = keys.last_calls(session, [target]).get(target)
        if last is not None and (last.code not in codes or last.last_at < event.created_at):
            last = None
    return StoredReceipt(event, event.detail["receipt"], refused, last)


def _target(event: AuditEvent) -> UUID | None:
    try:
        return UUID(event.target or "")
    except ValueError:
        return None
