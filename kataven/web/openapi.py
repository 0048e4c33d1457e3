"""Generates the OpenAPI 3.1 document from the declarations that validate requests."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args, get_origin

from flask import Flask
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from kataven.web.conditional import IF_MATCH_PATTERN
from kataven.web.operation import ApiBlueprint, OpenApiLink, Operation, operation_of
from kataven.web.problems import PROBLEM_TYPES, status_of
from kataven.web.schema import Input, in_words

Json = dict[str, Any]

OPENAPI_VERSION = "3.1.0"
SCHEMA_REF = "#/components/schemas/{model}"
_DESCRIPTION = """\
Errors are RFC 9457 problems. Program against `code`.

Each path is served under `/v1` and, with the same behaviour, under `/api/v1` and `/hub-api/api/v1`. The latter two are
deprecated: their responses have a `Deprecation` header (RFC 9745) and a `Link` to the canonical path.

`HEAD` is supported wherever `GET` is. `OPTIONS` is supported everywhere, without a credential, except at `/v1/verify`,
which treats every method like `GET`. Large responses to `GET` are compressed for clients that send
`Accept-Encoding: gzip`. Lists are paginated by cursors, which remain valid while rows are added: follow
`Link: <…>; rel="next"`.

Single resources have an `ETag`. Send it as `If-Match` with an update: if the resource changed after you fetched it, the
update is not applied and the API returns 412 `precondition_failed`. Send it as `If-None-Match` with a `GET`: if the
resource has not changed, the API returns 304 without a body.
"""
_PART = re.compile(r"<(?:string:)?(\w+)>")

_EVERYWHERE = {"X-Request-ID": "Identifies this request in our logs."}
_ETAG = "The version of the resource, for `If-Match` and `If-None-Match`."

_CREDENTIAL_REFUSALS = (
    *("malformed_token", "missing_account", "invalid_account"),
    *("missing_credential", "not_a_credential", "invalid_credential", "expired_credential"),
    *("reserved_account", "account_mismatch", "revoked_credential", "account_suspended", "forbidden"),
    *("rate_limited", "schema_mismatch", "unavailable"),
)
_PUBLIC_REFUSALS = ("unavailable",)
_BODY_REFUSALS = ("payload_too_large", "unsupported_media_type")


def operations_of(app: Flask) -> list[Operation]:
    """Every published operation of an application, in the order of declaration."""
    found = (operation_of(app.view_functions[rule.endpoint]) for rule in app.url_map.iter_rules())
    return [operation for operation in found if operation is not None and operation.published]


def document(operations: Iterable[Operation], blueprints: Iterable[ApiBlueprint], version: str) -> Json:
    operations = list(operations)
    paths: Json = {}
    for operation in operations:
        paths.setdefault(template(operation.path), {})[operation.method.lower()] = _operation(operation)
    for operation in operations:
        _add_links(paths[template(operation.path)][operation.method.lower()]["responses"], operation, operations)
    return {
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": "Kataven Hub API",
            "version": version,
            "summary": "Manage the agents, keys and settings of a Kataven account.",
            "description": _DESCRIPTION,
            "contact": {"name": "Kataven", "url": "https://kataven.ai"},
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "This server"}],
        "tags": [{"name": blueprint.name, "description": blueprint.doc} for blueprint in blueprints],
        "paths": paths,
        "components": {
            "schemas": _schemas(operations),
            "securitySchemes": {
                "apiKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`sk_live_<account>_<secret>`: full access to an account, except managing its keys.",
                },
                "jwt": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "An OIDC JWT. Specify the account in `X-Account-ID`.",
                },
            },
        },
    }


def template(path: str) -> str:
    """Convert a Flask rule to an OpenAPI path."""
    return _PART.sub(r"{\1}", path)


def _operation(operation: Operation) -> Json:
    described: Json = {
        "operationId": _operation_id(operation),
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": list(_parameters(operation)),
        "responses": _responses(operation),
        "security": [],
    }
    if operation.description:
        described["description"] = operation.description
    if operation.body is not None:
        schema = {"$ref": SCHEMA_REF.format(model=operation.body.__name__)}
        described["requestBody"] = {
            "required": True,
            "description": f"At most {in_words(operation.max_body_bytes)}.",
            "content": {"application/json": {"schema": schema}},
        }
    if not operation.access.public:
        accepted = (("apiKey", operation.access.keys), ("jwt", operation.access.roles))
        described["security"] = [{name: []} for name, is_accepted in accepted if is_accepted]
    return described


def _operation_id(operation: Operation) -> str:
    return re.sub(r"\W+", "_", f"{operation.method.lower()}_{template(operation.path)}").strip("_")


def _parameters(operation: Operation) -> Iterator[Json]:
    for name in _PART.findall(operation.path):
        schema = {"type": "string", "format": "uuid"} if name.endswith("_id") else {"type": "string", "minLength": 1}
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    if operation.query is not None:
        for name, schema in operation.query.model_json_schema()["properties"].items():
            required = operation.query.model_fields[name].is_required()
            yield {"name": name, "in": "query", "required": required, "schema": _not_null(schema)}
    if operation.conditional:
        yield _CONDITIONS["If-None-Match" if operation.method == "GET" else "If-Match"]
    if not operation.access.public:
        yield {
            "name": "X-Account-ID",
            "in": "header",
            "required": not operation.access.keys,
            "description": "The account. Required with a JWT. With an API key, it must match the key's account.",
            "schema": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,62}$"},
        }


_CONDITIONS: dict[str, Json] = {
    "If-Match": {
        "name": "If-Match",
        "in": "header",
        "description": "The `ETag` that you fetched. Returns 412 if the resource has changed since.",
        "schema": {"type": "string", "pattern": IF_MATCH_PATTERN},
    },
    "If-None-Match": {
        "name": "If-None-Match",
        "in": "header",
        "description": "The `ETag` of your cached copy. Returns 304 if the resource has not changed.",
        "schema": {"type": "string"},
    },
}


def _not_null(schema: Json) -> Json:
    """Remove null from a parameter's schema: an optional query parameter is absent, never null."""
    choices = [choice for choice in schema.get("anyOf", []) if choice != {"type": "null"}]
    if len(choices) != 1:
        return schema
    rest = {key: value for key, value in schema.items() if key not in {"anyOf", "default"}}
    return {**choices[0], **rest}


def _responses(operation: Operation) -> Json:
    responses = {str(operation.response.status): _success(operation)}
    if operation.conditional and operation.method == "GET":
        responses["304"] = {"description": "Not modified.", "headers": _headers({"ETag": _ETAG, **_EVERYWHERE})}
    by_status: dict[int, list[str]] = {}
    for code in _codes(operation):
        by_status.setdefault(status_of(code, forward_auth=operation.forward_auth), []).append(code)
    for status, codes in by_status.items():
        responses[str(status)] = _problem(status, codes)
    for other in operation.others:
        content = {"application/json": {"schema": _reference(other.model)}}
        responses[str(other.status)] = {"description": other.description, "content": content}
    return dict(sorted(responses.items()))


def _add_links(responses: Json, operation: Operation, operations: list[Operation]) -> None:
    """Add links from operations that create, list or show a resource to its other operations, and the declared
    links."""
    links = {
        _operation_id(target): {"operationId": _operation_id(target), "parameters": {name: place}}
        for target, name, place in _onward(operation, operations)
    }
    for link in operation.links:
        target = _target(link, operations)
        links[_operation_id(target)] = _link(link, target)
    if links:
        responses[str(operation.response.status)]["links"] = links


def _onward(operation: Operation, operations: list[Operation]) -> Iterator[tuple[Operation, str, str]]:
    for target in operations:
        names = _PART.findall(target.path)
        if target is operation or len(names) != 1 or not names[0].endswith("_id"):
            continue
        parent = target.path[: target.path.index("/<")]
        if operation.path == parent:
            yield target, names[0], "$response.body#/id" if operation.method == "POST" else "$response.body#/0/id"
        elif operation.path == target.path or (operation.method != "DELETE" and _nested(operation, target)):
            yield target, names[0], f"$request.path.{names[0]}"


def _nested(one: Operation, other: Operation) -> bool:
    return one.path.startswith(f"{other.path}/") or other.path.startswith(f"{one.path}/")


def _target(link: OpenApiLink, operations: list[Operation]) -> Operation:
    return next(found for found in operations if (found.method, found.path) == (link.method, link.path))


def _link(link: OpenApiLink, target: Operation) -> Json:
    described: Json = {"operationId": _operation_id(target)}
    if link.query:
        described["parameters"] = {name: f"$response.body#/{field}" for name, field in link.query.items()}
    if link.body:
        described["requestBody"] = {name: f"$response.body#/{field}" for name, field in link.body.items()}
    return described


def _codes(operation: Operation) -> list[str]:
    codes = list(_PUBLIC_REFUSALS if operation.access.public else _CREDENTIAL_REFUSALS)
    if operation.access.by_address:
        codes.append("rate_limited")
    if not operation.forward_auth:
        codes.append("invalid_request")  # every other operation validates `If-Match`
    if operation.body is not None:
        codes.extend(_BODY_REFUSALS)
    if "<" in operation.path:
        codes.append("not_found")
    if operation.conditional and operation.method != "GET":
        codes.append("precondition_failed")
    return list(dict.fromkeys([*codes, *operation.refusals]))


def _success(operation: Operation) -> Json:
    tagged = operation.conditional and operation.method != "DELETE"
    headers = {**_EVERYWHERE, **({"ETag": _ETAG} if tagged else {}), **operation.response.headers}
    response: Json = {"description": operation.response.description, "headers": _headers(headers)}
    if operation.response.model is not None:
        response["content"] = {"application/json": {"schema": _reference(operation.response.model)}}
    return response


def _headers(described: Mapping[str, str]) -> Json:
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in described.items()}


def _reference(model: Any) -> Json:
    if get_origin(model) is list:
        return {"type": "array", "items": _reference(get_args(model)[0])}
    return {"$ref": SCHEMA_REF.format(model=model.__name__)}


def _problem(status: int, codes: list[str]) -> Json:
    described = "; ".join(f"`{code}`: {PROBLEM_TYPES[code].title}" for code in codes)
    response: Json = {
        "description": described,
        "content": {
            "application/problem+json": {"schema": {"$ref": SCHEMA_REF.format(model="Problem")}},
            "text/plain": {"schema": {"type": "string"}},
        },
    }
    if status in {429, 503}:
        seconds = {"type": "integer", "minimum": 1}
        response["headers"] = {"Retry-After": {"description": "Seconds to wait before retrying.", "schema": seconds}}
    return response


def _schemas(operations: Iterable[Operation]) -> Json:
    wanted: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {}
    for operation in operations:
        if operation.body is not None:
            wanted[(operation.body, "validation")] = None
        model = operation.response.model
        if model is not None:
            wanted[(get_args(model)[0] if get_origin(model) is list else model, "serialization")] = None
    _, generated = models_json_schema(list(wanted), ref_template=SCHEMA_REF)
    schemas: Json = generated.get("$defs", {})
    for model, _mode in wanted:
        schemas[model.__name__] = _tidy(model, schemas[model.__name__])
    schemas["Problem"] = _PROBLEM
    return dict(sorted(schemas.items()))


def _tidy(model: type[BaseModel], schema: Json) -> Json:
    schema["description"] = inspect.cleandoc(model.__doc__ or "")
    if issubclass(model, Input):
        # Clients may send back fields that only the server sets, for example after they edited a fetched resource.
        properties = schema.setdefault("properties", {})
        for name in sorted(model.server_set):
            properties.setdefault(name, {"readOnly": True, "description": "Set by the server. Ignored in requests."})
    return schema


_PROBLEM: Json = {
    "type": "object",
    "description": "An error (RFC 9457).",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "enum": list(PROBLEM_TYPES)},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
