"""Whether a JSON body is small enough in shape to be validated, found out before anything is built from it.

Validation collects an error for every unknown name and every wrong value, so its work grows with what a client sends.
The checks here run in linear time over the bytes, build nothing, and bound everything behind them: 64 names, 512 values
and 32 objects and arrays in a body, whatever its length. No operation takes as many.
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

# Possessive, and the closing quote is optional: else a string without one would be tried again from each of its quotes.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_LONG_NUMBER = re.compile(rb"[0-9.eE+-]{%d}" % (MAX_NUMBER_LENGTH + 1))


class Misshapen(Exception):
    """The body can't be what any operation takes. `name` is the field at fault, None for the body as a whole."""

    def __init__(self, message: str, name: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.name = name


def check(body: bytes) -> None:
    """Raises Misshapen for JSON that is too large in shape, repeats a name, or is no object.

    What is no JSON at all passes if it is small in shape: the validation that follows says what is wrong with it.
    """
    _check_size(body)
    try:
        value = json.loads(body, object_pairs_hook=_unrepeated, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return
    if not isinstance(value, dict):
        raise Misshapen("must be a JSON object")


def _check_size(body: bytes) -> None:
    outside, strings = _STRING.subn(b"", body, count=MAX_STRINGS + 1)
    if strings > MAX_STRINGS:
        raise Misshapen(f"holds more than {MAX_STRINGS} texts; no request needs as many")
    if outside.count(b":") > MAX_NAMES:
        raise Misshapen(f"holds more than {MAX_NAMES} names; send the documented fields only")
    if outside.count(b",") >= MAX_VALUES:
        raise Misshapen(f"holds more than {MAX_VALUES} values; no request needs as many")
    if outside.count(b"{") + outside.count(b"[") > MAX_NESTED:
        raise Misshapen(f"holds more than {MAX_NESTED} objects and arrays; no request needs as many")
    if _LONG_NUMBER.search(outside) is not None:
        raise Misshapen(f"holds a number of more than {MAX_NUMBER_LENGTH} characters")


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # RFC 8259, section 4: what a repeated name means differs between programs, so a proxy or a log may read another
    # request than this one. There is one reading, or none.
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise Misshapen("is given more than once", name)
            seen.add(name)
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
