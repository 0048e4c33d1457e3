"""Parses and validates JSON bodies, query strings and path ids once, and serializes JSON responses.

The models that validate requests are the models that the OpenAPI document is generated from.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import orjson
from annotated_types import GroupedMetadata
from flask import Request, Response
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    create_model,
    model_validator,
)
from pydantic.fields import FieldInfo
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from kataven import validation
from kataven.web import json_shape
from kataven.web.problems import FieldError, InvalidRequest, PublicHTTPException

MAX_BODY_BYTES = 1024 * 1024
"""Upper bound for every request body."""
MAX_PUBLIC_BODY_BYTES = 64 * 1024
"""Upper bound for request bodies of public operations, which require no credential."""
MAX_FIELD_ERRORS = 50
MAX_MESSAGE_LENGTH = 400
JSON_TYPES = frozenset({"application/json", "application/merge-patch+json"})

_NO_BODY = "The request has no body. Send a JSON object, with `Content-Type: application/json`."
MAX_GUESSES = 5
"""For how many unknown names a suggestion is computed: comparing names costs more than rejecting them."""
_NO_NUL = "^[^\\u0000]*$"
# A single line has no control characters (C0, C1) and no bidirectional controls (UAX #9), with which one name could be
# displayed as another.
_NOT_IN_A_LINE = "\\u0000-\\u001f\\u007f-\\u009f\\u202a-\\u202e\\u2066-\\u2069"
# Spaces and invisible characters: a name of these alone could not be seen or clicked.
_INVISIBLE = (
    "\\u0020\\u00a0\\u00ad\\u034f\\u061c\\u115f\\u1160\\u1680\\u17b4\\u17b5\\u180b-\\u180f\\u2000-\\u200f\\u2028\\u2029\\u202f"
    "\\u205f-\\u2065\\u206a-\\u206f\\u2800\\u3000\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufffb"
)
_ONE_LINE = f"^[^{_NOT_IN_A_LINE}]*[^{_NOT_IN_A_LINE}{_INVISIBLE}][^{_NOT_IN_A_LINE}]*$"
_FORBIDDEN_IN_A_LINE = re.compile(f"[{_NOT_IN_A_LINE}]")
_VISIBLE = re.compile(f"[^{_NOT_IN_A_LINE}{_INVISIBLE}]")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)


class BodyTooLarge(PublicHTTPException, RequestEntityTooLarge):
    """413. The message states the limit."""


class NotJson(PublicHTTPException, UnsupportedMediaType):
    """415. The message states which content type to send."""


class Input(BaseModel):
    """Base class of request bodies: strict types, no unknown fields. Fields in `server_set` are accepted and ignored,
    so that a client can send back the resource that it read."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
    server_set: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _drop_server_set_fields(cls, given: object) -> object:
        if isinstance(given, Mapping) and cls.server_set:
            return {name: value for name, value in given.items() if name not in cls.server_set}
        return given

    def given(self) -> dict[str, Any]:
        """The fields that the client sent, without defaults."""
        return self.model_dump(exclude_unset=True)


class Query(BaseModel):
    """Base class of query strings: no unknown parameters, and each parameter at most once."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class View(BaseModel):
    """Base class of response bodies. Used for the OpenAPI document only: handlers write the fields themselves, and
    tests compare both."""


InputModel = TypeVar("InputModel", bound=Input)
QueryModel = TypeVar("QueryModel", bound=Query)
AnyModel = TypeVar("AnyModel", bound=BaseModel)


def partial(model: type[InputModel], name: str, doc: str) -> type[InputModel]:
    """A model with the same fields, all optional and without defaults: the body of a PATCH."""
    fields: dict[str, Any] = {}
    for field_name, field in model.model_fields.items():
        optional = FieldInfo.merge_field_infos(field, default=None, json_schema_extra=no_default)
        fields[field_name] = (field.rebuild_annotation(), optional)
    return create_model(name, __base__=model, __doc__=doc, **fields)


def with_fields(names: Iterable[str], annotation: Any) -> Callable[[type[AnyModel]], type[AnyModel]]:
    """A class decorator that adds required fields of one type, such as one for each limit."""

    def add(model: type[AnyModel]) -> type[AnyModel]:
        fields: dict[str, Any] = dict.fromkeys(names, annotation)
        return create_model(
            model.__name__, __base__=model, __doc__=model.__doc__, __module__=model.__module__, **fields
        )

    return add


def no_default(schema: dict[str, Any]) -> None:
    """A `json_schema_extra` for optional fields whose Python default is never used, and must not be published."""
    schema.pop("default", None)


def no_nul(text: str) -> str:
    """Raises ValueError."""
    # PostgreSQL's `text` can't store U+0000.
    if "\x00" in text:
        raise ValueError("must not contain the character U+0000")
    return text


def _one_visible_line(text: str) -> str:
    if _FORBIDDEN_IN_A_LINE.search(text) is not None:
        raise ValueError("must be a single line, without control characters and bidirectional formatting characters")
    if _VISIBLE.search(text) is None:
        raise ValueError("must have at least one visible character")
    return text


@dataclass(frozen=True, slots=True)
class Prose(GroupedMetadata):
    """A string that may be empty or have several lines: `Annotated[str, Prose(2_000)]`."""

    max_length: int

    def __iter__(self) -> Iterator[object]:
        yield StringConstraints(max_length=self.max_length)
        yield AfterValidator(no_nul)
        yield WithJsonSchema({"type": "string", "maxLength": self.max_length, "pattern": _NO_NUL})


@dataclass(frozen=True, slots=True)
class SingleLine(GroupedMetadata):
    """A non-empty string of one line, such as a name: `Annotated[str, SingleLine(200)]`."""

    max_length: int

    def __iter__(self) -> Iterator[object]:
        yield StringConstraints(min_length=1, max_length=self.max_length)
        yield AfterValidator(_one_visible_line)
        yield WithJsonSchema({"type": "string", "minLength": 1, "maxLength": self.max_length, "pattern": _ONE_LINE})


def read_body(request: Request, model: type[InputModel], max_bytes: int = MAX_BODY_BYTES) -> InputModel:
    """Parse the request's JSON body as `model`. Raises InvalidRequest (400), BodyTooLarge (413) or NotJson (415).

    A body whose `Content-Length` exceeds `max_bytes` is rejected unread. A body without `Content-Length` is read up to
    `max_bytes`. `json_shape` bounds the number of names and values before validation.
    """
    if request.mimetype not in JSON_TYPES:
        raise NotJson(
            "Send the body as JSON, with `Content-Type: application/json`." if request.content_length else _NO_BODY
        )
    # One byte more than is accepted, because Werkzeug truncates a chunked body at this length without an error.
    request.max_content_length = max_bytes + 1
    if (request.content_length or 0) > max_bytes:
        raise _too_large(max_bytes)
    body = request.get_data(cache=False)
    if len(body) > max_bytes:
        raise _too_large(max_bytes)
    if not body.strip():
        raise InvalidRequest([FieldError("body", "is empty; send a JSON object")])
    try:
        json_shape.check(body)
        return model.model_validate_json(body)
    except json_shape.ShapeError as error:
        raise InvalidRequest([_field_error(error.name or "body", error.message)]) from None
    except ValidationError as error:
        raise InvalidRequest(_field_errors(error, model, whole="body")) from None


def read_query(request: Request, model: type[QueryModel]) -> QueryModel:
    """Parse the request's query string as `model`. Raises InvalidRequest."""
    if not request.query_string:  # of most requests; saves about 17 µs
        defaults: QueryModel = _without_parameters(model)
        return defaults
    if len(request.args) > json_shape.MAX_NAMES:
        message = f"has more than {json_shape.MAX_NAMES} parameters; send only documented parameters"
        raise InvalidRequest([FieldError("query", message)])
    repeated = [name for name, values in request.args.lists() if len(values) > 1]
    if repeated:
        raise InvalidRequest(
            [_field_error(name, "is specified more than once") for name in repeated[:MAX_FIELD_ERRORS]]
        )
    try:
        return model.model_validate(request.args.to_dict())
    except ValidationError as error:
        raise InvalidRequest(_field_errors(error, model, whole="query")) from None


@functools.cache
def _without_parameters(model: type[Query]) -> Any:
    """The model's defaults. Query models are frozen, so all requests can share one. Errors are not kept."""
    try:
        return model.model_validate({})
    except ValidationError as error:
        raise InvalidRequest(_field_errors(error, model, whole="query")) from None


def in_words(size: int) -> str:
    """A size for messages: `8 KiB`, `1 MiB`."""
    unit, name = (1024 * 1024, "MiB") if size >= 1024 * 1024 else (1024, "KiB")
    return f"{size // unit} {name}"


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body must be at most {in_words(max_bytes)}.")


def read_id(text: str) -> UUID | None:
    """Parse an id from a path. None if it is not a UUID, so that no row can have it."""
    return UUID(text) if _UUID.fullmatch(text) else None


def fields_of(row: object, names: Iterable[str]) -> dict[str, Any]:
    """Fields of a row. Loaded fields are read without SQLAlchemy's descriptors, which are several times slower."""
    loaded = vars(row)
    try:
        return {name: loaded[name] for name in names}
    except KeyError:  # expired or deferred: the descriptor loads it from the database
        return {name: getattr(row, name) for name in names}


def dump_json(body: Any) -> bytes:
    """Serialize `body`: times in UTC with `Z`, ids as strings."""
    return orjson.dumps(body, option=orjson.OPT_UTC_Z)


def write_json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    response = Response(dump_json(body), status, content_type="application/json")
    if headers:
        response.headers.update(headers)
    return response


def _field_errors(error: ValidationError, model: type[BaseModel], whole: str) -> list[FieldError]:
    found = validation.errors_of(error)[:MAX_FIELD_ERRORS]
    unknown = [item["loc"] for item in found if item["type"] == "extra_forbidden"]
    hints = {place: _instead_of(str(place[-1]), model) for place in unknown[:MAX_GUESSES]}
    return [
        _field_error(_path(item["loc"]) or whole, validation.in_words(item) + hints.get(item["loc"], ""))
        for item in found
    ]


def _instead_of(name: str, model: type[BaseModel]) -> str:
    """A suggestion for an unknown name: the closest field of a body, or all parameters of a query."""
    if issubclass(model, Query):
        return f"; supported parameters: {', '.join(sorted(model.model_fields))}"
    meant = validation.near(name, model.model_fields)
    return "" if meant is None else f"; did you mean {meant}?"


def _field_error(field: str, message: str) -> FieldError:
    """Truncates both strings, because either can repeat input of the client."""
    return FieldError(field[:MAX_MESSAGE_LENGTH], message[:MAX_MESSAGE_LENGTH])


def _path(parts: tuple[int | str, ...]) -> str:
    """The field's path in the input: `name`, `limits.per_minute`, `domain_allowlist[2]`."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part[:100]}" for part in parts)
    return path.removeprefix(".")
