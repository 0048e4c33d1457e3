"""Strict parsers for base64url and JSON: each text has exactly one meaning or is rejected.

With lenient decoders, one token has many encodings, and two programs may read different values from one document. The
decoders of the standard library are lenient by default.
"""

from __future__ import annotations

import base64
import json
import math
import re
from typing import Any, NoReturn

MAX_DEPTH = 32
"""The maximum nesting of objects and arrays. The interpreter's limit is much higher and differs between versions."""

_ALPHABET = re.compile(r"[A-Za-z0-9_-]*")
# The closing quote is optional, so that an unterminated string is scanned once and not once per quote.
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"?|([\[{])|([\]}])', re.DOTALL)


def base64url(text: str) -> bytes:
    """Decode base64url without padding (RFC 7515, section 2), in its canonical encoding (RFC 4648, section 3.5).

    Raises ValueError for padding, whitespace, other characters, an impossible length, or non-zero trailing bits.
    """
    if _ALPHABET.fullmatch(text) is None or len(text) % 4 == 1:
        raise ValueError("not base64url")
    decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    # The decoder ignores the unused bits of the last character, so "QQ" and "QR" would decode to the same byte.
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != text.encode():
        raise ValueError("not canonical base64url")
    return decoded


def json_object(raw: bytes) -> dict[str, Any]:
    """Parse one JSON object in UTF-8 (RFC 8259).

    Raises ValueError for anything else, for repeated names in an object, NaN, infinities, unpaired surrogates, and for
    nesting deeper than `MAX_DEPTH`.
    """
    text = raw.decode()
    if _depth(text) > MAX_DEPTH:
        raise ValueError("nested too deeply")
    value = json.loads(
        text, object_pairs_hook=_reject_repeated_names, parse_constant=_reject_constant, parse_float=_finite
    )
    if "\\ud" in text or "\\uD" in text:
        # JSON can escape an unpaired surrogate, but it cannot be encoded in UTF-8, so storing it would fail later.
        json.dumps(value, ensure_ascii=False).encode()
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _depth(text: str) -> int:
    """The nesting depth of a JSON text, or an upper bound of it that does not exceed `MAX_DEPTH`."""
    opening = text.count("[") + text.count("{")
    if opening <= MAX_DEPTH:
        return opening
    depth = deepest = 0
    for bracket in _BRACKETS.finditer(text):
        if bracket[1]:
            depth += 1
            deepest = max(deepest, depth)
        elif bracket[2]:
            depth -= 1
    return deepest


def _reject_repeated_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name is repeated")
    return members


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("a number is out of range")
    return value
