"""Generates the OpenAPI 3.1 document from the declarations that validate requests."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from flask import Flask
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from kataven.identity.scopes import KnownScopes
from kataven.web import idempotency
from kataven.web.conditional import IF_MATCH_PATTERN
from kataven.web.operation import ApiBlueprint, Audience, OpenApiLink, Operation, operation_of
from kataven.web.paging import NEXT_CURSOR
from kataven.web.problems import PROBLEM_TYPES, status_of
from kataven.web.schema import Input, in_words

Json = dict[str, Any]

OPENAPI_VERSION = "3.1.0"
SCHEMA_REF = "#/components/schemas/{model}"
SCOPE_SCHEMA: Json = {"type": "string", "format": "scope"}
"""The JSON Schema of a scope in a model. The document has a reference to its schema `Scope`, with the application's
scopes, instead."""
_CUSTOMERS_DESCRIPTION = """\
Errors are RFC 9457 problems. Program against `code`. New codes can be added, so handle an unknown code by its status.
A client that prefers `text/plain` in `Accept` receives the line `code: detail` instead.

Each path is served under `/v1` and, with the same behaviour, under `/api/v1` and `/hub-api/api/v1`. The latter two are
deprecated: their responses have a `Deprecation` header (RFC 9745) and a `Link` to the canonical path.

`HEAD` is supported wherever `GET` is. `OPTIONS` is supported everywhere, without a credential, except at `/v1/verify`,
which treats every method like `GET`. Large responses to `GET` are compressed for clients that send
`Accept-Encoding: gzip`.

An API key has full access to its account, except managing keys, unless it has `scopes`. Presets: *Full access* (no
scopes), *Read only* (every scope that ends with `:read`), and *Custom*. `x-required-scope` of an operation is the scope
that it requires; a key without it gets 403 `insufficient_scope`.

Lists are paginated by cursors, which remain valid while rows are added. A response that is not the last page has the
headers `X-Next-Cursor` and `Link: <…>; rel="next"` (RFC 8288). Send the value of `X-Next-Cursor` as `cursor` to
retrieve the next page, or follow the link. Operations with pages have `x-pagination` and a link `nextPage`.

Single resources have an `ETag`. Send it as `If-Match` with an update: if the resource changed after you fetched it, the
update is not applied and the API returns 412 `precondition_failed`. Send it as `If-None-Match` with a `GET`: if the
resource has not changed, the API returns 304 without a body.
"""
_OPERATORS_DESCRIPTION = """\
Endpoints for operators and for sign-in pages. None requires a credential. The customers' document is at
`/v1/openapi.json`. Prometheus metrics, at `/metrics`, are not JSON and not described here.
"""
_PART = re.compile(r"<(?:string:)?(\w+)>")

_EVERYWHERE = {"X-Request-ID": "Identifies this request in our logs."}
_KEY_EXPIRES_IN = {
    "Kataven-Key-Expires-In": "The seconds until the API key expires. Present from 14 days before that.",
}
_ETAG = "The version of the resource, for `If-Match` and `If-None-Match`."

_PAGE_HEADERS = {
    "Link": 'A link to the next page, `<…>; rel="next"` (RFC 8288), relative to the requested URL. Absent on the last.',
    NEXT_CURSOR: "The `cursor` of the next page. Absent on the last page.",
}

_CREDENTIAL_REFUSALS = (
    *("malformed_token", "missing_account", "invalid_account"),
    *("missing_credential", "not_a_credential", "invalid_credential", "expired_credential", "session_ended"),
    *("reserved_account", "account_mismatch", "revoked_credential", "rotated_credential", "paused_credential"),
    *("credential_not_yet_valid", "account_suspended", "access_blocked", "address_not_allowed", "browser_use"),
    *("forbidden",),
    *("rate_limited", "schema_mismatch", "unavailable"),
)
_PUBLIC_REFUSALS = ("unavailable",)
_BODY_REFUSALS = ("payload_too_large", "unsupported_media_type")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What an OpenAPI document states about itself."""

    audience: Audience
    title: str
    summary: str
    description: str


CUSTOMERS = Document(
    audience=Audience.CUSTOMERS,
    title="Kataven Hub API",
    summary="Manage the agents, keys and settings of a Kataven account.",
    description=_CUSTOMERS_DESCRIPTION,
)
OPERATORS = Document(
    audience=Audience.OPERATORS,
    title="Kataven Hub operations",
    summary="Check the health of a deployment, and find accounts to sign in to.",
    description=_OPERATORS_DESCRIPTION,
)


class DuplicateName(Exception):
    """Two operations have the same `operationId`, or two models have the same name in the document."""


def operations_of(app: Flask) -> list[Operation]:
    """Every published operation of an application, in the order of declaration."""
    found = (operation_of(app.view_functions[rule.endpoint]) for rule in app.url_map.iter_rules())
    return [operation for operation in found if operation is not None and operation.published]


def document(
    about: Document, operations: Iterable[Operation], blueprints: Iterable[ApiBlueprint], version: str, server_url: str
) -> Json:
    """The OpenAPI document for one audience. Raises DuplicateName."""
    tags = {blueprint.name: blueprint.doc for blueprint in blueprints if blueprint.audience is about.audience}
    operations = [operation for operation in operations if operation.tag in tags]
    used = {operation.tag for operation in operations}
    _require_unique(operation.operation_id for operation in operations)
    paths: Json = {}
    for operation in operations:
        paths.setdefault(template(operation.path), {})[operation.method.lower()] = _operation(operation)
    for operation in operations:
        _add_links(paths[template(operation.path)][operation.method.lower()]["responses"], operation, operations)
    schemas = _schemas(operations)
    if any(operation.scope for operation in operations):
        schemas = dict(sorted({**schemas, "Scope": _scope_schema(operations)}.items()))
    components: Json = {"schemas": schemas}
    if not all(operation.access.public for operation in operations):
        components["securitySchemes"] = _SECURITY_SCHEMES
    return {
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": about.title,
            "version": version,
            "summary": about.summary,
            "description": about.description,
            "contact": {"name": "Kataven", "url": "https://kataven.ai"},
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": server_url, "description": "The API"}],
        "tags": [{"name": name, "description": doc} for name, doc in tags.items() if name in used],
        "paths": paths,
        "components": components,
    }


def _scope_schema(operations: Iterable[Operation]) -> Json:
    required = {operation.scope for operation in operations if operation.scope is not None}
    return {
        "type": "string",
        "description": "The scopes of this version. `<noun>:write` includes `<noun>:read`. Operations state the scope "
        "that they require as `x-required-scope`.",
        "enum": list(KnownScopes(sorted(required))),
    }


_SECURITY_SCHEMES: Json = {
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "`sk_live_<account>_<secret>`: full access to an account, except managing its keys, or only "
        "what the key's `scopes` allow. `x-required-scope` of an operation is the scope that it requires.",
    },
    "jwt": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "An OIDC JWT. Specify the account in `X-Account-ID`.",
    },
}


def _require_unique(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DuplicateName(f"The OpenAPI document would have two {name}. Rename one.")
        seen.add(name)


def template(path: str) -> str:
    """Convert a Flask rule to an OpenAPI path."""
    return _PART.sub(r"{\1}", path)


def _operation(operation: Operation) -> Json:
    described: Json = {
        "operationId": operation.operation_id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": list(_parameters(operation)),
        "responses": _responses(operation),
        "security": [],
    }
    if operation.description:
        described["description"] = operation.description
    if operation.scope is not None:
        described["x-required-scope"] = operation.scope
        described["description"] = f"{operation.description}\n\n{_scope_sentence(operation)}".strip()
    if operation.paginated:
        described["x-pagination"] = _PAGINATION
    if operation.body is not None:
        schema = _reference(operation.body)
        described["requestBody"] = {
            "required": True,
            "description": f"At most {in_words(operation.max_body_bytes)}.",
            "content": {"application/json": {"schema": schema}},
        }
    if not operation.access.public:
        accepted = (("apiKey", operation.access.keys), ("jwt", operation.access.roles))
        described["security"] = [{name: []} for name, is_accepted in accepted if is_accepted]
    return described


def _scope_sentence(operation: Operation) -> str:
    return f"API keys with scopes need `{operation.scope}`."


def _parameters(operation: Operation) -> Iterator[Json]:
    for name in _PART.findall(operation.path):
        schema = {"type": "string", "format": "uuid"} if name.endswith("_id") else {"type": "string", "minLength": 1}
        described = f"The {'ID' if name.endswith('_id') else 'name'} of the {operation.noun}."
        if name == _REQUEST:
            schema = {"type": "string", "minLength": 8, "maxLength": 128}
            described = "The `X-Request-ID` of the response."
        yield {"name": name, "in": "path", "required": True, "description": described, "schema": schema}
    if operation.query is not None:
        for name, schema in operation.query.model_json_schema()["properties"].items():
            required = operation.query.model_fields[name].is_required()
            value = _not_null(_without_title(schema))
            text = value.pop("description", "")
            yield {"name": name, "in": "query", "required": required, "description": text, "schema": value}
    if operation.conditional:
        yield _CONDITIONS["If-None-Match" if operation.method == "GET" else "If-Match"]
    if operation.idempotent:
        yield _IDEMPOTENCY_KEY
    if not operation.access.public:
        yield {
            "name": "X-Account-ID",
            "in": "header",
            "required": not operation.access.keys,
            "description": "The account. Required with a JWT. With an API key, it must match the key's account.",
            "schema": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,62}$"},
        }


_REQUEST = "request"
"""A path parameter: the id of a request, which clients may choose."""

_PAGINATION: Json = {
    "type": "cursor",
    "cursor": {"in": "query", "name": "cursor"},
    "limit": {"in": "query", "name": "limit"},
    "items": "$response.body",
    "nextCursor": f"$response.header.{NEXT_CURSOR}",
}
"""How to request the next page, in OpenAPI's runtime expressions."""

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


_IDEMPOTENCY_KEY: Json = {
    "name": idempotency.HEADER,
    "in": "header",
    "description": "A random string, such as a UUID. A request with the same key and body returns the first response "
    "for 24 hours, and creates nothing. With another body, it returns 409.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": idempotency.PATTERN},
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
        target.operation_id: {"operationId": target.operation_id, "parameters": {name: place}}
        for target, name, place in _onward(operation, operations)
    }
    if operation.paginated:
        following = {"operationId": operation.operation_id, "parameters": {"cursor": _PAGINATION["nextCursor"]}}
        links["nextPage"] = following
    for link in operation.links:
        target = _target(link, operations)
        links[target.operation_id] = _link(link, target)
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
    described: Json = {"operationId": target.operation_id}
    if link.query:
        described["parameters"] = {name: f"$response.body#/{field}" for name, field in link.query.items()}
    if link.body:
        described["requestBody"] = {name: f"$response.body#/{field}" for name, field in link.body.items()}
    return described


def _codes(operation: Operation) -> list[str]:
    codes = list(_PUBLIC_REFUSALS if operation.access.public else _CREDENTIAL_REFUSALS)
    if operation.scope is not None or operation.forward_auth:
        codes.append("insufficient_scope")
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
    if operation.idempotent:
        codes += ["idempotency_mismatch", "idempotency_in_progress"]
    if operation.idempotent and operation.returns_secret:
        codes.append("idempotency_secret_expired")
    return list(dict.fromkeys([*codes, *operation.refusals]))


def _success(operation: Operation) -> Json:
    tagged = operation.conditional and operation.method != "DELETE"
    headers = {**_EVERYWHERE, **({"ETag": _ETAG} if tagged else {}), **operation.response.headers}
    if operation.idempotent:
        headers[idempotency.REPLAYED] = "`true` if this is the response to an earlier request with the same key."
    if operation.paginated:
        headers |= _PAGE_HEADERS
    if operation.access.keys:
        headers |= _KEY_EXPIRES_IN
    response: Json = {"description": operation.response.description, "headers": _headers(headers)}
    if operation.response.model is not None:
        response["content"] = {"application/json": {"schema": _reference(operation.response.model)}}
    return response


def _headers(described: Mapping[str, str]) -> Json:
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in described.items()}


def _reference(model: Any) -> Json:
    if get_origin(model) is list:
        return {"type": "array", "items": _reference(get_args(model)[0])}
    return {"$ref": SCHEMA_REF.format(model=published_name(model.__name__))}


def published_name(name: str) -> str:
    """The name of a model in the document: `AgentView` is published as `Agent`."""
    return name.removesuffix("View")


def _problem(status: int, codes: list[str]) -> Json:
    described = "; ".join(f"`{code}`: {PROBLEM_TYPES[code].title}" for code in codes)
    response: Json = {
        "description": described,
        "content": {
            "application/problem+json": {"schema": {"$ref": SCHEMA_REF.format(model="Problem")}},
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
        for response in (operation.response, *operation.others):
            model = response.model
            if model is not None:
                wanted[(get_args(model)[0] if get_origin(model) is list else model, "serialization")] = None
    _, generated = models_json_schema(list(wanted), ref_template=SCHEMA_REF)
    found: Json = generated.get("$defs", {})
    bodies = {model.__name__ for model, mode in wanted if mode == "validation"}
    for name, schema in found.items():
        fields = schema.get("properties", {})
        fields.update({field: _without_default(value, stated=name in bodies) for field, value in fields.items()})
    for model, _mode in wanted:
        found[model.__name__] = _tidy(model, found[model.__name__])
    _require_unique([*map(published_name, found), *_PROBLEMS])
    schemas = {published_name(name): _published(schema) for name, schema in found.items()}
    return dict(sorted({**schemas, **_PROBLEMS}.items()))


def _published(schema: Any) -> Any:
    """A schema with the published names of the models that it refers to, and without Pydantic's titles."""
    if isinstance(schema, list):
        return [_published(value) for value in schema]
    if not isinstance(schema, dict):
        return schema
    if {name: schema.get(name) for name in SCOPE_SCHEMA} == SCOPE_SCHEMA:
        return {"$ref": SCHEMA_REF.format(model="Scope")}
    published = {name: _published(value) for name, value in _without_title(schema).items()}
    if "$ref" in published:
        path, _, name = published["$ref"].rpartition("/")
        published["$ref"] = f"{path}/{published_name(name)}"
    return published


def _without_title(schema: Json) -> Json:
    """Titles repeat the name of the field or the model. `title` can also be the name of a field: its value is then an
    object."""
    return {name: value for name, value in schema.items() if name != "title" or not isinstance(value, str)}


def _tidy(model: type[BaseModel], schema: Json) -> Json:
    schema["description"] = inspect.cleandoc(model.__doc__ or "")
    properties = schema.setdefault("properties", {})
    if issubclass(model, Input):
        # Clients may send back fields that only the server sets, for example after they edited a fetched resource.
        for name in sorted(model.server_set):
            properties.setdefault(name, {"readOnly": True, "description": "Set by the server. Ignored in requests."})
    return schema


def _without_default(field: Json, *, stated: bool) -> Json:
    """The schema of a field without `default`; if the default is stated, with `x-default` instead.

    Generators of clients, such as openapi-typescript, treat a field with a `default` as always present, so that callers
    would have to send it. The description states the default for readers.
    """
    if "default" not in field:
        return field
    without = {name: value for name, value in field.items() if name != "default"}
    if stated:
        without["x-default"] = field["default"]
    if stated and field["default"] is not None:
        without["description"] = f"{without.get('description', '')} {default_sentence(field['default'])}".strip()
    return without


def default_sentence(default: Any) -> str:
    """How a description states the default of a field."""
    return f"Default: `{default if isinstance(default, str) else json.dumps(default)}`."


_PROBLEM: Json = {
    "type": "object",
    "description": "An error (RFC 9457).",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        # Not only the enumeration: a client that is older than a code must be able to read the problem.
        "code": {
            "description": "Program against this. New codes can be added.",
            "anyOf": [{"$ref": SCHEMA_REF.format(model="ProblemCode")}, {"type": "string"}],
        },
        "request_id": {"type": "string"},
        "errors": {"type": "array", "items": {"$ref": SCHEMA_REF.format(model="FieldProblem")}},
    },
}
_PROBLEMS: Json = {
    "Problem": _PROBLEM,
    "FieldProblem": {
        "type": "object",
        "description": "A field of the request that is invalid, and why.",
        "required": ["field", "message"],
        "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
    },
    "ProblemCode": {
        "type": "string",
        "description": "The codes of this version. Each is explained at `/docs/errors`.",
        "enum": list(PROBLEM_TYPES),
    },
}
