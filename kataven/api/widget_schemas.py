"""Request and response schemas of the widget operations."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, WithJsonSchema

from kataven.api.widget_settings import BrandingView
from kataven.identity import token as tokens
from kataven.identity.errors import MalformedToken
from kataven.identity.token import ACCOUNT_PATTERN, CHECKSUM_LENGTH, SECRET_LENGTH, TokenKind
from kataven.validation import Shaped
from kataven.web.schema import Input, Query, SingleLine, View
from kataven.widget import opaque_tokens
from kataven.widget.visitor_tokens import VisitorKind


def _widget_key(text: str) -> str:
    """Check syntax and checksum of a widget key, without I/O."""
    try:
        token = tokens.parse(text)
    except MalformedToken:
        raise ValueError("must be a widget key (pk_live_…); copy the complete key again") from None
    if token.kind is not TokenKind.WIDGET_KEY:
        raise ValueError(
            "must be a widget key (pk_live_…); API keys are secret, so remove this one from the page and revoke it"
        )
    return text


def _user_token(text: str) -> str:
    if not opaque_tokens.is_user_token(text):
        raise ValueError("must be a user token (ut_…); copy the complete token again")
    return text


def _refresh_token(text: str) -> str:
    if opaque_tokens.session_name(text) is None:
        raise ValueError("must be a refresh token (rt_…); send it unchanged")
    return text


_WIDGET_KEY_PATTERN = rf"^pk_live_{ACCOUNT_PATTERN}_[0-9A-Za-z]{{{SECRET_LENGTH + CHECKSUM_LENGTH}}}$"
ClientKey = Annotated[
    str, AfterValidator(_widget_key), WithJsonSchema({"type": "string", "pattern": _WIDGET_KEY_PATTERN})
]
UserToken = Annotated[
    str,
    AfterValidator(_user_token),
    WithJsonSchema({"type": "string", "pattern": f"^{opaque_tokens.USER_TOKEN_PATTERN}$"}),
]
RefreshToken = Annotated[
    str,
    AfterValidator(_refresh_token),
    WithJsonSchema({"type": "string", "pattern": f"^{opaque_tokens.REFRESH_TOKEN_PATTERN}$"}),
]
# Spaces and controls are listed, because `\s` matches different characters in Python and in ECMA-262, which JSON Schema
# uses. Bidirectional controls could make an address look like another one.
_NOT_IN_AN_EMAIL = r"@\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028-\u202f\u205f\u2066-\u2069\u3000\ufeff"
Email = Annotated[
    str, Shaped(f"^[^{_NOT_IN_AN_EMAIL}]+@[^{_NOT_IN_AN_EMAIL}]+$", "must be an email address like ada@acme.com", 254)
]


class ConfigQuery(Query):
    """Selects a widget."""

    client_key: ClientKey = Field(description="The widget key (`pk_live_…`).")
    agent_id: UUID | None = Field(default=None, description="The agent. Optional if the key is pinned to an agent.")


class GuestInput(Input):
    """A page on which a guest session starts."""

    client_key: ClientKey
    agent_id: UUID | None = Field(default=None, description="The agent. Optional if the key is pinned to an agent.")


class ExchangeInput(Input):
    """A user token that your server created, and the page that received it."""

    client_key: ClientKey
    user_token: UserToken
    agent_id: UUID | None = Field(default=None, description="The agent. Optional if the key is pinned to an agent.")


class RefreshInput(Input):
    """The refresh token of a visitor session."""

    refresh_token: RefreshToken


class UserTokenInput(Input):
    """One of your users. The fields become claims of the visitor token, which the voice edge reads."""

    external_user_id: Annotated[str, SingleLine(200)] = Field(
        description="Your ID of the user; the `sub` claim of the visitor token."
    )
    display_name: Annotated[str, SingleLine(200)] | None = None
    email: Email | None = None


class PublicAgentView(View):
    """The public fields of an agent."""

    id: UUID
    name: str
    greeting_message: str | None
    greeting_mode: str


class WidgetConfigView(View):
    """The appearance of the widget, its agent, and the allowed visitor types."""

    branding: BrandingView
    agent: PublicAgentView
    auth: list[VisitorKind] = Field(description="The visitor types that the agent allows.")
    voice_url: str | None = Field(description="The URL of the voice edge; null if it is not configured.")


class VisitorTokenView(View):
    """A visitor token for the voice edge, and a single-use refresh token for the next one."""

    visitor_token: str
    token_type: Literal["Bearer"]
    expires_in: int = Field(description="Seconds.")
    refresh_token: str
    agent_id: UUID
    kind: VisitorKind


class UserTokenView(View):
    """A user token. Pass it to the user's browser, which exchanges it once."""

    user_token: str
    expires_in: int = Field(description="Seconds.")


class JwkView(View):
    """A public key (RFC 7517)."""

    kid: str
    kty: Literal["EC"]
    crv: Literal["P-256"]
    x: str
    y: str
    alg: Literal["ES256"]
    use: Literal["sig"]


class JwksView(View):
    """The public keys for visitor tokens."""

    keys: list[JwkView]
