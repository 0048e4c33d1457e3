"""Masks the CSRF token of a session, with other random bytes in each form.

Pages are compressed and can contain text that a request chose. The length of a compressed page would reveal a token
that is always the same (BREACH).
"""

from __future__ import annotations

import binascii
import secrets
from base64 import b64decode, urlsafe_b64encode


def mask(token: str) -> str:
    """The token as a form contains it."""
    plain = token.encode()
    pad = secrets.token_bytes(len(plain))
    return urlsafe_b64encode(pad + _xor(plain, pad)).decode()


def unmask(sent: str) -> bytes:
    """The token of a submitted form; empty if it is malformed."""
    try:
        both = b64decode(sent.encode(), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
    half = len(both) // 2
    return _xor(both[:half], both[half:])


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(left ^ right for left, right in zip(one, other, strict=False))
