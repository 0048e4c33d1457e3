"""From which addresses a key was used recently. A new address list is compared with them before it is saved."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from kataven.hub.key_rules_form import KeyRulesForm, excludes
from kataven.hub.page_blueprint import LABEL, HubRequest
from kataven.ratelimit.address import UNKNOWN
from kataven.tenancy.errors import SchemaMismatch
from kataven.usage import keys as usage_of_keys

RECENT = timedelta(hours=24)


def recent_addresses(hub_request: HubRequest, key_id: UUID) -> Sequence[str] | None:
    """The addresses of the last 24 hours, for this key. None if they are not recorded, or too many to be listed."""
    try:
        with hub_request.reading() as session:
            found = usage_of_keys.addresses(session, key_id, datetime.now(UTC) - RECENT)
    except SchemaMismatch:  # the account's database has no usage yet
        return None
    addresses = list(dict.fromkeys(calls.address for calls in found))
    if len(found) >= usage_of_keys.MAX_ADDRESSES or not all(addresses) or UNKNOWN in addresses:
        return None
    return addresses


def is_recent(last_used_at: datetime | None, now: datetime) -> bool:
    """Whether a key with this last use was used in the last 24 hours."""
    return last_used_at is not None and now - last_used_at < RECENT


def excluded_use(hub_request: HubRequest, key_id: UUID, conditions: KeyRulesForm) -> str | None:
    """Why the address lists need a confirmation: they exclude every address of the last 24 hours. None: they don't.

    A message of a form field.
    """
    used_from = recent_addresses(hub_request, key_id)
    if not used_from or not all(excludes(conditions, address) for address in used_from):
        return None
    addresses = ", ".join(used_from[:3]) + (" and others" if len(used_from) > len(used_from[:3]) else "")
    return (
        f"{LABEL} would reject every address from which the key was used in the last 24 hours: {addresses}. "
        "Change them, or select “Save anyway”"
    )
