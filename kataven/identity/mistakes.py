"""What is wrong with a credential that has no known shape, told from its text alone, which is never repeated.

Most are a key of ours that was copied or pasted wrongly, or a key of another service. Work is linear in the text, which
is at most 8 KiB, and asks nobody.
"""

from __future__ import annotations

import re

from kataven.identity.token import ACCOUNT_PATTERN, CHECKSUM_LENGTH, SECRET_LENGTH

_LAST_PART = SECRET_LENGTH + CHECKSUM_LENGTH
_HEAD = re.compile(rf"(?:sk|pk)_live_{ACCOUNT_PATTERN}")
_QUOTES = "\"'`<>"
_OF_OTHERS = re.compile(r"sk-|sk_(?!live_)|rk_(?:live|test)_|gh[pousr]_|github_pat_|xox[a-z]-|AKIA|AIza|glpat-")
_OF_VISITORS = ("ut_", "rt_")


def without_bearer(authorization: str | None, *, in_x_api_key: bool) -> str | None:
    """Why there is no credential in `Authorization`; None if there simply is none."""
    if not authorization:
        if in_x_api_key:
            return "The request has `X-API-Key`, which is not read. Send the key as `Authorization: Bearer …`."
        return None
    if authorization.startswith(("sk_live_", "pk_live_", "eyJ")):
        return "`Authorization` has no scheme. Write `Bearer` and one blank before the key."
    if authorization.lower().startswith("bearer"):
        return "`Authorization` must be `Bearer`, one blank, and the key."
    return "`Authorization` has another scheme than `Bearer`. Send an API key or a JWT: `Authorization: Bearer …`."


def in_token(text: str) -> str | None:
    """What is wrong with a bearer token that is neither a key nor a JWT; None for a key with a wrong checksum."""
    if not text:
        return "There is nothing after `Bearer`: is the variable with the key empty?"
    if text[0] in _QUOTES or text[-1] in _QUOTES:
        return "The bearer token is in quotes or brackets. Send it without them."
    if not text.isascii():
        return "The bearer token has a character that no token has, such as a typographic quote. Copy it again, whole."
    if text[0] == "$" or text.startswith("{{"):
        return "The bearer token is the name of a variable, not its value."
    if " " in text or "," in text:
        return "The bearer token has a blank or a comma in it. Send one token, once."
    if text.startswith(("sk_live_", "pk_live_")):
        return _in_key(text)
    if text.startswith(_OF_VISITORS):
        return "This is a token of a widget's visitor. Send an API key (`sk_live_…`) or a JWT."
    if text.startswith("sk_test_"):
        return "There are no test keys here. An API key begins with `sk_live_` and the account's name."
    if _OF_OTHERS.match(text) is not None:
        return "This looks like another service's key. Ours begin with `sk_live_` and the account's name."
    return "The bearer token is neither an API key (`sk_live_…`) nor a JWT."


def _in_key(text: str) -> str | None:
    head, _, last = text.rpartition("_")
    if not (last.isascii() and last.isalnum()) and last:
        return (
            "The bearer token begins like an API key and has a character in it that no key has. Copy it again, whole."
        )
    if _HEAD.fullmatch(head) is None:
        return (
            "The bearer token begins like an API key and has no account's name in it: ours are "
            "`sk_live_<account>_<secret>`. Is it a key of another service?"
        )
    if len(last) == _LAST_PART:
        return None
    said = f"The bearer token begins like an API key, but its last part has {len(last)} of {_LAST_PART} characters"
    return f"{said}: it was {'cut short' if len(last) < _LAST_PART else 'pasted twice, or joined with something'}."
