"""Strict readings of base64url and JSON: every text has one meaning or none.

Lenient decoders give one token many spellings, and let two programs read two different things into one document.
Standard-library decoders are lenient by default; these are not.
"""

from __future__ import annotations

import base64
import json
import math
import re
from typing import Any, NoReturn

MAX_DEPTH = 32
"""Of objects and arrays in one another. The interpreter's own limit differs between its versions and is far deeper."""

_ALPHABET = re.compile(r"[A-Za-z0-9_-]*")
# The closing quote is optional so that a string without one is passed over once, not once from each of its quotes.
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"?|([\[{])|([\]}])', re.DOTALL)


def base64url(text: str) -> bytes:
    """Decode base64url without padding (RFC 7515, section 2), in its one canonical spelling (RFC 4648, section 3.5).

    Raises ValueError for padding, whitespace, foreign characters, an impossible length, or stray bits at the end.
    """
    if _ALPHABET.fullmatch(text) is None or len(text) % 4 == 1:
        raise ValueError("not base64url")
    decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    # The decoder ignores the bits that the last character has to spare, so "QQ" and "QR" would be the same byte.
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != text.encode():
        raise ValueError("not canonical base64url")
    return decoded


def json_object(raw: bytes) -> dict[str, Any]:
    """Read one JSON object in UTF-8 (RFC 8259).

    Raises ValueError for anything else; for a name repeated in one object, NaN, an infinity or half a surrogate pair
    anywhere in it; and if it is nested more than `MAX_DEPTH` deep.
    """
    text = raw.decode()
    if _depth(text) > MAX_DEPTH:
        raise ValueError("nested too deeply")
    value = json.loads(text, object_pairs_hook=_unrepeated, parse_constant=_refuse_constant, parse_float=_finite)
    if "\\ud" in text or "\\uD" in text:
        # Half a surrogate pair is legal to escape and impossible to store: it would fail far from here.
        json.dumps(value, ensure_ascii=False).encode()
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _depth(text: str) -> int:
    """How deeply the brackets of a JSON text are nested, or a bound for it that is at most `MAX_DEPTH`."""
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


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name is repeated")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("a number is out of range")
    return value
