"""Error messages for invalid fields. Only this module reads Pydantic's errors.

Pydantic's messages name its types and regular expressions. They are written for the developer of the model, and change
between releases, so clients never receive them. A test sends invalid values of every kind to every input.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from annotated_types import GroupedMetadata
from pydantic import AfterValidator, StringConstraints, ValidationError, WithJsonSchema
from pydantic_core import ErrorDetails

CANT_BE_USED = "is invalid; see the API reference for the accepted values"
"""For error types without a message below."""
MAX_GUESSED_LENGTH = 60
"""Longer names get no suggestion, because comparing them takes longer."""

Context = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Shaped(GroupedMetadata):
    """A string that matches a pattern: `Annotated[str, Shaped("^#[0-9a-f]{6}$", "must be a color like #1746a2")]`.

    The pattern is part of the JSON Schema; `message` is the error message.
    """

    pattern: str
    message: str
    max_length: int | None = None

    def __iter__(self) -> Iterator[object]:
        schema: dict[str, Any] = {"type": "string", "pattern": self.pattern}
        if self.max_length is not None:
            schema["maxLength"] = self.max_length
            yield StringConstraints(max_length=self.max_length)
        yield AfterValidator(_check_of(re.compile(self.pattern), self.message))
        yield WithJsonSchema(schema)


def _check_of(pattern: re.Pattern[str], message: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if pattern.fullmatch(text) is None:
            raise ValueError(message)
        return text

    return check


def errors_of(error: ValidationError) -> list[ErrorDetails]:
    """Pydantic's errors without the values, which may be secrets."""
    return error.errors(include_url=False, include_input=False)


def in_words(item: ErrorDetails) -> str:
    """The message to append to the field's name: `must be at most 200`."""
    kind, context = item["type"], item.get("ctx", {})
    if kind == "value_error":  # raised by a validator of the project, with a message for the caller
        return str(context["error"])
    words = _WORDS.get(kind)
    if words is None:
        return CANT_BE_USED
    return words if isinstance(words, str) else words(context)


def near(name: str, known: Collection[str]) -> str | None:
    """The name in `known` that is closest to a misspelled name, or to one in camel case."""
    if len(name) > MAX_GUESSED_LENGTH:
        return None
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("-", "_")
    found = difflib.get_close_matches(plain, known, 1, 0.7)
    return found[0] if found else None


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _choice(context: Context) -> str:
    choices = str(context["expected"]).replace("'", "")
    return f"must be one of {choices}" if " or " in choices else f"must be {choices}"


def _not_longer(context: Context) -> str:
    return f"must have at most {context['max_length']} characters"


def _not_shorter(context: Context) -> str:
    return (
        "must not be empty" if context["min_length"] == 1 else f"must have at least {context['min_length']} characters"
    )


def _invalid_json(context: Context) -> str:
    place = re.search(r"line (\d+) column (\d+)", str(context["error"]))
    where = f" (line {place[1]}, column {place[2]})" if place else ""
    return f"is not valid JSON{where}"


_WHOLE, _OBJECT, _BOOL = "must be a whole number", "must be a JSON object", "must be true or false"
_WORDS: Mapping[str, str | Callable[[Context], str]] = {
    **dict.fromkeys(
        (
            "datetime_from_date_parsing",
            "datetime_object_invalid",
            "datetime_parsing",
            "datetime_type",
            "timezone_aware",
        ),
        "must be a time with its offset from UTC, like 2026-11-26T09:00:00Z",
    ),
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "string_type": "must be a string",
    "string_sub_type": "must be a string",
    "string_unicode": "must be valid Unicode",
    "string_too_long": _not_longer,
    "string_too_short": _not_shorter,
    "enum": _choice,
    "literal_error": _choice,
    "bool_type": _BOOL,
    "bool_parsing": _BOOL,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "greater_than_equal": lambda context: f"must be at least {_number(context['ge'])}",
    "greater_than": lambda context: f"must be more than {_number(context['gt'])}",
    "less_than_equal": lambda context: f"must be at most {_number(context['le'])}",
    "less_than": lambda context: f"must be less than {_number(context['lt'])}",
    "list_type": "must be a list",
    "too_long": lambda context: f"must have at most {context['max_length']} entries",
    "too_short": lambda context: f"must have at least {context['min_length']} entries",
    "dict_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "none_required": "must be null or omitted",
    "uuid_type": "must be a UUID",
    "uuid_parsing": "must be a UUID, like 7c9e6679-7425-40de-944b-e07fc1f90ae7",
    "path_type": "must be a path",
    "json_invalid": _invalid_json,
}
