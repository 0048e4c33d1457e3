"""What can be wrong with a credential, as one family.

    Refused
    ├── MissingCredential     raised when there is no `Authorization: Bearer …`
    ├── MalformedToken        raised when the text is none of the shapes, before any I/O
    ├── NotACredential        raised when a widget key is used as a credential
    ├── MissingAccount        raised when a JWT comes without `X-Account-ID`
    ├── InvalidAccount        raised when `X-Account-ID` can't be an account's name
    ├── ReservedAccount       raised when the operators' account is asked for on a customer's endpoint
    ├── AccountMismatch       raised when the credential does not reach the account that was asked for
    ├── InvalidCredential     raised when nobody we know issued it: unknown key, bad signature, wrong issuer
    ├── ExpiredCredential     raised when it was good until its own expiry
    ├── RevokedCredential     raised when somebody ended it
    └── AccountSuspended      raised when it is good and its account is closed for now

    VerifierUnavailable       raised when nobody can tell right now; never an acceptance, never a refusal
    └── AccountOutOfStep      raised when that is because the account's database is of another version than the code

The texts are for the caller to read and never hold a token. `web/problems.py` alone gives them statuses.
"""

from __future__ import annotations

from typing import ClassVar


class Refused(Exception):
    """A credential that is not accepted, with the reason in `code` (stable) and in the text (for people)."""

    code: ClassVar[str]
    explanation: ClassVar[str]
    field: ClassVar[str | None] = None
    """The request header at fault, where one is."""

    def __init__(self, detail: str | None = None, *, rule: str | None = None) -> None:
        super().__init__(detail or self.explanation)
        self.rule = rule
        """The violated rule of a JWT, for the log and for the Hub's advice. None for other credentials."""


class MissingCredential(Refused):
    code = "missing_credential"
    explanation = "Send an API key or a JWT: `Authorization: Bearer …`."


class MalformedToken(Refused):
    code = "malformed_token"
    explanation = "The bearer token is neither an API key (`sk_live_…`) nor a JWT."
    field = "Authorization"


class NotACredential(Refused):
    code = "not_a_credential"
    explanation = "A widget key (`pk_live_…`) is a public identifier. Send an API key (`sk_live_…`) or a JWT."


class MissingAccount(Refused):
    code = "missing_account"
    explanation = "A JWT can reach several accounts. Name one in the `X-Account-ID` header."
    field = "X-Account-ID"


class InvalidAccount(Refused):
    code = "invalid_account"
    explanation = (
        "`X-Account-ID` must be one account's name: 1 to 63 of `a-z 0-9 _ -`, the first of them a letter or digit."
    )
    field = "X-Account-ID"


class ReservedAccount(Refused):
    code = "reserved_account"
    explanation = "This account is reserved for the operators and has no API resources."


class AccountMismatch(Refused):
    code = "account_mismatch"
    explanation = "This credential does not give access to the account that was asked for."


class InvalidCredential(Refused):
    code = "invalid_credential"
    explanation = "The credential is not valid."


class ExpiredCredential(Refused):
    code = "expired_credential"
    explanation = "The credential has expired."


class RevokedCredential(Refused):
    code = "revoked_credential"
    explanation = "The credential has been revoked."


class AccountSuspended(Refused):
    code = "account_suspended"
    explanation = "The account is suspended."


class VerifierUnavailable(Exception):
    """Whether the credential is good can't be told right now; ask again in `retry_after_seconds`."""

    code: ClassVar[str] = "unavailable"

    def __init__(self, detail: str = "The credential can't be checked right now.", *, retry_after_seconds: int = 1):
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class AccountOutOfStep(VerifierUnavailable):
    """The account's database and the code are of versions that do not fit; the detail names both."""

    code: ClassVar[str] = "schema_mismatch"
