"""Errors that reject a visitor. Web developers who embed the widget read the messages in the browser's console.

WidgetRefused
├── UnknownWidgetKey         raised if the key does not exist or was removed
├── WidgetKeyDisabled        raised if the key is disabled, or was disabled after the visitor session started
├── WidgetAccountSuspended   raised if the account is suspended or archived
├── OriginRefused            raised if the page is not in the key's allowlist, or sends no origin
├── AgentMissing             raised if the key is not pinned to an agent and the page names none
├── WrongAgent               raised if the key is pinned to another agent
├── UnknownAgent             raised if the agent does not exist or was deleted
├── AgentNotActive           raised if the agent is a draft, paused or archived
├── WidgetDisabled           raised if the agent's widget is disabled
├── VisitorKindForbidden     raised if the agent allows only the other visitor type
├── UserTokenUnknown         raised if the user token was never issued, expired long ago, or is no longer stored
├── UserTokenExpired         raised if the user token is older than five minutes
├── UserTokenUsed            raised if the user token was already exchanged
├── UserTokenOfAnotherAccount raised if it is sent with another account's widget key
├── RefreshTokenUnknown      raised if no such visitor session exists: never created, expired, or no longer stored
├── RefreshTokenReused       raised if the token was already used, which ends the visitor session
├── TooManySessions          raised if the widget key, its account or the installation is at its limit of sessions
├── CreatingKeyInvalid       raised if the API key that created the user token is revoked, expired or removed
└── WidgetNotConfigured      raised if this installation has no signing key for visitor tokens

StoreUnavailable             raised if Redis is unavailable, so the token's state is unknown
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID


@dataclass(frozen=True, slots=True)
class RefusedPage:
    """A page that a widget key refused."""

    account: str
    widget_key_id: UUID
    origin: str


class WidgetRefused(Exception):
    """A rejected visitor. `code` is stable, and the message is for developers."""

    code: ClassVar[str]
    explanation: ClassVar[str]

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or self.explanation)


class UnknownWidgetKey(WidgetRefused):
    code = "unknown_widget_key"
    explanation = "The widget key does not exist. Copy the complete key again, or create a new one."


class WidgetKeyDisabled(WidgetRefused):
    code = "widget_key_disabled"
    explanation = "The widget key is disabled."


class WidgetAccountSuspended(WidgetRefused):
    code = "account_suspended"
    explanation = "The account is suspended."


class OriginRefused(WidgetRefused):
    code = "origin_refused"
    explanation = (
        "The request has no valid `Origin` header (or `Referer`, if `Origin` is missing), so its page can't be checked "
        "against the widget key's domain_allowlist."
    )

    def __init__(self, detail: str | None = None, page: RefusedPage | None = None) -> None:
        super().__init__(detail)
        self.page = page
        """The page, if the key is known and its list does not contain the page's origin."""


class AgentMissing(WidgetRefused):
    code = "agent_missing"
    explanation = "The widget key is not pinned to an agent. Set `agent_id`, or `data-agent` in the script tag."


class WrongAgent(WidgetRefused):
    code = "wrong_agent"
    explanation = "The widget key is pinned to another agent. Omit `agent_id`, or use another widget key."


class UnknownAgent(WidgetRefused):
    code = "unknown_agent"
    explanation = "The widget key's account has no such agent."


class AgentNotActive(WidgetRefused):
    code = "agent_not_active"
    explanation = "The agent is not active."


class WidgetDisabled(WidgetRefused):
    code = "widget_off"
    explanation = "The agent's widget is disabled. Enable it in the agent's widget settings."


class VisitorKindForbidden(WidgetRefused):
    code = "visitor_kind_forbidden"
    explanation = "The agent does not allow this visitor type."


class UserTokenUnknown(WidgetRefused):
    code = "user_token_unknown"
    explanation = "The user token is not recognized. Request a new one from your server."


class UserTokenExpired(WidgetRefused):
    code = "user_token_expired"
    explanation = (
        "The user token has expired. User tokens are valid for five minutes. Request a new one from your server."
    )


class UserTokenUsed(WidgetRefused):
    code = "user_token_used"
    explanation = "The user token was already used. User tokens are valid once. Request a new one from your server."


class UserTokenOfAnotherAccount(WidgetRefused):
    code = "user_token_of_another_account"
    explanation = "The user token belongs to another account. Use a widget key of the same account."


class RefreshTokenUnknown(WidgetRefused):
    code = "refresh_token_unknown"
    explanation = "The refresh token is not recognized or has expired. Start a new visitor session."


class RefreshTokenReused(WidgetRefused):
    code = "refresh_token_reused"
    explanation = "The refresh token was already used, so its visitor session has ended. Start a new visitor session."


class TooManySessions(WidgetRefused):
    """`limit` is the name of the reached limit. The next sessions expire in `retry_after_seconds`."""

    code = "too_many_visits"
    explanation = (
        "The maximum number of concurrent visitor sessions is reached. Existing sessions continue. Retry later."
    )

    def __init__(self, limit: str, retry_after_seconds: int) -> None:
        super().__init__()
        self.limit = limit
        self.retry_after_seconds = retry_after_seconds


class CreatingKeyInvalid(WidgetRefused):
    code = "minting_key_ended"
    explanation = (
        "The API key that created this user token is revoked, expired or removed. Request a new one from your server."
    )


class WidgetNotConfigured(WidgetRefused):
    code = "widget_not_configured"
    explanation = (
        "This installation has no signing key for visitor tokens. Its operator must set KATAVEN_WIDGET_SIGNING_KEYS."
    )


class StoreUnavailable(Exception):
    """Redis is unavailable, so it is unknown whether a token was used. Retry after `retry_after_seconds`."""

    retry_after_seconds = 1
