"""Parameter types with readable errors.

The errors of click's own number types print an inequality, and that of its UUID type repeats the input, which can be a
key that was pasted in place of its id.
"""

from __future__ import annotations

import math
import re
from typing import Any
from uuid import UUID

import click


class WholeNumber(click.ParamType[int]):
    """A whole number from `least` to `most`."""

    name = "number"

    def __init__(self, least: int = 1, most: int | None = None) -> None:
        self._least = least
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        # `int` alone would also accept signs, spaces and underscores, and is slow for thousands of digits.
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None
        if number is None or number < self._least or (self._most is not None and number > self._most):
            self.fail(f"must be a whole number {self._bounds()}, not {text[:20]!r}", param, ctx)
        return number

    def _bounds(self) -> str:
        return f"of at least {self._least}" if self._most is None else f"from {self._least} to {self._most}"


class Seconds(click.ParamType[float]):
    """A number of seconds, at least 1."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 1 <= number < math.inf:  # also refuses NaN
            self.fail(f"must be a number of seconds, at least 1, not {str(value)[:20]!r}", param, ctx)
        return number


class Hours(click.ParamType[int]):
    """A duration in hours or days, such as `24h` or `3d`."""

    name = "duration"

    def __init__(self, most: int) -> None:
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"([0-9]{1,4})([hd])", str(value))
        hours = 0 if found is None else int(found[1]) * (24 if found[2] == "d" else 1)
        if not 1 <= hours <= self._most:
            self.fail(f"must be from 1h to {self._most // 24}d, such as 24h or 3d, not {str(value)[:20]!r}", param, ctx)
        return hours


class KeyId(click.ParamType[UUID]):
    """The id of a key. The error never repeats the input."""

    name = "key_id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> UUID:
        if isinstance(value, UUID):
            return value
        text = str(value).lower()
        if "sk_live_" in text or "pk_live_" in text:
            message = (
                "is a key, not the id of a key. Other users of this machine can read arguments, and your shell may "
                "have saved it. Revoke the key: kataven keys revoke --secret-stdin"
            )
            self.fail(message, param, ctx)
        try:
            return UUID(text)
        except ValueError:
            self.fail("is not the id of a key. List the ids: kataven keys list --account ACCOUNT", param, ctx)
