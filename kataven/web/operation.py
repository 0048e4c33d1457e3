"""Declares routes: access, inputs and responses. The declarations validate requests and generate the OpenAPI
document."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from flask import Blueprint, Response, request
from werkzeug.exceptions import HTTPException

from kataven.account.errors import NotFound
from kataven.identity import scopes
from kataven.ratelimit.budget import AddressBudgetKind
from kataven.web import conditional
from kataven.web.access import Access
from kataven.web.idempotency import read_attempt
from kataven.web.problems import InvalidRequest
from kataven.web.request_context import current_context
from kataven.web.schema import (
    MAX_BODY_BYTES,
    MAX_PUBLIC_BODY_BYTES,
    Input,
    Query,
    read_body,
    read_id,
    read_query,
)
from kataven.web.server.errors import BodyError

Handler = TypeVar("Handler", bound=Callable[..., Response])


_VERBS = {"read": "get", "change": "update"}
"""Verbs of handlers to verbs of operations."""


class Audience(StrEnum):
    """Whose OpenAPI document describes the operations of a blueprint."""

    CUSTOMERS = "customers"
    OPERATORS = "operators"


@dataclass(frozen=True, slots=True)
class ResponseSpec:
    """A successful response. `model` is a Pydantic model or a list of one; None is an empty body."""

    status: int
    description: str
    model: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Header name to description."""


@dataclass(frozen=True, slots=True)
class OpenApiLink:
    """A link of the OpenAPI document: the operation, by method and path, that takes values of this response."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    """Query parameter of the linked operation to field of this response."""
    body: Mapping[str, str] = field(default_factory=dict)
    """Body field of the linked operation to field of this response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    operation_id: str
    """The name of the operation in generated clients: `listAgents`. A change breaks the callers of those clients."""
    access: Access
    tag: str
    summary: str
    response: ResponseSpec
    description: str = ""
    body: type[Input] | None = None
    query: type[Query] | None = None
    refusals: tuple[str, ...] = ()
    """Problem codes in addition to those that every route with this access and these inputs can return."""
    noun: str = "resource"
    scope: str | None = None
    """The scope that an API key needs."""
    conditional: bool = False
    """Whether the resource has an ETag and supports `If-Match` and `If-None-Match`."""
    others: tuple[ResponseSpec, ...] = ()
    """Responses that are neither the successful one nor problems."""
    links: tuple[OpenApiLink, ...] = ()
    """Links in addition to those to the resource that the response creates or shows."""
    published: bool = True
    """False for HTML pages, which the OpenAPI document omits."""
    idempotent: bool = False
    """Whether it supports `Idempotency-Key`: see `web.idempotency`."""
    returns_secret: bool = False
    """Whether the response has a secret, which is not stored for repeated requests."""
    forward_auth: bool = False
    """Whether gateways call it: problems have statuses that gateways understand (see `forward_auth`)."""
    max_body_bytes: int = MAX_BODY_BYTES
    """Longer bodies are rejected with 413 before they are parsed."""

    @property
    def paginated(self) -> bool:
        """Whether it returns a list in pages."""
        return self.query is not None and "cursor" in self.query.model_fields

    def __post_init__(self) -> None:
        if self.body is not None and self.access.public and self.max_body_bytes > MAX_PUBLIC_BODY_BYTES:
            raise ValueError(f"{self.method} {self.path}: max_body_bytes of a public operation must be at most 64 KiB")
        if self.idempotent and (self.access.public or self.method != "POST"):
            raise ValueError(f"{self.method} {self.path}: only a POST with a credential can be idempotent")


class ApiBlueprint(Blueprint):
    """A blueprint whose routes are declared as operations. `noun` names one of its resources in messages. `audience`
    selects the OpenAPI document that describes it.

    The scope of an operation is `<resource>:read` for GET, and `<resource>:write` for other methods. `resource` is the
    blueprint's name by default.
    """

    def __init__(
        self,
        name: str,
        import_name: str,
        noun: str,
        doc: str,
        audience: Audience = Audience.CUSTOMERS,
        *,
        resource: str | None = None,
    ) -> None:
        super().__init__(name, import_name)
        self.resource = resource or name
        self.scopes: set[str] = set()
        """The scopes that its operations require."""
        self.noun = noun
        self.doc = doc
        self.audience = audience

    def operation(
        self,
        method: str,
        path: str,
        *,
        access: Access,
        summary: str,
        response: ResponseSpec,
        body: type[Input] | None = None,
        query: type[Query] | None = None,
        refusals: tuple[str, ...] = (),
        conditional: bool = False,
        others: tuple[ResponseSpec, ...] = (),
        links: tuple[OpenApiLink, ...] = (),
        idempotent: bool = False,
        returns_secret: bool = False,
        forward_auth: bool = False,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> Callable[[Handler], Handler]:
        """Register a handler `(context, *, <path parameters>, body, query) -> Response`. The handler's name is the
        name of the operation in clients: `change_agent` is `updateAgent`.

        Path parameters named `…_id` are passed as a UUID. A value that is not a UUID returns 404, since no row has it.
        """

        scope = scopes.checked(self._scope(method)) if access.keys and access.scoped else None
        if scope is not None:
            self.scopes.add(scope)

        def register(handler: Handler) -> Handler:
            described = Operation(
                method=method,
                path=path,
                operation_id=operation_id(handler.__name__),
                access=access,
                tag=self.name,
                noun=self.noun,
                scope=scope,
                summary=summary,
                description=(handler.__doc__ or "").strip(),
                response=response,
                others=others,
                links=links,
                refusals=refusals,
                body=body,
                query=query,
                conditional=conditional,
                idempotent=idempotent,
                returns_secret=returns_secret,
                forward_auth=forward_auth,
                max_body_bytes=max_body_bytes,
            )
            view = _view(handler, described)
            self.add_url_rule(path, endpoint=handler.__name__, view_func=view, methods=[method])
            return handler

        return register

    def _scope(self, method: str) -> str:
        return f"{self.resource}:{scopes.READ if method == 'GET' else scopes.WRITE}"

    def page(self, path: str, *, access: Access, summary: str) -> Callable[[Handler], Handler]:
        """Register an HTML page: a GET that the OpenAPI document omits."""

        def register(handler: Handler) -> Handler:
            described = Operation(
                method="GET",
                path=path,
                operation_id=operation_id(handler.__name__),
                access=access,
                tag=self.name,
                noun="page",
                summary=summary,
                response=ResponseSpec(200, "An HTML page."),
                published=False,
            )
            view = _view(handler, described)
            self.add_url_rule(path, endpoint=handler.__name__, view_func=view, methods=["GET"])
            return handler

        return register


def operation_id(handler_name: str) -> str:
    """The `operationId` of a handler: `change_agent` is `updateAgent`."""
    verb, *rest = handler_name.split("_")
    return _VERBS.get(verb, verb) + "".join(map(str.capitalize, rest))


def _view(handler: Callable[..., Response], operation: Operation) -> Callable[..., Response]:
    @functools.wraps(handler)
    def view(**path: str) -> Response:
        context = current_context()
        if not operation.access.by_address:
            arguments = _read(operation, path)
            if operation.idempotent:
                caller, body = context.principal.label, arguments.get("body")
                context.attempt = read_attempt(request, caller, operation.operation_id, path, body)
            return handler(context, **arguments)
        # In memory and before the body is read: rejecting invalid requests must cost less than sending them.
        context.require(AddressBudgetKind.REFUSED)
        try:
            arguments = _read(operation, path)
        except (InvalidRequest, HTTPException, BodyError):
            context.record(AddressBudgetKind.REFUSED)
            raise
        context.spend(AddressBudgetKind.PUBLIC)
        return handler(context, **arguments)

    view.operation = operation  # type: ignore[attr-defined]  # read back by `operation_of`
    return view


def _read(operation: Operation, path: Mapping[str, str]) -> dict[str, Any]:
    """The handler's arguments, validated. Raises InvalidRequest, NotFound, PreconditionFailed, BodyTooLarge or
    NotJson."""
    arguments: dict[str, Any] = {
        name: _id(text, operation.noun) if name.endswith("_id") else text for name, text in path.items()
    }
    conditional.check_if_match()
    if not operation.conditional:
        conditional.require_match(None)
    if operation.query is not None:
        arguments["query"] = read_query(request, operation.query)
    if operation.body is not None:
        arguments["body"] = read_body(request, operation.body, operation.max_body_bytes)
    return arguments


def _id(text: str, noun: str) -> Any:
    row_id = read_id(text)
    if row_id is None:
        raise NotFound(noun)
    return row_id


def operation_of(view: Callable[..., Any] | None) -> Operation | None:
    """The operation that a view function declares; None if it declares none."""
    found: Operation | None = getattr(view, "operation", None)
    return found
