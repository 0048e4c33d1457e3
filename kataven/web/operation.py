"""Declaring a route: who may use it, what it takes and gives. The declaration validates, and OpenAPI publishes it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flask import Blueprint, Response, request
from werkzeug.exceptions import HTTPException

from kataven.account.errors import NotFound
from kataven.ratelimit.budget import AddressBudgetKind
from kataven.web import conditional
from kataven.web.access import Access
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


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route answers when all is well. `model` is a pydantic model, or a list of one; None is an empty body."""

    status: int
    description: str
    model: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Header name to description."""


@dataclass(frozen=True, slots=True)
class OpenApiLink:
    """Where an answer leads: the operation that this answer's values are for, by method and path."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    """Parameter of its query string to field of this answer."""
    body: Mapping[str, str] = field(default_factory=dict)
    """Field of its body to field of this answer."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    access: Access
    tag: str
    summary: str
    answer: Answer
    description: str = ""
    body: type[Input] | None = None
    query: type[Query] | None = None
    refusals: tuple[str, ...] = ()
    """Codes besides those that every route of its kind can answer."""
    noun: str = "resource"
    conditional: bool = False
    """Whether the resource has an ETag, which `If-Match` and `If-None-Match` are compared with."""
    others: tuple[Answer, ...] = ()
    """What it answers besides, that is neither success nor a problem."""
    links: tuple[OpenApiLink, ...] = ()
    """Where the answer leads, besides to the resource that it makes or shows."""
    published: bool = True
    """False for pages that people read, which OpenAPI leaves out."""
    max_body_bytes: int = MAX_BODY_BYTES
    """A longer body is refused with 413 before it is parsed."""

    def __post_init__(self) -> None:
        if self.body is not None and self.access.public and self.max_body_bytes > MAX_PUBLIC_BODY_BYTES:
            raise ValueError(f"{self.method} {self.path}: without a credential, a body is limited to 64 KiB")


class ApiBlueprint(Blueprint):
    """A blueprint whose routes are declared as operations; `noun` is the word for one of its resources."""

    def __init__(self, name: str, import_name: str, noun: str, doc: str) -> None:
        super().__init__(name, import_name)
        self.noun = noun
        self.doc = doc

    def operation(
        self,
        method: str,
        path: str,
        *,
        access: Access,
        summary: str,
        answer: Answer,
        body: type[Input] | None = None,
        query: type[Query] | None = None,
        refusals: tuple[str, ...] = (),
        conditional: bool = False,
        others: tuple[Answer, ...] = (),
        links: tuple[OpenApiLink, ...] = (),
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> Callable[[Handler], Handler]:
        """Register a handler `(call, *, <parts of the path>, body, query) -> Response`.

        A part of the path named `…_id` arrives as a UUID; one that can't be a UUID is a 404, since no row has it.
        """

        def register(handler: Handler) -> Handler:
            described = Operation(
                method,
                path,
                access,
                self.name,
                summary,
                answer,
                (handler.__doc__ or "").strip(),
                body,
                query,
                refusals,
                self.noun,
                conditional,
                others,
                links,
                max_body_bytes=max_body_bytes,
            )
            view = _view(handler, described)
            self.add_url_rule(path, endpoint=handler.__name__, view_func=view, methods=[method])
            return handler

        return register

    def page(self, path: str, *, access: Access, summary: str) -> Callable[[Handler], Handler]:
        """Register a page for people: a GET that OpenAPI does not list."""

        def register(handler: Handler) -> Handler:
            answer = Answer(200, "A page.")
            described = Operation("GET", path, access, self.name, summary, answer, noun="page", published=False)
            view = _view(handler, described)
            self.add_url_rule(path, endpoint=handler.__name__, view_func=view, methods=["GET"])
            return handler

        return register


def _view(handler: Callable[..., Response], operation: Operation) -> Callable[..., Response]:
    @functools.wraps(handler)
    def view(**path: str) -> Response:
        context = current_context()
        if not operation.access.by_address:
            return handler(context, **_read(operation, path))
        # In memory, before a byte of the body is read: refusing junk must cost less than sending it.
        context.require(AddressBudgetKind.REFUSED)
        try:
            arguments = _read(operation, path)
        except (InvalidRequest, HTTPException, BodyError):
            context.note(AddressBudgetKind.REFUSED)
            raise
        context.spend(AddressBudgetKind.PUBLIC)
        return handler(context, **arguments)

    view.operation = operation  # type: ignore[attr-defined]  # read back by `operation_of`
    return view


def _read(operation: Operation, path: Mapping[str, str]) -> dict[str, Any]:
    """What the client sends, validated. Raises InvalidRequest, NotFound, PreconditionFailed, or werkzeug's 413, 415."""
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
    """What a view function declares, if it does."""
    found: Operation | None = getattr(view, "operation", None)
    return found
