"""Who is calling: the one envelope that every later step looks into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class CredentialKind(StrEnum):
    """What the caller showed."""

    API_KEY = "api_key"
    JWT = "jwt"


class Role(StrEnum):
    """What a person may do in an account. A key has no role: it reaches everything but the keys themselves."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller inside one account."""

    kind: CredentialKind
    account: str
    id: str
    """The key's row id, or the JWT's `sub`."""
    name: str
    """The key's name, or the person's: for people who read an audit trail."""
    role: Role | None = None
    expires_at: float | None = None
    """When the credential ends by itself, in seconds since the epoch."""
    limits: Mapping[str, int] | None = None
    """Lower limits of this key alone: `per_minute`, `per_hour`, `per_day`, `concurrent`."""

    @property
    def label(self) -> str:
        """For `created_by` and audit trails, such as `jwt:alice`: tells kinds apart, holds no secret."""
        return f"{self.kind}:{self.id}"
