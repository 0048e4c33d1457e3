"""Read and change the rate limits of one API key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from kataven.account import api_keys
from kataven.account.models import ApiKey
from kataven.operations.operator import Operator
from kataven.revocation.target import RevocationTarget
from kataven.system import operators


@dataclass(frozen=True, slots=True)
class KeyWithLimits:
    """An API key. `limits` contains only the key's own limits, not those that it inherits from its account."""

    id: UUID
    name: str
    hint: str
    limits: Mapping[str, int]


def read(operator: Operator, account: str, key_id: UUID) -> KeyWithLimits:
    """Raises NoSuchAccount, NotFound or TenancyError."""
    operator.read_account(account)
    with operator.sessions.reading(account) as session:
        return _with_limits(api_keys.read(session, key_id))


def change(
    operator: Operator, account: str, key_id: UUID, changes: Mapping[str, int], *, clear: bool = False
) -> KeyWithLimits:
    """Change the given limits of a key and keep the others; `clear` removes the key's own limits first.

    Every worker applies the new limits within a second. Both audit logs record the change, the account's first. If the
    process dies between the two commits, running the operation again completes it. Raises NoSuchAccount, NotFound,
    LimitAboveAccount, TenancyError, or ValueError if a value is outside the range of limits.
    """
    record = operator.read_account(account)
    with operator.sessions.writing(account) as session:
        key, before = api_keys.change_limits(session, key_id, changes, record.limits, operator.actor, clear=clear)
        changed = _with_limits(key)
    detail = {"key_id": str(key_id), "hint": changed.hint, "from": before, "to": dict(changed.limits)}
    with operator.system.writing() as system:
        operators.record(system, operator.name, "account.key_limits_changed", account, detail)
    operator.services.revocation.announce(RevocationTarget(account, str(key_id)))
    return changed


def _with_limits(key: ApiKey) -> KeyWithLimits:
    return KeyWithLimits(key.id, key.name, key.hint, dict(key.limits or {}))
