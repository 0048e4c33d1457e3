"""Parses JSON into models. Known fields must have the expected types; unknown fields are ignored."""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from kataven.client.errors import UnexpectedResponse

Model = TypeVar("Model")


def read(model: type[Model], raw: Any, **extra: Any) -> Model:
    """A `model` from a JSON object. `extra` has the fields that are not in the body.

    Raises UnexpectedResponse if a required field is missing or a field has another type.
    """
    if not isinstance(raw, Mapping):
        raise UnexpectedResponse(f"Expected a JSON object ({model.__name__}) in the response.")
    hints = _hints(model)  # type: ignore[arg-type]  # every class is hashable
    values: dict[str, Any] = dict(extra)
    for field in fields(model):  # type: ignore[arg-type]  # every model is a dataclass
        if field.name in extra:
            continue
        if field.name in raw:
            values[field.name] = _convert(hints[field.name], raw[field.name], f"{model.__name__}.{field.name}")
        elif field.default is MISSING:
            raise UnexpectedResponse(
                f"The response has no field `{field.name}`, which this SDK version requires ({model.__name__})."
            )
    return model(**values)


@functools.cache
def _hints(model: type[Any]) -> Mapping[str, Any]:
    return get_type_hints(model)


def _convert(hint: Any, value: Any, where: str) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        if value is None:
            return None
        hint = next(choice for choice in get_args(hint) if choice is not types.NoneType)
    if is_dataclass(hint) and isinstance(hint, type):
        return read(hint, value)
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_convert(get_args(hint)[0], item, where) for item in value)
    if hint is datetime and isinstance(value, str):
        return _datetime(value, where)
    return _scalar(hint, value, where)


def _datetime(text: str, where: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise UnexpectedResponse(f"{where} must be an ISO 8601 date and time.") from None


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return float(value)
    if isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise UnexpectedResponse(f"{where} must be of type {hint.__name__}, but the response has {type(value).__name__}.")
