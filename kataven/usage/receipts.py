"""The receipts of an account's revocations, and the refused calls that followed each.

A receipt is stored with the audit event of its change, and has the id of that event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select
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

    @property
    def target_name(self) -> str | None:
        name = self.event.detail.get("name")
        return name if isinstance(name, str) else None

    @property
    def target(self) -> UUID | None:
        """The id of the key or user."""
        return _target(self.event)


MAX_TOGETHER = 100
"""How many keys are changed at once."""


def read(session: Session, receipt_id: UUID) -> StoredReceipt:
    """Raises NotFound."""
    found = read_without_usage(session, receipt_id)
    event = found.event
    codes, target = CODES.get(event.action), _target(event)
    refused, last = None, None
    if codes is not None and target is not None:
        refused = keys.refused_since(session, target, codes, event.created_at)
        last = keys.last_calls(session, [target]).get(target)
        if last is not None and (last.code not in codes or last.last_at < event.created_at):
            last = None
    return StoredReceipt(event, found.receipt, refused, last)


def read_without_usage(session: Session, receipt_id: UUID) -> StoredReceipt:
    """The receipt alone, for a database that has no tables for usage yet. Raises NotFound."""
    event = session.get(AuditEvent, receipt_id)
    if event is None or "receipt" not in event.detail:
        raise NotFound("receipt")
    return StoredReceipt(event, event.detail["receipt"], None, None)


def ending(session: Session, target: UUID, code: str) -> AuditEvent | None:
    """The latest change because of which calls of a key or user are refused with this code, if it has a receipt."""
    actions = [action for action, codes in CODES.items() if code in codes]
    if not actions:
        return None
    changes = select(AuditEvent).where(
        AuditEvent.target == str(target), AuditEvent.action.in_(actions), AuditEvent.detail.has_key("receipt")
    )
    return session.scalars(changes.order_by(AuditEvent.created_at.desc()).limit(1)).first()


def changed_together(session: Session, event: AuditEvent) -> Sequence[AuditEvent]:
    """The events of the other keys that the same request changed: the receipt covers all of them."""
    if event.request_id is None:
        return ()
    others = select(AuditEvent).where(
        # Events of one transaction have the same time, for which there is an index.
        AuditEvent.created_at == event.created_at,
        AuditEvent.request_id == event.request_id,
        AuditEvent.action == event.action,
        AuditEvent.id != event.id,
    )
    return session.scalars(others.order_by(AuditEvent.id).limit(MAX_TOGETHER)).all()


def _target(event: AuditEvent) -> UUID | None:
    try:
        return UUID(event.target or "")
    except ValueError:
        return None
