"""The timeline of a key: the events of the audit log about it, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from kataven.account import audit
from kataven.account.models import AuditEvent
from kataven.hub.formatting import RECEIPTS, describe_limits, describe_revocation, describe_scopes

MAX_EVENTS = 20

_WORDS = {
    "api_key.created": "Created",
    "api_key.revoked": "Revoked",
    "api_key.paused": "Paused",
    "api_key.resumed": "Resumed",
    "api_key.renamed": "Renamed from “{from}” to “{to}”",
    "api_key.rotated": "Rotated: the secret …{from} was replaced by …{to}",
    "api_key.former_secret_shortened": "Former secret …{hint} ends earlier",
    "api_key.former_secret_ended": "Former secret …{hint} ended",
}
_RULES = {
    "scopes": "scopes",
    "allowed_addresses": "allowed addresses",
    "denied_addresses": "denied addresses",
    "from_browsers": "browsers",
    "not_before": "not valid before",
}


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One event."""

    at: datetime
    text: str
    actor: str
    address: str | None
    receipt: str | None
    receipt_path: str | None


def timeline(session: Session, key_id: UUID) -> Sequence[TimelineEntry]:
    """The latest events of a key, newest first."""
    return [_entry(event) for event in audit.of_target(session, str(key_id), MAX_EVENTS)]


def _entry(event: AuditEvent) -> TimelineEntry:
    receipt = event.detail.get("receipt")
    actor = event.actor if event.actor.startswith("operator:") else event.actor_name
    return TimelineEntry(
        event.created_at,
        _text(event.action, event.detail),
        actor,
        event.address,
        None if receipt is None else describe_revocation(receipt),
        None if receipt is None else f"{RECEIPTS}{event.id}",
    )


def _text(action: str, detail: Mapping[str, Any]) -> str:
    if action == "api_key.rules_changed":
        before, after = detail.get("from", {}), detail.get("to", {})
        changed = [label for name, label in _RULES.items() if before.get(name) != after.get(name)]
        words = f"Changed {', '.join(changed)}"
        return f"{words} to {describe_scopes(after.get('scopes'))}" if changed == ["scopes"] else words
    if action == "api_key.limits_changed":
        return f"Changed limits to {describe_limits(detail.get('to') or {}) or 'those of the account'}"
    if action not in _WORDS:
        return action
    return _WORDS[action].format_map(_Missing(detail))


class _Missing(dict[str, Any]):
    """Events of earlier releases can lack a field."""

    def __missing__(self, name: str) -> str:
        return "?"
