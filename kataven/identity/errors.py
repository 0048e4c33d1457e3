"""The errors of authentication.

    Refused
    ├── MissingCredential     the request has no `Authorization: Bearer …`
    ├── MalformedToken        the token has none of the known formats; detected before any I/O
    ├── NotACredential        a widget key is sent as a credential
    ├── MissingAccount        a JWT is sent without `X-Account-ID`
    ├── InvalidAccount        `X-Account-ID` is not a valid account name
    ├── ReservedAccount       the operators' account is requested on a customer endpoint
    ├── AccountMismatch       the credential grants no access to the requested account
    ├── InvalidCredential     the credential is not recognized: unknown key, invalid signature, wrong issuer
    ├── ExpiredCredential     the credential has expired
    ├── RevokedCredential     the credential has been revoked
    ├── RotatedCredential     a former secret of an API key is sent after its grace period
    ├── PausedCredential      the API key is paused
    ├── NotYetValid           the API key is not valid yet
    ├── AddressNotAllowed     the API key can't be used from the client's address
    ├── BrowserUse            a browser sent the API key
    ├── AccountSuspended      the credential is valid, and its account is suspended
    ├── SessionEnded          the user's sessions were ended after the token was issued
    └── AccessBlocked         the user is blocked in the requested account

    VerifierUnavailable       the credential cannot be checked right now; neither an acceptance nor a refusal
    └── AccountOutOfStep      the schema of the account's database does not match the code

Callers see the messages, which never contain a token. Only `web/problems.py` assigns statuses.
"""

from __future__ import annotations

from typing import ClassVar


class Refused(Exception):
    """The credential is rejected. `code` is stable; the message is for people."""

    code: ClassVar[str]
    explanation: ClassVar[str]
    field: ClassVar[str | None] = None
    """The request header that caused the error, if one did."""

    def __init__(self, detail: str | None = None, *, rule: str | None = None, caller: str | None = None) -> None:
        super().__init__(detail or self.explanation)
        self.rule = rule
        """The rule that a JWT violates, for the log and the Hub's sign-in page. None for other credentials."""
        self.caller = caller
        """The id of the account's API key or user whose credential it is, if that was verified before the refusal."""

    def copy(self) -> Refused:
        """Another instance, without the traceback."""
        return type(self)(*self.args, caller=self.caller)


class MissingCredential(Refused):
    code = "missing_credential"
    explanation = "The request has no credential. Send an API key or a JWT: `Authorization: Bearer …`."


class MalformedToken(Refused):
    code = "malformed_token"
    explanation = "The bearer token is neither an API key (`sk_live_…`) nor a JWT."
    field = "Authorization"


class NotACredential(Refused):
    code = "not_a_credential"
    explanation = "A widget key (`pk_live_…`) is a public identifier. Send an API key (`sk_live_…`) or a JWT."


class MissingAccount(Refused):
    code = "missing_account"
    explanation = "A JWT can grant access to several accounts. Name one in the `X-Account-ID` header."
    field = "X-Account-ID"


class InvalidAccount(Refused):
    code = "invalid_account"
    explanation = (
        "`X-Account-ID` must be one account name: 1 to 63 of `a-z 0-9 _ -`, starting with a letter or a digit."
    )
    field = "X-Account-ID"


class ReservedAccount(Refused):
    code = "reserved_account"
    explanation = "This account is reserved for operators and has no API resources."


class AccountMismatch(Refused):
    code = "account_mismatch"
    explanation = "This credential does not grant access to the requested account."


class InvalidCredential(Refused):
    code = "invalid_credential"
    explanation = "The credential is not recognized."


class ExpiredCredential(Refused):
    code = "expired_credential"
    explanation = "The credential has expired."


class RevokedCredential(Refused):
    code = "revoked_credential"
    explanation = "The credential has been revoked."


class RotatedCredential(Refused):
    code = "rotated_credential"
    explanation = (
        "The secret of this API key was rotated, and this former one is not accepted any more. Use the new one."
    )

    def __init__(
        self,
        detail: str | None = None,
        *,
        rule: str | None = None,
        caller: str | None = None,
        secret_id: str | None = None,
    ) -> None:
        super().__init__(detail, rule=rule, caller=caller)
        self.secret_id = secret_id
        """The former secret, whose late uses are counted."""

    def copy(self) -> RotatedCredential:
        return type(self)(*self.args, caller=self.caller, secret_id=self.secret_id)


class PausedCredential(Refused):
    code = "paused_credential"
    explanation = "The API key is paused. A user with the role owner or admin can resume it."


class NotYetValid(Refused):
    code = "credential_not_yet_valid"
    explanation = "The API key is not valid yet."


class AddressNotAllowed(Refused):
    code = "address_not_allowed"
    explanation = "This API key can't be used from this address."


class BrowserUse(Refused):
    code = "browser_use"
    explanation = (
        "A browser sent this API key, so every visitor of the page can read it. Revoke the key, and call the API from "
        "your server. For web pages, use a widget key."
    )


class AccountSuspended(Refused):
    code = "account_suspended"
    explanation = "The account is suspended."


class SessionEnded(Refused):
    code = "session_ended"
    explanation = "Your sessions were ended after this token was issued. Sign in again to get a new token."


class AccessBlocked(Refused):
    code = "access_blocked"
    explanation = "Your access to this account is blocked. Ask an owner or admin of the account."


class VerifierUnavailable(Exception):
    """The credential cannot be checked right now. Retry after `retry_after_seconds`."""

    code: ClassVar[str] = "unavailable"

    def __init__(self, detail: str = "The credential can't be checked right now.", *, retry_after_seconds: int = 1):
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class AccountOutOfStep(VerifierUnavailable):
    """The schema version of the account's database does not match the code; the message names both."""

    code: ClassVar[str] = "schema_mismatch"
