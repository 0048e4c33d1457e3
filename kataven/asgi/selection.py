"""Learns from the application's own router which endpoint a request selects, before the endpoint runs.

Starlette and FastAPI write the selected endpoint into the scope with `scope.update` and then call it. The first pass
runs the application with a scope that ends the pass at that moment. The second pass, after the request is admitted,
runs it with a scope that rejects every other endpoint. So no rule about paths exists twice, and none can differ.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, NoReturn

from kataven.web.declarations import declared_access

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

ROUTERS_OWN = frozenset({301, 302, 303, 307, 308, 404, 405})
"""The statuses of a router that has selected no endpoint."""


class EndpointSelected(BaseException):
    """Ends the first pass. Not an Exception, so that no error handler of the application catches it."""


class RouteChanged(RuntimeError):
    """Raised when the second pass selects another endpoint than the one that the request was admitted for."""


class FirstPass(dict[str, Any]):
    """A scope that ends the pass when an endpoint is selected. `endpoint` is None for a route without one."""

    selected = False
    endpoint: Any = None

    def update(self, *given: Any, **named: Any) -> None:
        super().update(*given, **named)
        if _continues(self, dict(*given, **named)):
            return
        self.endpoint = self.get("endpoint")
        self.end()

    def end(self) -> NoReturn:
        self.selected = True
        raise EndpointSelected


class SecondPass(dict[str, Any]):
    """A scope that rejects every endpoint except `admitted`."""

    def __init__(self, scope: Scope, admitted: Any) -> None:
        super().__init__(scope)
        self._admitted = admitted

    def update(self, *given: Any, **named: Any) -> None:
        super().update(*given, **named)
        if not _continues(self, dict(*given, **named)) and self.get("endpoint") is not self._admitted:
            raise RouteChanged("the router selected another endpoint than before")


def _continues(scope: Scope, child: Scope) -> bool:
    """Whether routing continues in a mounted application or an included router."""
    endpoint = child.get("endpoint")
    if endpoint is not None:
        return hasattr(endpoint, "routes")
    # FastAPI's included routers set neither. Starlette sets the route first; one without an endpoint ends the pass.
    return "route" not in scope


async def select(app: AsgiApp, scope: Scope, send: Send) -> FirstPass | None:
    """The scope with the selected endpoint; None if the router has responded itself, such as with 404."""
    first = FirstPass(scope)
    responded: list[bool] = []

    async def receive() -> Message:
        first.end()  # only an endpoint reads the request

    async def respond(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] not in ROUTERS_OWN:
            first.end()  # a route that selects no endpoint, such as one that serves files
        responded.append(True)
        await send(message)

    try:
        await app(first, receive, respond)
    except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # middleware with a task group raises a group, with errors of its own
        if not first.selected:
            raise
    return None if responded and not first.selected else first


def has_router(scope: Scope) -> bool:
    """Whether the application is one that this module understands: Starlette or FastAPI."""
    return hasattr(scope.get("app"), "routes")


def name_of(scope: Scope) -> str:
    """The path template of the selected route, or else the endpoint's name; for the access log and metrics."""
    route, endpoint = scope.get("route"), scope.get("endpoint")
    if endpoint is None:
        return "none"
    path = getattr(route, "path", None)
    if path is not None and getattr(route, "endpoint", None) is endpoint:
        return str(path)
    return str(getattr(endpoint, "__qualname__", type(endpoint).__name__))


def undeclared_routes(app: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The methods and the path of each route of a Starlette or FastAPI application without a declaration."""
    contexts = getattr(sys.modules.get("fastapi.routing"), "iter_route_contexts", iter)
    for route in contexts(app.routes):
        path = prefix + str(getattr(route, "path", ""))
        inner = getattr(route, "app", None)
        if hasattr(inner, "routes"):
            yield from undeclared_routes(inner, path)
            continue
        endpoint = getattr(route, "endpoint", None) or inner
        for method in _methods_of(route, endpoint):
            if declared_access(endpoint, method) is None:
                yield method, path


def _methods_of(route: Any, endpoint: Any) -> list[str]:
    methods = getattr(route, "methods", None)
    if methods:
        return sorted(set(methods) - {"HEAD"}) or ["HEAD"]
    if isinstance(endpoint, type):  # a class-based endpoint
        names = ("get", "post", "put", "patch", "delete", "options")
        return [name.upper() for name in names if hasattr(endpoint, name)]
    return ["*"]
