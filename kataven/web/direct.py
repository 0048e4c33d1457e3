"""Serves the operations that only verify a credential without Flask, in half of the time.

    usual request?   no: Flask serves it
    edge → credential → principal → account → access → limits → response
    a step raises?   Flask continues with the same context, and turns the error into a response

The steps, the headers, the metrics, the usage and the log line are those of `pipeline`, `observe` and `forward_auth`.
`tests/web/test_direct.py` sends requests both ways and compares the results.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Flask, signals

from kataven.web import compression, forward_auth, hardening, observe, pipeline
from kataven.web.operation import Operation, operation_of
from kataven.web.paths import REQUESTED, WsgiApp
from kataven.web.request_context import RequestContext
from kataven.web.services import Services

Headers = list[tuple[str, str]]
Describe = Callable[[RequestContext, Mapping[str, Any]], tuple[bytes, Headers]]
"""The body and the headers of a response to the caller, from the request's WSGI environment. A body is JSON."""

_HOST = re.compile(r"[A-Za-z0-9.-]+(?::[0-9]+)?")
_SIGNALS = (
    signals.appcontext_pushed,
    signals.request_started,
    signals.request_finished,
    signals.request_tearing_down,
    signals.appcontext_tearing_down,
    signals.appcontext_popped,
)
_UNUSUAL = frozenset({"HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_X_KATAVEN_MEASURE"})
"""Headers to which Flask's hooks respond."""


@dataclass(frozen=True, slots=True)
class _Direct:
    operation: Operation
    describe: Describe


class DirectRequests:
    """WSGI middleware that serves the usual requests of some operations, and passes all others to Flask's `app`."""

    def __init__(self, app: Flask, services: Services, url: str, describe: Mapping[str, Describe]) -> None:
        """`describe` has a function for each endpoint of `app`. `url` is the public URL of `app`."""
        self._app = app
        self._in_flask: WsgiApp = app.wsgi_app
        self._services = services
        self._surface = app.name.removeprefix("kataven-")
        self._records_usage = app.name != pipeline.HUB
        self._security_headers = hardening.headers(url)
        self._by_path = {
            operation.path: _Direct(operation, describe[endpoint]) for endpoint, operation in _declared(app, describe)
        }
        if len(self._by_path) != len(describe):
            raise ValueError(f"these endpoints are not operations: {', '.join(describe)}")
        self._views = {endpoint: app.view_functions[endpoint] for endpoint in describe}
        self._is_used: bool | None = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        direct = self._by_path.get(environ["PATH_INFO"])
        if direct is None or not _is_usual(environ, direct.operation) or not self._is_unextended():
            return self._in_flask(environ, start_response)
        context = observe.open_context(self._services, environ)
        try:
            response = self._respond(context, direct, environ)
        except Exception as error:
            response, environ[pipeline.STARTED] = None, pipeline.StartedRequest(context, error)
        if response is None:
            environ.setdefault(pipeline.STARTED, pipeline.StartedRequest(context, None))
            return self._in_flask(environ, start_response)
        # Before the body is sent, so that the slot is free for the client's next request.
        pipeline.release_slot(context)
        observe.close_context(None)
        body, headers = response
        start_response("200 OK", headers)
        return (body,)

    def _respond(
        self, context: RequestContext, direct: _Direct, environ: dict[str, Any]
    ) -> tuple[bytes, Headers] | None:
        """The body and the headers of the response. None if Flask must create it."""
        operation = direct.operation
        pipeline.admit_to(context, operation, environ)
        if context.admitted is None:
            return None
        pipeline.limit_caller(context, context.admitted)
        body, headers = direct.describe(context, environ)
        if len(body) >= compression.MIN_BYTES:
            return None
        headers = _start_of(body) + headers
        headers += pipeline.response_headers(context)
        if self._records_usage:
            pipeline.record_usage(context, environ, "GET", operation.path, 200)
        headers.append(("X-Request-ID", context.request_id))
        headers.append(("Cache-Control", "no-store"))
        observe.record(context, self._surface, "GET", operation.path, 200)
        headers += forward_auth.headers_of_accepted(context)
        headers += self._security_headers
        if not body:
            headers.append(("Content-Length", "0"))
        return body, headers

    def _is_unextended(self) -> bool:
        """Whether all hooks and the views of the app are of this package, and nothing receives Flask's signals. Those
        of other packages run in Flask only.

        False for the first request: Flask accepts no hooks and views after it has served one.
        """
        if self._is_used is None:
            names = (None, *(direct.operation.tag for direct in self._by_path.values()))
            hooks_are_known = all(_module_of(hook).startswith("kataven.web.") for hook in _hooks(self._app, names))
            views = {endpoint: self._app.view_functions.get(endpoint) for endpoint in self._views}
            self._is_used = hooks_are_known and views == self._views
            return False
        return self._is_used and not any(signal.receivers for signal in _SIGNALS)


def _is_usual(environ: Mapping[str, Any], operation: Operation) -> bool:
    """Whether the request is a GET of the canonical path, to which no hook of Flask responds."""
    return (
        environ["REQUEST_METHOD"] == "GET"
        and environ.get(REQUESTED) == operation.path
        and (operation.query is not None or not environ["QUERY_STRING"])
        and _UNUSUAL.isdisjoint(environ)
        and _HOST.fullmatch(environ.get("HTTP_HOST", "")) is not None
    )


def _start_of(body: bytes) -> Headers:
    return [("Content-Type", "application/json"), ("Content-Length", str(len(body)))] if body else []


def _declared(app: Flask, endpoints: Iterable[str]) -> Iterator[tuple[str, Operation]]:
    for rule in app.url_map.iter_rules():
        operation = operation_of(app.view_functions[rule.endpoint])
        if rule.endpoint in endpoints and operation is not None:
            yield rule.endpoint, operation


def _hooks(app: Flask, blueprints: Iterable[str | None]) -> Iterator[Any]:
    for blueprint in blueprints:
        yield from app.url_value_preprocessors.get(blueprint, ())
        yield from app.before_request_funcs.get(blueprint, ())
        yield from app.after_request_funcs.get(blueprint, ())
        yield from app.teardown_request_funcs.get(blueprint, ())
    yield from app.teardown_appcontext_funcs


def _module_of(hook: Any) -> str:
    """Empty for a function that is written in C."""
    return getattr(hook, "__module__", None) or ""
