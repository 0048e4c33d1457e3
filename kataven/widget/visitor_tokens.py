"""What a visitor's token says. The voice edge verifies it offline, so it is short-lived: nothing can end it earlier."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from kataven.identity.signing import SigningKey

TTL_SECONDS: Final = 600
AUDIENCE: Final = "kataven-voice"
TOKEN_TYPE: Final = "kataven-visitor+jwt"  # noqa: S105  a media type


class VisitorKind(StrEnum):
    """Who vouches for a visitor: nobody, or the customer's server."""

    GUEST = "guest"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody on a customer's page. `id` is ours for a guest and the customer's own for a user."""

    kind: VisitorKind
    id: str
    display_name: str | None = None
    email: str | None = None


@dataclass(frozen=True, slots=True)
class VisitorSession:
    """A visitor on a page, talking to an agent: what stays the same from one token to the next."""

    account: str
    widget_key_id: str
    generation: int
    """The widget key's when the visit began: a key that was disabled since has another."""
    agent_id: str
    origin: str
    visitor: Visitor
    minted_by: str | None = None
    """The API key that vouched for a user."""


def sign(key: SigningKey, issuer: str, visit: VisitorSession, now: float) -> str:
    """A visitor token, good from `now` (seconds since the epoch) for `TTL_SECONDS`."""
    issued_at = int(now)
    visitor = visit.visitor
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": AUDIENCE,
        "sub": visitor.id,
        "kind": visitor.kind,
        "account": visit.account,
        "agent_id": visit.agent_id,
        "widget_key_id": visit.widget_key_id,
        "origin": visit.origin,
        "name": visitor.display_name,
        "email": visitor.email,
        "iat": issued_at,
        "exp": issued_at + TTL_SECONDS,
        "jti": secrets.token_urlsafe(16),
    }
    return key.sign({name: value for name, value in claims.items() if value is not None}, TOKEN_TYPE)
