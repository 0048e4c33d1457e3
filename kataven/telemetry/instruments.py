"""Adds spans to Flask, SQLAlchemy, Redis clients and gRPC. Attribute names follow OpenTelemetry's semantic conventions.

Methods are replaced in their classes when the process starts, so that without this package they are called directly.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

import grpc
from flask import Flask, Response, request
from opentelemetry.trace import Span
from sqlalchemy import Engine, event

from kataven import tracing
from kataven.telemetry.spans import Telemetry, fail

METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
HEALTH = "/grpc.health.v1.Health/"

Describe = Callable[[], Mapping[str, str]]

_TABLE = re.compile(r'\b(?:FROM|INTO|UPDATE)\s+"?([a-z_]\w*)', re.IGNORECASE)
_VERB = re.compile(r"\s*([A-Za-z]+)")
_COMMAND = re.compile(rb"\*\d+\r\n\$\d+\r\n([A-Za-z]+)")
_statement: ContextVar[tuple[Any, Span] | None] = ContextVar("kataven_statement", default=None)


def flask(app: Flask, telemetry: Telemetry, describe: Describe) -> None:
    """A span for each request of `app`. `describe` returns further attributes at the end of a request."""

    def begin() -> None:
        method = request.method if request.method in METHODS else "_OTHER"
        telemetry.begin(method, request.headers.get(tracing.HEADER))

    def describe_response(response: Response) -> Response:
        span = telemetry.current()
        if span is not None and span.is_recording():
            method = request.method if request.method in METHODS else "_OTHER"
            span.set_attribute("http.request.method", method)
            if request.url_rule is not None:
                span.set_attribute("http.route", request.url_rule.rule)
                span.update_name(f"{method} {request.url_rule.rule}")
            span.set_attribute("http.response.status_code", response.status_code)
            found = describe()
            for name, value in found.items():
                span.set_attribute(name, value)
            if response.status_code >= 500:
                fail(span, found.get("kataven.problem.code", str(response.status_code)))
        return response

    def end(_error: BaseException | None) -> None:
        telemetry.end()

    # Before every other function, so that all of a request's calls are within its span.
    app.before_request_funcs.setdefault(None, []).insert(0, begin)
    app.after_request_funcs.setdefault(None, []).insert(0, describe_response)  # runs last
    app.teardown_request_funcs.setdefault(None, []).insert(0, end)


def sqlalchemy(telemetry: Telemetry) -> None:
    """A span for each statement of every engine. It has the verb and the table, and neither text nor parameters."""

    def before(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        entered = telemetry.call(*_of_statement(statement, connection.engine.url.database))
        span = entered.__enter__()
        if span is not None:
            _statement.set((entered, span))

    def after(*_: Any) -> None:
        entered = _statement.get()
        if entered is not None:
            _statement.set(None)
            entered[0].__exit__(None, None, None)

    def failed(error: Any) -> None:
        entered = _statement.get()
        if entered is not None:
            code = getattr(error.original_exception, "pgcode", None)
            fail(entered[1], code or type(error.original_exception).__name__)
            after()

    event.listen(Engine, "before_cursor_execute", before)
    event.listen(Engine, "after_cursor_execute", after)
    event.listen(Engine, "handle_error", failed)


def rows(query: type[Any]) -> Callable[[Telemetry], None]:
    """The same for `read` of a class whose `text` is the statement, which bypasses the engine."""

    def instrument(telemetry: Telemetry) -> None:
        original = query.read

        @functools.wraps(original)
        def traced(self: Any, connection: Any, *arguments: Any) -> Any:
            if telemetry.current() is None:
                return original(self, connection, *arguments)
            database = connection.dbapi_connection.info.dbname
            entered = telemetry.call(*_of_statement(self.text, database))
            span = entered.__enter__()
            try:
                return original(self, connection, *arguments)
            except Exception as error:
                cause = getattr(error, "orig", error)
                if span is not None:
                    fail(span, getattr(cause, "pgcode", None) or type(cause).__name__)
                raise
            finally:
                entered.__exit__(None, None, None)

        query.read = traced

    return instrument


def _of_statement(statement: str, database: str | None) -> tuple[str, dict[str, str]]:
    """The name and the attributes of a statement's span."""
    verb, table = _VERB.match(statement), _TABLE.search(statement)
    operation = verb[1].upper() if verb else "SQL"
    attributes = {"db.system.name": "postgresql", "db.operation.name": operation}
    if table:
        attributes["db.collection.name"] = table[1]
    if database:
        attributes["db.namespace"] = database
    return f"{operation} {table[1]}" if table else operation, attributes


def packed_redis(kind: type[Any]) -> Callable[[Telemetry], None]:
    """Spans for `call` and `call_all` of a class that takes packed commands."""

    def instrument(telemetry: Telemetry) -> None:
        def one(command: bytes) -> str:
            found = _COMMAND.match(command)
            return found[1].decode().upper() if found else "REDIS"

        def several(commands: Any) -> str:
            names = {one(command) for command in commands}
            return names.pop() if len(names) == 1 else "PIPELINE"

        _replace(kind, "call", telemetry, lambda arguments: one(arguments[0]))
        _replace(kind, "call_all", telemetry, lambda arguments: several(arguments[0]))

    return instrument


def redis_py(*kinds: type[Any]) -> Callable[[Telemetry], None]:
    """Spans for `execute_command` of redis-py's clients."""

    def instrument(telemetry: Telemetry) -> None:
        for kind in kinds:
            _replace(kind, "execute_command", telemetry, lambda arguments: str(arguments[0]).split(" ")[0].upper())

    return instrument


def _replace(kind: type[Any], method: str, telemetry: Telemetry, name_of: Callable[[Any], str]) -> None:
    original = getattr(kind, method)

    @functools.wraps(original)
    def traced(self: Any, *arguments: Any, **options: Any) -> Any:
        if telemetry.current() is None:
            return original(self, *arguments, **options)
        name = name_of(arguments)
        with telemetry.call(name, {"db.system.name": "redis", "db.operation.name": name}):
            return original(self, *arguments, **options)

    setattr(kind, method, traced)


def grpc_client(kind: type[Any], service: str) -> Callable[[Telemetry], None]:
    """Spans for `call(method, …)` of a channel. The called service continues the trace from the span."""

    def instrument(telemetry: Telemetry) -> None:
        original = kind.call

        @functools.wraps(original)
        def traced(self: Any, method: str, *arguments: Any) -> Any:
            with telemetry.outgoing(f"{service}/{method}", _rpc(service, method)):
                return original(self, method, *arguments)

        kind.call = traced

    return instrument


class GrpcServerSpans(grpc.ServerInterceptor):
    """A span for each call of a gRPC server, except health checks."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        handler = continuation(details)
        if handler is None or handler.unary_unary is None or details.method.startswith(HEALTH):
            return handler
        service, _, method = details.method.lstrip("/").rpartition("/")
        inner = handler.unary_unary

        def traced(message: Any, context: grpc.ServicerContext) -> Any:
            headers = {str(key): str(value) for key, value in context.invocation_metadata()}
            span = self._telemetry.begin(f"{service}/{method}", headers.get(tracing.HEADER))
            try:
                if span is not None:
                    span.set_attributes(_rpc(service, method))
                return inner(message, context)
            except BaseException as error:
                if span is not None:
                    fail(span, type(error).__name__)
                raise
            finally:
                self._telemetry.end()

        return grpc.unary_unary_rpc_method_handler(
            traced, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
        )


def _rpc(service: str, method: str) -> dict[str, str | int]:
    return {"rpc.system.name": "grpc", "rpc.method": f"{service}/{method}"}
