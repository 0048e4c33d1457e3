"""Explains what is wrong with a malformed credential. The message never repeats the credential.

Most are keys that were copied incompletely or pasted with other text, placeholders, or keys of another service. The
checks use only the text, which has at most 8 KiB, and take linear time.
"""

from __future__ import annotations

import re

from kataven.identity.token import ACCOUNT_PATTERN, CHECKSUM_LENGTH, SECRET_LENGTH

MAX_PLACEHOLDER_LENGTH = 48
"""Shorter than every key."""
_SECRET_PART_LENGTH = SECRET_LENGTH + CHECKSUM_LENGTH
_HEAD = re.compile(rf"(?:sk|pk)_live_{ACCOUNT_PATTERN}")
_QUOTES = "\"'`<>"
_OTHER_SERVICES = re.compile(
    r"sk-|sk_(?!live_)|rk_(?:live|test)_|pk_test_|gh[pousr]_|github_pat_|xox[a-z]-|AKIA|ASIA|AIza|ya29\.|glpat-|whsec_|"
    r"re_|SG\.|hf_|npm_|pypi-|dop_v1_|shp(?:at|ca|pa|ss)_|xai-|unkey_|ory_(?:at|ak|rt|pat)_|key_|pat_"
)
# `key`, `api_key`, `here`, `xxxx`, `***`, `...`: each after an account's name, too.
_PLACEHOLDER_WORD = re.compile(
    r"(?i:(?:the[-_])?(?:api[-_]?)?(?:key|token|secret)(?:[-_]?here)?|here)|[xX]{3,}|\*{3,}|\.{3}|\xe2\x80\xa6|…"
)
# `YOUR_KEY`, `your-api-key-here`, `my_token`, `replace-me`.
_PLACEHOLDER_PHRASE = re.compile(r"(?i:(?:your?|my|insert|replace|change|example|placeholder|todo|paste)[-_ a-z]*)")
_UNSET = frozenset({"undefined", "null", "none", "nil", "nan", "false", "true", "[object object]"})
"""What programs write for a variable that has no value."""
_SCHEMES = {
    "basic": "The API has no user names and passwords: curl sends `Basic` for `-u`.",
    "token": "",
    "apikey": "",
    "api-key": "",
    "key": "",
    "digest": "",
    "jwt": "",
    "oauth": "",
}
"""Other schemes that requests use, with the likely cause."""
_VISITOR_TOKENS = ("ut_", "rt_")


def missing_bearer(authorization: str | None, *, misplaced: str | None) -> str | None:
    """Why `Authorization` contains no bearer token; None if the header is absent."""
    if not authorization:
        if misplaced is None:
            return None
        message = f"The {misplaced} is not supported. Send the key as `Authorization: Bearer …`."
        # RFC 6750, section 5.3.
        return (
            f"{message} Revoke a key that was sent in a URL: URLs are logged." if "parameter" in misplaced else message
        )
    if authorization.startswith(("sk_live_", "pk_live_", "eyJ")):
        return "`Authorization` has no scheme. Put `Bearer` and one space before the key."
    if authorization.lower().startswith("bearer"):
        return "`Authorization` must be `Bearer`, one space, and the key."
    scheme = authorization.partition(" ")[0].rstrip(":")
    cause = _SCHEMES.get(scheme.lower())
    if cause is None:
        return "`Authorization` must use the scheme `Bearer`. Send an API key or a JWT: `Authorization: Bearer …`."
    sent = f"`Authorization` uses the scheme `{scheme.capitalize()}` instead of `Bearer`. {cause}".strip()
    return f"{sent} Send an API key or a JWT: `Authorization: Bearer …`."


def malformed_token(text: str) -> str | None:
    """What is wrong with a bearer token that is neither a key nor a JWT; None for a key with a wrong checksum."""
    if not text:
        return "The bearer token is empty. Check that the variable with the key is set."
    if is_placeholder(text):
        return (
            "The bearer token is a placeholder from an example. Replace it with your API key, which starts with "
            "`sk_live_` and the account name."
        )
    if text.lower() in _UNSET:
        return "The bearer token is the text of an unset variable. Check that the variable with the key is set."
    if text[0] in _QUOTES or text[-1] in _QUOTES:
        return "The bearer token is in quotes or angle brackets. Send it without them."
    if not text.isascii():
        return (
            "The bearer token contains a character that tokens cannot contain, such as a typographic quote. "
            "Copy the whole token again."
        )
    if text[0] == "$" or text.startswith("{{") or (text[0] == text[-1] == "%"):
        return "The bearer token is the name of a variable. Send the value of the variable."
    if " " in text or "," in text:
        return "The bearer token contains a space or a comma. Send exactly one token."
    if text.startswith("pk_live_"):
        return (
            "The bearer token starts like a widget key (`pk_live_…`), which is public. Send an API key (`sk_live_…`)."
        )
    if text.startswith("sk_live_"):
        return _malformed_key(text)
    if text[:8].lower() == "sk_live_":
        return "The bearer token is an API key in capital letters. Keys are case-sensitive: copy the whole key again."
    if text.startswith(_VISITOR_TOKENS):
        return "The bearer token is a token of a widget visitor. Send an API key (`sk_live_…`) or a JWT."
    if text.startswith("sk_test_"):
        return "Test keys (`sk_test_…`) do not exist. An API key starts with `sk_live_` and the account name."
    if _OTHER_SERVICES.match(text) is not None:
        return (
            "The bearer token looks like a key of another service. An API key starts with `sk_live_` and the account."
        )
    return "The bearer token is neither an API key (`sk_live_…`) nor a JWT."


def is_placeholder(text: str) -> bool:
    """Whether the text was copied from an example: `<key>`, `sk_live_…`, `sk_live_YOUR_KEY`, `xxxx`.

    Only texts that are shorter than a key are placeholders: a random secret can contain any word.
    """
    inner = text.strip("<>[]{}\"'`")
    if not inner or len(inner) > MAX_PLACEHOLDER_LENGTH:
        return False
    if text[0] == "<" and text[-1] == ">" and not inner.startswith(("sk_live_", "eyJ")):
        return True
    head, _, last = inner.rpartition("_")
    if _HEAD.fullmatch(head):  # an account can be named `my-shop` or `example`
        return _PLACEHOLDER_WORD.fullmatch(last) is not None
    plain = inner.removeprefix("sk_live_")
    return _PLACEHOLDER_WORD.fullmatch(plain) is not None or _PLACEHOLDER_PHRASE.fullmatch(plain) is not None


def malformed_jwt() -> str:
    """What is wrong with a bearer token that starts like a JWT and has another form."""
    return (
        "The bearer token starts like a JWT, but does not have three base64url parts with dots between them: it was "
        "cut off or changed. Copy the whole token again."
    )


def _malformed_key(text: str) -> str | None:
    head, _, last = text.rpartition("_")
    if not (last.isascii() and last.isalnum()) and last:
        return (
            "The bearer token starts like an API key but contains a character that keys cannot contain. "
            "Copy the whole key again."
        )
    if text.count("sk_live_") > 1:
        return "The bearer token contains two API keys. Send the key once."
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
