"""From two request headers to one parsed credential, without any I/O.

The checks stand in the order of the table in `docs/authentication.md`; the first that fails is the answer.
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
# is a JSON object, so it begins with `{"`, which is `eyJ`. An empty signature passes here, and is refused as a bad one.
_SEGMENT = r"(?:[\w-]{4})*(?:[\w-][AQgw]|[\w-]{2}[AEIMQUYcgkosw048])?"
_JWT = re.compile(rf"eyJ(?=[\w-])[\w-](?:{_SEGMENT})\.(?=[\w-]){_SEGMENT}\.{_SEGMENT}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ApiKeyCredential:
    """An API key; its own prefix names the account."""

    token: str = field(repr=False)
    account: str


@dataclass(frozen=True, slots=True)
class JwtCredential:
    """A JWT, still unverified, and the account that it is shown for."""

    token: str = field(repr=False)
    account: str


Credential = ApiKeyCredential | JwtCredential


def parse_credential(authorization: str | None, account: str | None, *, in_x_api_key: bool = False) -> Credential:
    """Read the values of `Authorization` and `X-Account-ID`, None where a header is absent.

    `in_x_api_key` is whether there is something in `X-API-Key`, where other services look; only the refusal says so.

    Raises MissingCredential, MalformedToken, NotACredential, MissingAccount, InvalidAccount, ReservedAccount or
    AccountMismatch, whichever comes first in that order.
    """
    text = _bearer(authorization, in_x_api_key=in_x_api_key)
    if text.startswith("eyJ"):
        return _jwt(text, account)
    return _api_key(text, account)


def _bearer(authorization: str | None, *, in_x_api_key: bool) -> str:
    scheme, _, text = (authorization or "").partition(" ")
    if scheme.lower() != "bearer":
        raise MissingCredential(mistakes.without_bearer(authorization, in_x_api_key=in_x_api_key))
    if len(text) > jws.MAX_TOKEN_BYTES:
        raise MalformedToken(f"The bearer token is over {jws.MAX_TOKEN_BYTES} bytes.")
    return text.strip(" ")


def _jwt(text: str, account: str | None) -> JwtCredential:
    if _JWT.fullmatch(text) is None:
        raise MalformedToken
    try:
        if account is None:
            raise MissingAccount
        return JwtCredential(text, _asked_for(account))
    except Refused:
        # Whether its parts are JSON is the verifier's to find out, once and not on every request; but a malformed token
        # goes before anything that is wrong with the account.
        jws.parse(text)
        raise


def _api_key(text: str, account: str | None) -> ApiKeyCredential:
    try:
        token = tokens.parse(text)
    except MalformedToken as error:
        raise MalformedToken(mistakes.in_token(text) or str(error)) from None
    if token.kind is tokens.TokenKind.WIDGET_KEY:
        raise NotACredential
    asked = token.account if account is None else _asked_for(account)
    if token.account == OPERATORS_ACCOUNT:
        raise ReservedAccount
    if asked != token.account:
        raise AccountMismatch("This API key belongs to another account than `X-Account-ID` names.")
    return ApiKeyCredential(text, token.account)


def _asked_for(account: str) -> str:
    if not tokens.is_account_name(account):
        raise InvalidAccount
    if account == OPERATORS_ACCOUNT:
        raise ReservedAccount
    return account
