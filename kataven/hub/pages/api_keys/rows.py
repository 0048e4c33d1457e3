"""A key as the pages show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from kataven.account.api_keys import KeyRules
from kataven.account.key_listing import ANNOUNCED
from kataven.account.key_status import KeyStatus, is_rotation_due, moment_in, secret_created_at, status
from kataven.account.models import ApiKey
from kataven.hub.formatting import ago
from kataven.identity import scopes


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key without its secret."""

    id: UUID
    name: str
    hint: str
    status: KeyStatus
    created_at: datetime
    created_by: str
    last_used_at: datetime | None
    expires_at: datetime | None
    disabled_at: datetime | None
    limits: Mapping[str, int]
    rules: KeyRules
    browser_use_at: datetime | None
    """When a browser last sent the key, and it was rejected."""
    paused_at: datetime | None
    secret_created_at: datetime
    rotation_due: bool

    @property
    def is_current(self) -> bool:
        """Whether the key is neither revoked nor expired."""
        return self.status not in (KeyStatus.REVOKED, KeyStatus.EXPIRED)

    @property
    def was_sent_by_browser(self) -> bool:
        return self.browser_use_at is not None and not self.rules.from_browsers

    @property
    def expiry_notice(self) -> str | None:
        """`expires in 2 days`, from the first announcement on."""
        if not self.is_current or self.expires_at is None or self.expires_at - now() > ANNOUNCED[-1]:
            return None
        return f"expires {ago(self.expires_at)}"

    @property
    def expires_very_soon(self) -> bool:
        return self.is_current and self.expires_at is not None and self.expires_at - now() <= ANNOUNCED[1]

    @property
    def access(self) -> str:
        """The scopes, short enough for a table."""
        return short_scopes(self.rules.scopes)


def row_of(key: ApiKey, rotate_after_days: int | None) -> KeyRow:
    moment = now()
    return KeyRow(
        id=key.id,
        name=key.name,
        hint=key.hint,
        status=status(key, moment),
        created_at=key.created_at,
        created_by=key.created_by,
        last_used_at=key.last_used_at,
        expires_at=key.expires_at,
        disabled_at=key.disabled_at,
        limits=key.limits or {},
        rules=KeyRules.of(key),
        browser_use_at=moment_in(key.columns, "browser_use_at"),
        paused_at=moment_in(key.columns, "paused_at"),
        secret_created_at=secret_created_at(key),
        rotation_due=is_rotation_due(key, moment, rotate_after_days),
    )


def short_scopes(names: Sequence[str] | None) -> str:
    """`Full access`, `Read only`, one scope, or one scope and the number of the others."""
    if names is None:
        return "Full access"
    if set(names) >= set(scopes.READ_ONLY) and all(name.endswith(f":{scopes.READ}") for name in names):
        return "Read only"
    return names[0] if len(names) == 1 else f"{names[0]} +{len(names) - 1}"


def now() -> datetime:
    return datetime.now(UTC)
