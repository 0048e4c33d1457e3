"""Reasons for failed sign-ins: a code for log and metric, a message for the user, and advice for the administrator."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from kataven.logs import redact

LONGEST_DESCRIPTION = 200
_LONGEST_WORD = 48
_CODE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_UNPRINTED = re.compile(r"[^\x20-\x7e]")
"""RFC 6749, section 5.2, allows nothing else in an `error_description`."""
_PRIVATE = re.compile(rf"\S*@\S*|\S{{{_LONGEST_WORD + 1},}}")
"""An email address, or a word that is long enough to be a code or a token."""


class Reason(StrEnum):
    """The check that failed."""

    NOT_BEGUN = "not_begun"
    STATE = "state"
    ISSUER = "issuer"
    DENIED = "denied"
    REFUSED = "refused"
    NO_CODE = "no_code"
    TOKENS_REFUSED = "tokens_refused"
    CLIENT_REFUSED = "client_refused"
    TOKEN_MISSING = "token_missing"  # noqa: S105  a word
    ID_TOKEN = "id_token"  # noqa: S105  a word
    NONCE = "nonce"
    AT_HASH = "at_hash"
    OPAQUE_ACCESS_TOKEN = "opaque_access_token"  # noqa: S105  a word
    ACCESS_TOKEN_TOO_LONG = "access_token_too_long"  # noqa: S105  a word
    ACCESS_TOKEN = "access_token"  # noqa: S105  a word
    OTHER_PERSON = "other_person"


@dataclass(frozen=True, slots=True)
class Message:
    """The texts of the page."""

    user: str
    admin: str | None = None
    """What to change, and where. None if the failure doesn't indicate a wrong configuration."""


_AGAIN = "You are not signed in. You can try again."
_NOT_USABLE = "The identity provider confirmed your identity, but the Hub can't use the tokens that it sent."
_REDIRECT = "The redirect URI of the application must be KATAVEN_HUB_URL followed by /auth/callback."
_IN_THE_LOG = "The Hub's log contains the provider's error description. Search for the request id below."

MESSAGES: dict[Reason, Message] = {
    Reason.NOT_BEGUN: Message("This sign-in expired, was started in another browser, or was tried before."),
    Reason.STATE: Message("This sign-in was started elsewhere, or a later one replaced it."),
    Reason.ISSUER: Message(
        "The response came from an unexpected identity provider.",
        "KATAVEN_OIDC_ISSUER must be what the provider says in `iss`, to the letter. At Zitadel each domain of an "
        "instance is an issuer of its own: use the one that people sign in at.",
    ),
    Reason.DENIED: Message(_AGAIN),
    Reason.REFUSED: Message("The identity provider rejected the sign-in request.", _IN_THE_LOG),
    Reason.NO_CODE: Message(
        _AGAIN, "The provider sent neither a code nor an error. The Hub uses the authorization code flow."
    ),
    Reason.TOKENS_REFUSED: Message(
        "The identity provider did not confirm this sign-in. You can try again.",
        f"Enable the grant types “authorization code” and “refresh token” for the Hub's application. {_IN_THE_LOG}",
    ),
    Reason.CLIENT_REFUSED: Message(
        "The identity provider did not accept the Hub's client credentials.",
        "Compare KATAVEN_HUB_CLIENT_ID and KATAVEN_HUB_CLIENT_SECRET with the application there. With a secret, the "
        "application's method must be Basic; without one, it must be none (PKCE).",
    ),
    Reason.TOKEN_MISSING: Message(
        _NOT_USABLE, "The provider sent no ID token or no access token. KATAVEN_HUB_SCOPES must contain `openid`."
    ),
    Reason.ID_TOKEN: Message(
        _NOT_USABLE,
        "The ID token was refused. It must be signed with RS256, PS256, ES256 or EdDSA by a key of the provider's key "
        "set, and name KATAVEN_HUB_CLIENT_ID in `aud`. The Hub's log names the failed check. Search for the request id "
        "below.",
    ),
    Reason.NONCE: Message("The response belongs to another sign-in. You can try again."),
    Reason.AT_HASH: Message(_NOT_USABLE, "The `at_hash` of the ID token doesn't match the access token."),
    Reason.OPAQUE_ACCESS_TOKEN: Message(
        _NOT_USABLE,
        "The access token is opaque, and the API verifies JWTs. Set the token type of the Hub's application to JWT. At "
        "Zitadel: the application's “Token settings”, “Auth token type”: JWT instead of Bearer token.",
    ),
    Reason.ACCESS_TOKEN_TOO_LONG: Message(
        _NOT_USABLE,
        "The access token is longer than 8 KiB, for example because it lists roles in many organisations. Add "
        "`urn:zitadel:iam:org:roles:id:{org_id}` to KATAVEN_HUB_SCOPES: it limits the roles to those in the account's "
        "organisation.",
    ),
    Reason.ACCESS_TOKEN: Message(
        _NOT_USABLE,
        "The API would refuse the access token. Its `aud` must contain KATAVEN_OIDC_AUDIENCE: at Zitadel, add "
        "`urn:zitadel:iam:org:project:id:<project id>:aud` to KATAVEN_HUB_SCOPES. Its algorithm must be RS256, PS256, "
        "ES256 or EdDSA. The Hub's log names the failed check. Search for the request id below.",
    ),
    Reason.OTHER_PERSON: Message(_NOT_USABLE, "The ID token and the access token have different subjects (`sub`)."),
}

_OF_ERRORS: dict[str, str] = {
    "invalid_scope": "It doesn't support a requested scope. Compare KATAVEN_HUB_SCOPES with the scopes that the "
    "application may request.",
    "unauthorized_client": "The Hub's application may not use the authorization code grant. Enable it, with PKCE.",
    "unsupported_response_type": "The Hub's application needs the response type `code`.",
    "invalid_request": f"{_IN_THE_LOG} {_REDIRECT} Pushed authorization requests must not be required.",
    "invalid_grant": f"The code expired or was used before. If every sign-in fails like this: {_REDIRECT}",
    "server_error": f"It reported an internal error. {_IN_THE_LOG}",
    "temporarily_unavailable": "It is overloaded. Try again later.",
}
"""Advice by the issuer's error code (RFC 6749, sections 4.1.2.1 and 5.2)."""


class SignInFailed(Exception):
    """The issuer's answer can't start a session. The text may be shown to the user."""

    def __init__(
        self,
        reason: Reason,
        *,
        check: str | None = None,
        error: object = None,
        description: object = None,
        subject: str | None = None,
    ) -> None:
        """`check` names the failed check; `error` and `description` come from the issuer and are cleaned here."""
        super().__init__(MESSAGES[reason].user)
        self.reason = reason
        self.check = check
        self.error = clean_code(error)
        self.description = clean_description(description)
        self.subject = subject

    @property
    def advice(self) -> str | None:
        """Advice for the administrator. It contains no text from the request."""
        of_error = None if self.error is None else _OF_ERRORS.get(self.error)
        if of_error is not None and self.reason in {Reason.REFUSED, Reason.TOKENS_REFUSED}:
            return of_error
        return MESSAGES[self.reason].admin

    def for_log(self) -> dict[str, str | None]:
        """The fields of the log line: no token, and no personal data except the subject."""
        return {
            "reason": self.reason.value,
            "check": self.check,
            "error": self.error,
            "error_description": self.description,
            "sub": self.subject,
        }


def clean_code(text: object) -> str | None:
    """An issuer's `error`, or None if it isn't a well-formed error code."""
    return text if isinstance(text, str) and _CODE.fullmatch(text) else None


def clean_description(text: object) -> str | None:
    """An issuer's `error_description`: at most 200 printable ASCII characters, without addresses and long words."""
    if not isinstance(text, str):
        return None
    printed = _UNPRINTED.sub("?", redact(text[: 4 * LONGEST_DESCRIPTION]))
    return _PRIVATE.sub("[redacted]", printed)[:LONGEST_DESCRIPTION] or None
