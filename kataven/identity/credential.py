"""Parses two request headers into one credential, without I/O.

The checks run in the order of the table in `docs/authentication.md`; the first one that fails determines the error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from kataven.identity import jws, mistakes
from kataven.identity import token as tokens
from kataven.identity.errors import (
    AccountMismatch,
    InvalidAccount,
    MalformedToken,
    MissingAccount,
    MissingCredential,
    NotACredential,
    Refused,
    ReservedAccount,
)

OPERATORS_ACCOUNT = "kataven-admin"

# Base64url without padding and without stray bits in the last character (RFC 4648, sections 3.5 and 5). A JWT's header
# is a JSON object, so it starts with `{"`, which encodes to `eyJ`. An empty signature passes here; it is rejected as an
# invalid signature later.
_SEGMENT = r"(?:[\w-]{4})*(?:[\w-][AQgw]|[\w-]{2}[AEIMQUYcgkosw048])?"
_JWT = re.compile(rf"eyJ(?=[\w-])[\w-](?:{_SEGMENT})\.(?=[\w-]){_SEGMENT}\.{_SEGMENT}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ApiKeyCredential:
    """An API key. Its prefix contains the account."""

    token: str = field(repr=False)
    account: str


@dataclass(frozen=True, slots=True)
class JwtCredential:
    """An unverified JWT, and the account from `X-Account-ID`."""

    token: str = field(repr=False)
    account: str


Credential = ApiKeyCredential | JwtCredential


def parse_credential(
    authorization: str | None,
    account: str | None,
    *,
    misplaced: str | None = None,
    account_of_jwt: str | None = None,
) -> Credential:
    """Parse the values of `Authorization` and `X-Account-ID`; None if a header is absent.

    `misplaced` names the header or the parameter that seems to contain the key instead. Only the error mentions it.
    `account_of_jwt` is the account of a JWT without `X-Account-ID`.

    Raises MissingCredential, MalformedToken, NotACredential, MissingAccount, InvalidAccount, ReservedAccount or
    AccountMismatch, in this order of precedence.
    """
    text = _bearer(authorization, misplaced=misplaced)
    if text.startswith("eyJ"):
        return _jwt(text, account_of_jwt if account is None else account)
    return _api_key(text, account)


def _bearer(authorization: str | None, *, misplaced: str | None) -> str:
    scheme, _, text = (authorization or "").partition(" ")
    if scheme.lower() != "bearer":
        raise MissingCredential(mistakes.missing_bearer(authorization, misplaced=misplaced))
    if len(text) > jws.MAX_TOKEN_BYTES:
        raise MalformedToken(f"The bearer token is longer than {jws.MAX_TOKEN_BYTES} bytes.")
    return text.strip(" ")


def _jwt(text: str, account: str | None) -> JwtCredential:
    if _JWT.fullmatch(text) is None:
        raise MalformedToken(mistakes.malformed_jwt())
    try:
        if account is None:
            raise MissingAccount
        return JwtCredential(text, _requested_account(account))
    except Refused:
        # The verifier parses the token, once and not on every request. But a malformed token takes precedence over an
        # error in the account, so it is parsed here if the account is invalid.
        jws.parse(text)
        raise


def _api_key(text: str, account: str | None) -> ApiKeyCredential:
    try:
        token = tokens.parse(text)
    except MalformedToken as error:
        raise MalformedToken(mistakes.malformed_token(text) or str(error)) from None
    if token.kind is tokens.TokenKind.WIDGET_KEY:
        raise NotACredential
    requested = token.account if account is None else _requested_account(account)
    if token.account == OPERATORS_ACCOUNT:
        raise ReservedAccount
    if requested != token.account:
        raise AccountMismatch(
            "This API key belongs to another account than the one in `X-Account-ID`. Omit the header, or send a key of "
            "that account."
        )
    return ApiKeyCredential(text, token.account)


def _requested_account(account: str) -> str:
    if not tokens.is_account_name(account):
        raise InvalidAccount
    if account == OPERATORS_ACCOUNT:
        raise ReservedAccount
    return account
