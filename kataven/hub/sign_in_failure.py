"""Why a sign-in failed: a word for the log and the metric, words for the person, and words for who set the Hub up."""

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
"""An address of somebody, or what is long enough to be a code or a token."""


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
class Words:
    """What the page says."""

    to_person: str
    to_admin: str | None = None
    """What to change, and where; None where nothing is set up wrongly."""


_AGAIN = "You were not signed in. Nothing has changed; you can try again."
_NOT_USABLE = "The identity provider confirmed who you are, but the Hub can't use what it sent. Nothing has changed."
_REDIRECT = "The redirect URI that is registered there must be KATAVEN_HUB_URL with /auth/callback behind it."
_IN_THE_LOG = "The Hub's log has the provider's own words, under the request id below."

WORDS: dict[Reason, Words] = {
    Reason.NOT_BEGUN: Words("This sign-in took too long, was begun in another browser, or was tried before."),
    Reason.STATE: Words("This sign-in was not begun here, or a later one has taken its place."),
    Reason.ISSUER: Words(
        "The answer comes from another identity provider than the one that was asked.",
        "KATAVEN_OIDC_ISSUER must be what the provider says in `iss`, to the letter. At Zitadel each domain of an "
        "instance is an issuer of its own: use the one that people sign in at.",
    ),
    Reason.DENIED: Words(_AGAIN),
    Reason.REFUSED: Words("The identity provider refused the request. Nothing has changed.", _IN_THE_LOG),
    Reason.NO_CODE: Words(
        _AGAIN, "The provider sent neither a code nor an error. The Hub uses the authorization code flow."
    ),
    Reason.TOKENS_REFUSED: Words(
        "The identity provider did not confirm this sign-in. You can try again.",
        f"Let the Hub's application use the grants “authorization code” and “refresh token”. {_IN_THE_LOG}",
    ),
    Reason.CLIENT_REFUSED: Words(
        "The identity provider does not know the Hub. Nothing has changed.",
        "Compare KATAVEN_HUB_CLIENT_ID and KATAVEN_HUB_CLIENT_SECRET with the application there. With a secret, the "
        "application's method must be Basic; without one, it must be none (PKCE).",
    ),
    Reason.TOKEN_MISSING: Words(
        _NOT_USABLE, "The provider sent no ID token or no access token. KATAVEN_HUB_SCOPES must contain `openid`."
    ),
    Reason.ID_TOKEN: Words(
        _NOT_USABLE,
        "The ID token was refused. It must be signed with RS256, PS256, ES256 or EdDSA by a key of the provider's key "
        "set, and name KATAVEN_HUB_CLIENT_ID in `aud`. The Hub's log names the check, under the request id below.",
    ),
    Reason.NONCE: Words("The answer belongs to another sign-in. You can try again."),
    Reason.AT_HASH: Words(
        _NOT_USABLE, "The ID token was made for another access token than the one that came with it."
    ),
    Reason.OPAQUE_ACCESS_TOKEN: Words(
        _NOT_USABLE,
        "The access token is opaque, and the API verifies JWTs. Set the token type of the Hub's application to JWT. At "
        "Zitadel: the application's “Token settings”, “Auth token type”: JWT instead of Bearer token.",
    ),
    Reason.ACCESS_TOKEN_TOO_LONG: Words(
        _NOT_USABLE,
        "The access token is longer than 8 KiB, as when it lists roles in very many organisations. Add "
        "`urn:zitadel:iam:org:roles:id:{org_id}` to KATAVEN_HUB_SCOPES: then it lists those of the account alone.",
    ),
    Reason.ACCESS_TOKEN: Words(
        _NOT_USABLE,
        "The API would refuse the access token. Its `aud` must contain KATAVEN_OIDC_AUDIENCE: at Zitadel, add "
        "`urn:zitadel:iam:org:project:id:<project id>:aud` to KATAVEN_HUB_SCOPES. Its algorithm must be RS256, PS256, "
        "ES256 or EdDSA. The Hub's log names the check, under the request id below.",
    ),
    Reason.OTHER_PERSON: Words(_NOT_USABLE, "The ID token and the access token name two people in `sub`."),
}

_OF_ERRORS: dict[str, str] = {
    "invalid_scope": "It does not know a scope that the Hub asks for. Compare KATAVEN_HUB_SCOPES with what the "
    "application may ask for.",
    "unauthorized_client": "The Hub's application may not sign people in with a code. Let it use the grant "
    "“authorization code”, with PKCE.",
    "unsupported_response_type": "The Hub's application needs the response type `code`.",
    "invalid_request": f"{_IN_THE_LOG} {_REDIRECT} Pushed authorization requests must not be required.",
    "invalid_grant": f"The code was used before, or is too old. If every sign-in ends here: {_REDIRECT}",
    "server_error": f"It has a fault of its own. {_IN_THE_LOG}",
    "temporarily_unavailable": "It is busy. Try again in a while.",
}
"""What to change when an issuer says so (RFC 6749, sections 4.1.2.1 and 5.2)."""


class SignInFailed(Exception):
    """The issuer's answer is none that a session may begin with. Its text may be shown."""

    def __init__(
        self,
        reason: Reason,
        *,
        check: str | None = None,
        error: object = None,
        description: object = None,
        subject: str | None = None,
    ) -> None:
        """`check` names what did not hold, in our words; `error` and `description` are the issuer's."""
        super().__init__(WORDS[reason].to_person)
        self.reason = reason
        self.check = check
        self.error = clean_code(error)
        self.description = clean_description(description)
        self.subject = subject

    @property
    def advice(self) -> str | None:
        """For who set the Hub up. It repeats nothing that was sent."""
        of_error = None if self.error is None else _OF_ERRORS.get(self.error)
        if of_error is not None and self.reason in {Reason.REFUSED, Reason.TOKENS_REFUSED}:
            return of_error
        return WORDS[self.reason].to_admin

    def for_log(self) -> dict[str, str | None]:
        """The fields of its line; no token, and of a person nothing but the subject."""
        return {
            "reason": self.reason.value,
            "check": self.check,
            "error": self.error,
            "error_description": self.description,
            "sub": self.subject,
        }


def clean_code(text: object) -> str | None:
    """An issuer's `error`, if it looks like one."""
    return text if isinstance(text, str) and _CODE.fullmatch(text) else None


def clean_description(text: object) -> str | None:
    """An issuer's `error_description`: 200 printable ASCII characters at most, without addresses and long words."""
    if not isinstance(text, str):
        return None
    printed = _UNPRINTED.sub("?", redact(text[: 4 * LONGEST_DESCRIPTION]))
    return _PRIVATE.sub("[redacted]", printed)[:LONGEST_DESCRIPTION] or None
