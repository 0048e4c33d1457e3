"""The verified caller of a request, which all later steps use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from kataven.identity.conditions import AddressRules


class CredentialKind(StrEnum):
    """The kind of credential that the caller sent."""

    API_KEY = "api_key"
    JWT = "jwt"


class Role(StrEnum):
    """What a user may do in an account. A key has no role, but scopes."""

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
    """The name of the key or the user, for the audit log."""
    role: Role | None = None
    expires_at: float | None = None
    """When the credential expires, in seconds since the Unix epoch."""
    limits: Mapping[str, int] | None = None
    """Lower limits for this key, by the names of `KeyLimits`: `{"per_minute": 30}`."""
    scopes: frozenset[str] | None = None
    """What the key may do, including the scopes that others include. None: full access, as for every JWT."""
    addresses: AddressRules | None = None
    """From which addresses the key may be used. None: from all."""
    from_browsers: bool = False
    """Whether browsers may send the key."""

    completes_rotation: str | None = None
    """The former secret whose grace period starts with the first use of this one, if that is not recorded yet."""
    person: str | None = None
    """The id of the user: see `Person.id`. None for an API key."""
    recheck_at: float | None = None
    """Until when this result may be cached, on the monotonic clock of this process. None: no limit. Not sent to other
    processes."""

    @property
    def label(self) -> str:
        """The label for `created_by` and the audit log, such as `jwt:alice`. Contains the kind and no secret."""
        return f"{self.kind}:{self.id}"
