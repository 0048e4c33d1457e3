"""Bounds the shape of a JSON body before it is parsed: 64 names, 512 values, and 32 objects and arrays.

Validation collects an error for every unknown name and every invalid value, so its cost grows with the size of the
input. The checks in this module run in linear time over the bytes and build no objects. No operation needs a larger
body, whatever its length in bytes.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

MAX_NAMES = 64
MAX_VALUES = 512
MAX_NESTED = 32
MAX_NUMBER_LENGTH = 64
MAX_STRINGS = MAX_NAMES + MAX_VALUES

# Possessive, and with an optional closing quote: otherwise an unterminated string would be matched again from each of
# its quotes, in quadratic time.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_LONG_NUMBER = re.compile(rb"[0-9.eE+-]{%d}" % (MAX_NUMBER_LENGTH + 1))


class ShapeError(Exception):
    """Raised when no operation accepts the shape of the body. `name` is the invalid field; None means the whole
    body."""

    def __init__(self, message: str, name: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.name = name


def check(body: bytes) -> None:
    """Raises ShapeError if `body` exceeds a limit, repeats a name, or is not a JSON object.

    Invalid JSON within the limits passes: the validation that follows reports the position of the error.
    """
    _check_size(body)
    try:
        value = json.loads(body, object_pairs_hook=_reject_repeated_names, parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        return
    if not isinstance(value, dict):
        raise ShapeError("must be a JSON object")


def _check_size(body: bytes) -> None:
    outside, strings = _STRING.subn(b"", body, count=MAX_STRINGS + 1)
    if strings > MAX_STRINGS:
        raise ShapeError(f"has more than {MAX_STRINGS} strings; send only documented fields")
    if outside.count(b":") > MAX_NAMES:
        raise ShapeError(f"has more than {MAX_NAMES} names; send only documented fields")
    if outside.count(b",") >= MAX_VALUES:
        raise ShapeError(f"has more than {MAX_VALUES} values; send only documented fields")
    if outside.count(b"{") + outside.count(b"[") > MAX_NESTED:
        raise ShapeError(f"has more than {MAX_NESTED} objects and arrays; send only documented fields")
    if _LONG_NUMBER.search(outside) is not None:
        raise ShapeError(f"has a number of more than {MAX_NUMBER_LENGTH} characters; send a shorter number")


def _reject_repeated_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # RFC 8259, section 4: programs differ in which of two equal names they use, so a proxy or a log could read another
    # request than the API. Reject the ambiguity.
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ShapeError("is specified more than once", name)
            seen.add(name)
    return members


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
