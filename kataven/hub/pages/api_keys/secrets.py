"""The former secrets of a key, as the pages show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from kataven.account import rotation
from kataven.account.models import FormerSecret
from kataven.hub.pages.api_keys.rows import now
from kataven.tenancy.directory import Tenant


@dataclass(frozen=True, slots=True)
class FormerSecretRow:
    """A secret that was replaced."""

    hint: str
    rotated_at: datetime
    grace_seconds: int
    ends_at: datetime | None
    """None until the new secret is used."""
    late_uses: int
    last_late_use_at: datetime | None
    last_late_address: str | None

    @property
    def is_accepted(self) -> bool:
        return self.ends_at is None or self.ends_at > now()

    @property
    def grace(self) -> str:
        """`24 hours`, `7 days`; empty without a grace period."""
        for seconds, unit in ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
            count, rest = divmod(self.grace_seconds, seconds)
            if count and not rest and not (unit == "day" and count == 1):
                return f"{count:,} {unit}{'' if count == 1 else 's'}"
        return ""


@dataclass(frozen=True, slots=True)
class KeySecretRows:
    """The former secrets of a key, the latest first."""

    former: Sequence[FormerSecretRow]

    @property
    def accepted(self) -> FormerSecretRow | None:
        """The former secret that is still accepted."""
        return next((secret for secret in self.former if secret.is_accepted), None)

    @property
    def awaits_first_use(self) -> bool:
        """Whether the current secret was never used: the former one has no end."""
        return self.accepted is not None and self.accepted.ends_at is None

    @property
    def late_uses(self) -> int:
        return sum(secret.late_uses for secret in self.former)


def secrets_of_key(session: Session, key_id: UUID, tenant: Tenant | None = None) -> KeySecretRows:
    """None before `account_0004`, according to the directory."""
    if tenant is not None and not rotation.has_rotation(tenant):
        return KeySecretRows(())
    return KeySecretRows([_row(found) for found in rotation.former_secrets(session, [key_id]).get(key_id, ())])


def _row(found: FormerSecret) -> FormerSecretRow:
    return FormerSecretRow(
        found.hint,
        found.rotated_at,
        found.grace_seconds,
        found.ends_at,
        found.late_uses,
        found.last_late_use_at,
        found.last_late_address,
    )
