"""What pages that carry a widget key may say, and what they are told."""

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
    """A widget key's shape and checksum. Asks nobody."""
    try:
        token = tokens.parse(text)
    except MalformedToken:
        raise ValueError("is no widget key, or a character of it was lost: copy it again, whole") from None
    if token.kind is not TokenKind.WIDGET_KEY:
        raise ValueError(
            "is an API key, which is secret: take it out of the page and revoke it; a page carries a widget key, "
            "pk_live_…"
        )
    return text


def _user_token(text: str) -> str:
    if not opaque_tokens.is_user_token(text):
        raise ValueError("is no user token (ut_…), or a character of it was lost")
    return text


def _refresh_token(text: str) -> str:
    if opaque_tokens.session_of(text) is None:
        raise ValueError("is no refresh token (rt_…), or a character of it was lost")
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
Email = Annotated[
    str, Shaped(r"^[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+$", "must be an email address like ada@acme.com", 254)
]


class ConfigQuery(Query):
    """Which widget."""

    client_key: ClientKey = Field(description="The widget key (`pk_live_…`).")
    agent_id: UUID | None = Field(default=None, description="The agent. A pinned key forces its own.")


class GuestInput(Input):
    """A visitor whom nobody vouches for."""

    client_key: ClientKey
    agent_id: UUID | None = Field(default=None, description="The agent. A pinned key forces its own.")


class ExchangeInput(Input):
    """A user whom your server has vouched for."""

    client_key: ClientKey
    user_token: UserToken
    agent_id: UUID | None = Field(default=None, description="The agent. A pinned key forces its own.")


class RefreshInput(Input):
    """A visitor who stays."""

    refresh_token: RefreshToken


class UserTokenInput(Input):
    """A user of yours. What you say here stands in the visitor token, for the voice edge to read."""

    external_user_id: Annotated[str, SingleLine(200)] = Field(description="Your own id of the user; it becomes `sub`.")
    display_name: Annotated[str, SingleLine(200)] | None = None
    email: Email | None = None


class PublicAgentView(View):
    """What visitors may know of an agent."""

    id: UUID
    name: str
    greeting_message: str | None
    greeting_mode: str


class ConfigView(View):
    """What to draw on a page, and how its visitors come in."""

    branding: BrandingView
    agent: PublicAgentView
    auth: list[VisitorKind] = Field(description="The kinds of visitor that the agent takes.")
    voice_url: str | None = Field(description="Where conversations are held; null if nowhere yet.")


class VisitorTokenView(View):
    """A visitor token for the voice edge, and a refresh token for the next, good once."""

    visitor_token: str
    token_type: Literal["Bearer"]
    expires_in: int = Field(description="Seconds.")
    refresh_token: str
    agent_id: UUID
    kind: VisitorKind


class UserTokenView(View):
    """A user token: hand it to the user's browser, which exchanges it once."""

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
    """The public keys of visitor tokens."""

    keys: list[JwkView]
