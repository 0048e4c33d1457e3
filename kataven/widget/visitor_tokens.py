"""The visitor token. The voice edge verifies it offline, so it can't be revoked and has a short lifetime."""

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
    """The visitor type: an anonymous guest, or a user identified by the customer's server."""

    GUEST = "guest"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Visitor:
    """A visitor of a customer's page. `id` is generated for a guest, and is the customer's id for a user."""

    kind: VisitorKind
    id: str
    display_name: str | None = None
    email: str | None = None


@dataclass(frozen=True, slots=True)
class VisitorSession:
    """The properties of a visitor session that are the same in all of its tokens."""

    account: str
    widget_key_id: str
    generation: int
    """The widget key's generation when the session started. Disabling the key increments it."""
    agent_id: str
    origin: str
    visitor: Visitor
    minted_by: str | None = None
    """The API key that created the user token."""


def sign(key: SigningKey, issuer: str, visitor_session: VisitorSession, now: float) -> str:
    """Sign a visitor token that is valid from `now` (seconds since the epoch) for `TTL_SECONDS`."""
    issued_at = int(now)
    visitor = visitor_session.visitor
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": AUDIENCE,
        "sub": visitor.id,
        "kind": visitor.kind,
        "account": visitor_session.account,
        "agent_id": visitor_session.agent_id,
        "widget_key_id": visitor_session.widget_key_id,
        "origin": visitor_session.origin,
        "name": visitor.display_name,
        "email": visitor.email,
        "iat": issued_at,
        "exp": issued_at + TTL_SECONDS,
        "jti": secrets.token_urlsafe(16),
    }
    return key.sign({name: value for name, value in claims.items() if value is not None}, TOKEN_TYPE)
