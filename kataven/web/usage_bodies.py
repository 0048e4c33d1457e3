"""Bodies about usage that the API returns, and the Hub offers for download."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kataven.account.models import UsageCaller
from kataven.usage.receipts import StoredReceipt
from kataven.web.receipts import ReceiptView

_OF_RECEIPT: Final = tuple(ReceiptView.model_fields)


def shape_last(last: UsageCaller | None) -> Mapping[str, Any] | None:
    """The last call of a key or user."""
    if last is None:
        return None
    return {
        "at": last.last_at,
        "address": last.address,
        "user_agent": last.agent,
        "route": last.route,
        "outcome": last.outcome,
        "code": last.code or None,
    }


def shape_stored_receipt(found: StoredReceipt) -> Mapping[str, Any]:
    """A receipt, the change that it belongs to, and the calls that were refused since."""
    event = found.event
    return {
        "id": event.id,
        "created_at": event.created_at,
        "action": event.action,
        "target": event.target,
        "target_name": found.target_name,
        "actor": event.actor,
        "actor_name": event.actor_name,
        "receipt": {
            "id": event.id,
            **{name: value for name, value in found.receipt.items() if name in _OF_RECEIPT},
        },
        "times": event.detail.get("times", []),
        "refused_calls": found.refused_calls,
        "last_refused": shape_last(found.last_refused),
    }
