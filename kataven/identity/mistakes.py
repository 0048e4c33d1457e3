"""Explains what is wrong with a malformed credential. The message never repeats the credential.

Most are keys that were copied incompletely or pasted with other text, or keys of another service. The checks use only
the text, which has at most 8 KiB, and take linear time.
"""

from __future__ import annotations

import re

from kataven.identity.token import ACCOUNT_PATTERN, CHECKSUM_LENGTH, SECRET_LENGTH

_SECRET_PART_LENGTH = SECRET_LENGTH + CHECKSUM_LENGTH
_HEAD = re.compile(rf"(?:sk|pk)_live_{ACCOUNT_PATTERN}")
_QUOTES = "\"'`<>"
_OTHER_SERVICES = re.compile(r"sk-|sk_(?!live_)|rk_(?:live|test)_|gh[pousr]_|github_pat_|xox[a-z]-|AKIA|AIza|glpat-")
_VISITOR_TOKENS = ("ut_", "rt_")


def missing_bearer(authorization: str | None, *, in_x_api_key: bool) -> str | None:
    """Why `Authorization` contains no bearer token; None if the header is absent."""
    if not authorization:
        if in_x_api_key:
            return "The `X-API-Key` header is not supported. Send the key as `Authorization: Bearer …`."
        return None
    if authorization.startswith(("sk_live_", "pk_live_", "eyJ")):
        return "`Authorization` has no scheme. Put `Bearer` and one space before the key."
    if authorization.lower().startswith("bearer"):
        return "`Authorization` must be `Bearer`, one space, and the key."
    return "`Authorization` must use the scheme `Bearer`. Send an API key or a JWT: `Authorization: Bearer …`."


def malformed_token(text: str) -> str | None:
    """What is wrong with a bearer token that is neither a key nor a JWT; None for a key with a wrong checksum."""
    if not text:
        return "The bearer token is empty. Check that the variable with the key is set."
    if text[0] in _QUOTES or text[-1] in _QUOTES:
        return "The bearer token is in quotes or angle brackets. Send it without them."
    if not text.isascii():
        return (
            "The bearer token contains a character that tokens cannot contain, such as a typographic quote. "
            "Copy the whole token again."
        )
    if text[0] == "$" or text.startswith("{{"):
        return "The bearer token is the name of a variable. Send the value of the variable."
    if " " in text or "," in text:
        return "The bearer token contains a space or a comma. Send exactly one token."
    if text.startswith(("sk_live_", "pk_live_")):
        return _malformed_key(text)
    if text.startswith(_VISITOR_TOKENS):
        return "The bearer token is a token of a widget visitor. Send an API key (`sk_live_…`) or a JWT."
    if text.startswith("sk_test_"):
        return "Test keys (`sk_test_…`) do not exist. An API key starts with `sk_live_` and the account name."
    if _OTHER_SERVICES.match(text) is not None:
        return (
            "The bearer token looks like a key of another service. An API key starts with `sk_live_` and the account."
        )
    return "The bearer token is neither an API key (`sk_live_…`) nor a JWT."


def _malformed_key(text: str) -> str | None:
    head, _, last = text.rpartition("_")
    if not (last.isascii() and last.isalnum()) and last:
        return (
            "The bearer token starts like an API key but contains a character that keys cannot contain. "
            "Copy the whole key again."
        )
    if _HEAD.fullmatch(head) is None:
        return (
            "The bearer token starts like an API key but contains no account name. An API key has the format "
            "`sk_live_<account>_<secret>`. Check that the key is not from another service."
        )
    if len(last) == _SECRET_PART_LENGTH:
        return None
    cause = "it was cut off" if len(last) < _SECRET_PART_LENGTH else "it was pasted twice or with other text"
    return (
        f"The bearer token starts like an API key, but its last part has {len(last)} instead of {_SECRET_PART_LENGTH} "
        f"characters: {cause}. Copy the whole key again."
    )
