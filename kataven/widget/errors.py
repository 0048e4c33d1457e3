"""What can keep a visitor out, as one family. The texts are for whoever embeds the widget to read, in their console.

WidgetRefused
├── UnknownWidgetKey         raised when nobody made this key, or it was removed
├── WidgetKeyDisabled        raised when somebody disabled it, now or since the visitor came in
├── AccountClosed            raised when the account is suspended or archived
├── OriginRefused            raised when the page is not on the key's list, or does not say where it is
├── AgentMissing             raised when the key is not pinned and the page names no agent
├── WrongAgent               raised when the key is pinned to another agent
├── UnknownAgent             raised when the account has no such agent (any more)
├── AgentNotActive           raised when the agent is a draft, paused or archived
├── WidgetOff                raised when the agent may not be embedded
├── VisitorKindForbidden     raised when the agent takes only the other kind of visitor
├── UserTokenUnknown         raised when we know of no such user token: never issued, long expired, or forgotten
├── UserTokenExpired         raised when its five minutes are over
├── UserTokenUsed            raised when it was exchanged before
├── UserTokenOfAnotherAccount raised when it is shown together with another account's widget key
├── RefreshTokenUnknown      raised when we know of no such visit: never begun, over, or forgotten
├── RefreshTokenReused       raised when it was used before; the whole visit is over then
├── TooManyVisits            raised when the widget key, its account or the installation has as many visits as it may
├── MintingKeyEnded          raised when the API key that vouched for the user is revoked, expired or removed
└── WidgetNotConfigured      raised when this installation has no key to sign visitor tokens with

StoreUnavailable             raised when Redis can't say; never an acceptance, never a refusal
"""

from __future__ import annotations

from typing import ClassVar


class WidgetRefused(Exception):
    """A visitor who is not let in, with the reason in `code` (stable) and in the text (for people)."""

    code: ClassVar[str]
    explanation: ClassVar[str]

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or self.explanation)


class UnknownWidgetKey(WidgetRefused):
    code = "unknown_widget_key"
    explanation = "There is no such widget key. Copy it again, whole, or make a new one."


class WidgetKeyDisabled(WidgetRefused):
    code = "widget_key_disabled"
    explanation = "This widget key was disabled."


class AccountClosed(WidgetRefused):
    code = "account_suspended"
    explanation = "The account is suspended."


class OriginRefused(WidgetRefused):
    code = "origin_refused"
    explanation = "The request does not say which page it comes from, so this widget key can't serve it."


class AgentMissing(WidgetRefused):
    code = "agent_missing"
    explanation = "This widget key serves several agents. Name one: `agent_id`, or `data-agent` in the script tag."


class WrongAgent(WidgetRefused):
    code = "wrong_agent"
    explanation = "This widget key is pinned to another agent."


class UnknownAgent(WidgetRefused):
    code = "unknown_agent"
    explanation = "There is no such agent in this widget key's account."


class AgentNotActive(WidgetRefused):
    code = "agent_not_active"
    explanation = "The agent is not active."


class WidgetOff(WidgetRefused):
    code = "widget_off"
    explanation = "The agent's widget is switched off."


class VisitorKindForbidden(WidgetRefused):
    code = "visitor_kind_forbidden"
    explanation = "The agent does not take this kind of visitor."


class UserTokenUnknown(WidgetRefused):
    code = "user_token_unknown"
    explanation = "There is no such user token. Let your server ask for a new one."


class UserTokenExpired(WidgetRefused):
    code = "user_token_expired"
    explanation = "The user token has expired: it is good for five minutes. Let your server ask for a new one."


class UserTokenUsed(WidgetRefused):
    code = "user_token_used"
    explanation = "The user token was used before: it is good once. Let your server ask for a new one."


class UserTokenOfAnotherAccount(WidgetRefused):
    code = "user_token_of_another_account"
    explanation = "The user token and the widget key belong to different accounts."


class RefreshTokenUnknown(WidgetRefused):
    code = "refresh_token_unknown"
    explanation = "There is no such refresh token, or it has expired. Begin again."


class RefreshTokenReused(WidgetRefused):
    code = "refresh_token_reused"
    explanation = "The refresh token was used before, so the visit that it belongs to is over. Begin again."


class TooManyVisits(WidgetRefused):
    """`limit` says which limit was met, and in `retry_after_seconds` the next visits end by themselves."""

    code = "too_many_visits"
    explanation = "There are as many visits as there may be at a time. Visits that stand go on."

    def __init__(self, limit: str, retry_after_seconds: int) -> None:
        super().__init__()
        self.limit = limit
        self.retry_after_seconds = retry_after_seconds


class MintingKeyEnded(WidgetRefused):
    code = "minting_key_ended"
    explanation = "The API key that vouched for this user has ended."


class WidgetNotConfigured(WidgetRefused):
    code = "widget_not_configured"
    explanation = (
        "This installation has no signing key for visitors. Its operator has to set KATAVEN_WIDGET_SIGNING_KEYS."
    )


class StoreUnavailable(Exception):
    """Whether a token was used can't be told right now, so nobody is let in; ask again in `retry_after_seconds`."""

    retry_after_seconds = 1
