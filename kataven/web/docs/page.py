"""Turns the OpenAPI documents into what the template of `/docs` shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from markupsafe import Markup, escape

from kataven.web.docs import prose
from kataven.web.docs.colors import colored
from kataven.web.docs.examples import ACCOUNT, Examples, Json, model_name
from kataven.web.docs.samples import KEY_VARIABLE, request_of, samples_of
from kataven.web.docs.tryable import is_tryable

_CODE: Final = re.compile(r"`(\w+)`: ")
"""A problem code in the description of an error response, which `openapi` generates."""
_REFERENCE: Final = re.compile(r'"#/components/schemas/(\w+)"')
_EVERYWHERE: Final = "X-Request-ID"


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter of an operation, or a field of a schema."""

    anchor: str
    name: str
    type: Markup
    notes: tuple[str, ...]
    description: Markup
    place: str = ""
    """`path`, `query` or `header` for a parameter."""


@dataclass(frozen=True, slots=True)
class ShownResponse:
    """A response that is not an error."""

    status: str
    description: Markup
    type: Markup
    headers: tuple[tuple[str, Markup], ...]


@dataclass(frozen=True, slots=True)
class ShownSample:
    """A sample as HTML."""

    language: str
    label: str
    html: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownOperation:
    """An operation, with everything that its section shows."""

    id: str
    tag: str
    method: str
    path: Markup
    summary: str
    description: Markup
    access: str
    parameters: tuple[Field, ...]
    body_model: str | None
    body_note: Markup
    body: tuple[Field, ...]
    responses: tuple[ShownResponse, ...]
    errors: tuple[tuple[str, tuple[str, ...]], ...]
    samples: tuple[ShownSample, ...]
    example_status: str
    example: Markup | None
    tryable: bool
    """Whether *Try it* can send it."""


@dataclass(frozen=True, slots=True)
class ShownSchema:
    """A schema that is not the body of a single operation."""

    name: str
    description: Markup
    values: tuple[str, ...]
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """The operations of one tag."""

    id: str
    title: str
    description: Markup
    operations: tuple[ShownOperation, ...]


@dataclass(frozen=True, slots=True)
class ReferencePage:
    """Everything that the reference shows."""

    title: str
    summary: str
    description: Markup
    first_call: tuple[ShownSample, ...]
    groups: tuple[Group, ...]
    schemas: tuple[ShownSchema, ...]


@dataclass(frozen=True)
class _Builder:
    schemas: Mapping[str, Json]
    bodies: frozenset[str]
    """The schemas that are the body of exactly one operation. They are shown there."""
    links: Mapping[str, str]
    inputs: frozenset[str]
    """The schemas of requests. In a response, a field that is always present is not marked."""
    customers: frozenset[str]
    server: str
    examples: Examples = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "examples", Examples(self.schemas))

    def operation(self, method: str, path: str, operation: Json) -> ShownOperation:
        name = operation["operationId"]
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        model = None if body is None else model_name(body["schema"])
        request = request_of(method, path, operation, self.examples)
        is_of_customers = name in self.customers
        samples = samples_of(request, operation, self.server, generated=is_of_customers)
        status, example = self._example(operation)
        return ShownOperation(
            id=name,
            tag=operation["tags"][0],
            method=method.upper(),
            path=_path(path),
            summary=operation["summary"],
            description=prose.markdown(operation.get("description", ""), self.links),
            access=_access(operation["security"]),
            parameters=tuple(self._parameter(name, one) for one in operation["parameters"]),
            body_model=model,
            body_note=prose.inline(operation.get("requestBody", {}).get("description", ""), self.links),
            body=() if model not in self.bodies else tuple(self.fields(model, self.schemas[model])),
            responses=tuple(self._response(*one) for one in operation["responses"].items() if _is_shown(*one)),
            errors=tuple(
                (status, tuple(_CODE.findall(response["description"])))
                for status, response in operation["responses"].items()
                if not _is_shown(status, response)
            ),
            samples=tuple(ShownSample(one.language, one.label, colored(one.code, one.language)) for one in samples),
            example_status=status,
            example=example,
            tryable=is_of_customers and is_tryable(method, operation),
        )

    def schema(self, name: str, schema: Json) -> ShownSchema:
        values = tuple(schema.get("enum", ()))
        description = prose.markdown(schema.get("description", ""), self.links)
        return ShownSchema(name, description, values, tuple(self.fields(name, schema)))

    def fields(self, model: str, schema: Json) -> Iterator[Field]:
        required = schema.get("required", [])
        for name, value in schema.get("properties", {}).items():
            if value.get("readOnly"):
                continue
            is_required, is_input = name in required, model in self.inputs
            presence = ["required"] if is_input and is_required else [] if is_input or is_required else ["optional"]
            notes = (*presence, *_bounds(value))
            description = prose.inline(value.get("description", ""), self.links)
            yield Field(f"{model}.{name}", name, self.type_of(value), notes, description)

    def type_of(self, schema: Json) -> Markup:
        """The type in words, with links to the schemas that it names."""
        reference = model_name(schema)
        if reference is not None:
            values = self.schemas[reference].get("enum", [])
            if 0 < len(values) <= 8:
                return _values(values)
            return Markup('<a href="#schema-{0}">{0}</a>').format(reference)
        if "anyOf" in schema:
            return Markup(" or ").join(self.type_of(one) for one in schema["anyOf"])
        if schema.get("type") == "array":
            return Markup("list of {}").format(self.type_of(schema.get("items", {})))
        if "enum" in schema:
            return _values(schema["enum"])
        if "const" in schema:
            return _values([schema["const"]])
        kind = schema.get("type", "any")
        return escape(f"{kind} ({schema['format']})" if "format" in schema else kind)

    def _parameter(self, operation: str, parameter: Json) -> Field:
        schema = parameter["schema"]
        notes = (parameter["in"], *(["required"] if parameter.get("required") else []), *_bounds(schema))
        if "default" in schema:
            notes = (*notes, f"default {json.dumps(schema['default'])}")
        description = prose.inline(parameter.get("description") or schema.get("description", ""), self.links)
        name = parameter["name"]
        return Field(f"{operation}.{name}", name, self.type_of(schema), notes, description, parameter["in"])

    def _response(self, status: str, response: Json) -> ShownResponse:
        content = response.get("content", {}).get("application/json")
        headers = tuple(
            (name, prose.inline(header["description"], self.links))
            for name, header in response.get("headers", {}).items()
            if name != _EVERYWHERE
        )
        kind = Markup("") if content is None else self.type_of(content["schema"])
        return ShownResponse(status, prose.inline(response["description"], self.links), kind, headers)

    def _example(self, operation: Json) -> tuple[str, Markup | None]:
        """The status of a successful response, and its example."""
        every = operation["responses"].items()
        status, response = next((one for one in every if one[0] < "300"), next(iter(every)))
        content = response.get("content", {}).get("application/json")
        if content is None:
            return status, None
        text = json.dumps(self.examples.response(content["schema"]), ensure_ascii=False, indent=2)
        return status, colored(text, "json")


def build(documents: Sequence[Json]) -> ReferencePage:
    """The page about the customers' document, which is the first one, and the operators' document."""
    every = [one for document in documents for one in _operations(document)]
    schemas = {name: schema for document in documents for name, schema in document["components"]["schemas"].items()}
    used = list(_bodies(operation for _, _, operation in every))
    builder = _Builder(
        schemas=schemas,
        bodies=frozenset(name for name in used if used.count(name) == 1),
        inputs=frozenset(_with_nested(used, schemas)),
        links={name: f"#schema-{name}" for name in schemas}
        | {operation["operationId"]: f"#{operation['operationId']}" for _, _, operation in every},
        customers=frozenset(operation["operationId"] for _, _, operation in _operations(documents[0])),
        server=documents[0]["servers"][0]["url"],
    )
    shown = [builder.operation(*one) for one in every]
    info = documents[0]["info"]
    return ReferencePage(
        info["title"],
        info["summary"],
        prose.markdown(info["description"], builder.links),
        _first_call(documents[0], builder.server),
        tuple(_groups(documents, shown, builder)),
        tuple(builder.schema(*one) for one in schemas.items() if one[0] not in builder.bodies),
    )


def _operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def _groups(documents: Sequence[Json], shown: Sequence[ShownOperation], builder: _Builder) -> Iterator[Group]:
    for document in documents:
        for number, tag in enumerate(document["tags"]):
            is_first_of_operators = document is not documents[0] and number == 0
            about = document["info"]["description"] if is_first_of_operators else ""
            title, _, rest = tag["description"].partition(": ")
            description = prose.markdown(f"{rest[:1].upper()}{rest[1:]}\n\n{about}", builder.links)
            operations = tuple(one for one in shown if one.tag == tag["name"])
            yield Group(f"tag-{tag['name']}", title.rstrip("."), description, operations)


def _bodies(operations: Iterable[Json]) -> Iterator[str]:
    """The schemas of the operations' bodies."""
    for operation in operations:
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if body is not None and (name := model_name(body["schema"])) is not None:
            yield name


def _with_nested(names: Iterable[str], schemas: Mapping[str, Json]) -> set[str]:
    """The schemas, and those that they contain."""
    found: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += _REFERENCE.findall(json.dumps(schemas[name]))
    return found


def _first_call(document: Json, server: str) -> tuple[ShownSample, ...]:
    """How to set the key, and the URL if it is not the clients' default."""
    lines = [f"export {KEY_VARIABLE}=sk_live_{ACCOUNT}_…", f"export KATAVEN_BASE_URL={server}/v1"]
    return (ShownSample("sh", "Shell", colored("\n".join(lines), "sh")),)


def _is_shown(status: str, response: Json) -> bool:
    """Whether a response is shown with its description: it is no problem."""
    return "application/problem+json" not in response.get("content", {})


def _access(security: list[Json]) -> str:
    if not security:
        return "Public: requires no credential."
    accepted = {name for one in security for name in one}
    if accepted == {"apiKey", "jwt"}:
        return "Requires an API key or a JWT."
    return "Requires an API key." if accepted == {"apiKey"} else "Requires a JWT."


def _path(path: str) -> Markup:
    """A path that can be broken at its slashes."""
    return Markup(re.sub(r"(?<=.)/", "<wbr>/", str(escape(path))))  # noqa: S704  escaped


def _values(values: Iterable[Any]) -> Markup:
    return Markup(", ").join(
        Markup("<code>{}</code>").format(one if isinstance(one, str) else json.dumps(one)) for one in values
    )


def _bounds(schema: Json) -> tuple[str, ...]:
    """The limits of a value in words. A nullable value has the limits of its other type."""
    for one in schema.get("anyOf", []):
        if one.get("type") != "null":
            return _bounds(one)
    found = []
    if "minimum" in schema and "maximum" in schema:
        found.append(f"{schema['minimum']:,} to {schema['maximum']:,}")
    if "maxLength" in schema:
        found.append(f"at most {schema['maxLength']:,} characters")
    if "maxItems" in schema:
        found.append(f"at most {schema['maxItems']:,} items")
    return tuple(found)
