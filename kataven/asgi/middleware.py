"""The ASGI middleware. Per request:

    the router selects an endpoint → admit and limit, in a thread → `request.state.principal` → the endpoint

The pipeline waits for Redis on every request, for the limits, so all of it runs in a thread. Creating the middleware
opens no connections and starts no threads.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from flask import Flask, Response, g, request
from werkzeug.routing import Rule

from kataven import settings as environment
from kataven.asgi import selection
from kataven.asgi.selection import AsgiApp, Message, Receive, Scope, SecondPass, Send
from kataven.asgi.wsgi_request import environ_of, headers_of, send_response
from kataven.process_services import build_services
from kataven.settings import Settings
from kataven.web import pipeline, problems
from kataven.web.access import Access
from kataven.web.declarations import UndeclaredRoutes, declared_access, undeclared
from kataven.web.membership import Membership
from kataven.web.request_context import RequestContext, current_context
from kataven.web.services import Services

CONTEXT = "kataven"
"""The key in a request's scope of its RequestContext."""
POLICY_VIOLATION = 1008
"""The WebSocket close code (RFC 6455, section 7.4.1)."""

_log = logging.getLogger(__name__)

AccessOf = Callable[[Scope], Access | None]


@dataclass(frozen=True, slots=True)
class _Selected:
    """What a request selects: the endpoint, its access, and its name for logs."""

    endpoint: Any
    access: Access | None
    name: str


@dataclass(frozen=True, slots=True)
class _Decision:
    """The context of a request, and the response if it is rejected."""

    context: RequestContext
    refusal: Response | None
    variables: contextvars.Context
    """The ids of the request, for its log lines."""


class KatavenMiddleware:
    """Verifies the credentials of every HTTP request of an application, and applies the limits of its caller.

    The application needs the settings of the API (`KATAVEN_…`, see docs/configuration.md); `settings` replaces the
    environment. In `strict` mode, an endpoint without `@requires` or `@public` rejects every request, and the
    application does not start. Otherwise, such an endpoint is public. `public_paths` are public without a declaration,
    for endpoints that the framework adds. An application that is neither Starlette nor FastAPI must pass `access`,
    which returns the access of a request (None: rejected in strict mode).

    WebSocket connections are rejected: a connection that outlives its credential could not be revoked. Add it before
    all other middleware, so that it is the innermost: it runs what is inside of it twice, once to learn the endpoint.
    """

    def __init__(
        self,
        app: AsgiApp,
        *,
        settings: Settings | None = None,
        strict: bool = True,
        public_paths: Collection[str] = (),
        access: AccessOf | None = None,
        threads: int = 40,
    ) -> None:
        settings = settings or environment.load(environment.development_environ(os.environ))
        self._app = app
        self._strict = strict
        self._public_paths = frozenset(public_paths)
        self._access = access
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="kataven")
        self.services: Services = build_services(settings, "api")
        self._membership = Membership(self.services)
        # Not the application: it holds the services, and renders problems.
        self._flask = Flask("kataven-asgi", static_folder=None)
        self._flask.extensions[problems.EXPLAINED_AT_EXTENSION] = settings.public_url
        self.services.attach(self._flask)
        problems.install_own(self._flask)
        problems.install_missing_tables(self._flask)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
        elif scope["path"] in self._public_paths:
            await self._app(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Join the fleet before the application starts, and leave it after it has stopped."""
        message = await receive()
        try:
            await self._in_thread(partial(self._start, scope.get("app")))
        except Exception as error:
            _log.exception("kataven: the application can't start")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        received = [message]

        async def replay() -> Message:
            return received.pop() if received else await receive()

        async def leave_first(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                await self._in_thread(self._membership.leave)
                self._threads.shutdown(wait=False)
            await send(message)

        await self._app(scope, replay, leave_first)

    def _start(self, app: Any) -> None:
        if self._access is None:
            if not hasattr(app, "routes"):
                raise RuntimeError("KatavenMiddleware: pass `access`; the application is neither Starlette nor FastAPI")
            self._check(app)
        self._membership.join()

    def _check(self, app: Any) -> None:
        found = selection.undeclared_routes(app) if self._strict else ()
        routes = [f"{method} {path}" for method, path in found if path not in self._public_paths]
        if routes:
            raise UndeclaredRoutes(routes)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        selected = await self._select(scope, send)
        if selected is None:
            return
        environ = environ_of(scope)
        variables = contextvars.copy_context()
        decide = partial(variables.run, self._decide, environ, selected, variables)
        decision: _Decision = await self._in_thread(decide, undo=_release_decided)
        if decision.refusal is not None:
            await send_response(decision.refusal, send)
            return
        admitted = decision.context.admitted
        passed = dict(scope) if self._access is not None else SecondPass(scope, admitted=selected.endpoint)
        passed[CONTEXT] = decision.context
        passed["state"] = scope.get("state", {})
        passed["state"]["principal"] = None if admitted is None else admitted.principal

        def finish(response: Response) -> Response:
            return decision.variables.run(self._finish, decision.context, environ, selected, response)

        response = _ResponseInProgress(finish, decision, send)
        try:
            await self._app(passed, receive, response.send)
        except Exception as error:
            if response.started:
                raise
            await response.replace(self._render(error, environ, decision.context, finish))
        finally:
            _release(decision)

    async def _select(self, scope: Scope, send: Send) -> _Selected | None:
        if self._access is not None:
            return _Selected(None, self._access(scope), "none")
        if not selection.has_router(scope):
            raise RuntimeError("KatavenMiddleware: pass `access`; the application is neither Starlette nor FastAPI")
        found = await selection.select(self._app, scope, send)
        if found is None:
            return None
        endpoint = found.endpoint
        return _Selected(endpoint, declared_access(endpoint, scope["method"]), selection.name_of(found))

    def _decide(self, environ: dict[str, Any], selected: _Selected, variables: contextvars.Context) -> _Decision:
        with self._flask.request_context(environ):
            request.url_rule = Rule(f"/{selected.name.lstrip('/')}")
            pipeline.open_context()
            try:
                self._membership.join()
                if selected.access is not None:
                    pipeline.admit_as(selected.access)
                    pipeline.limit()
                elif self._strict:
                    raise undeclared(f"{request.method} {selected.name}")
            except Exception as error:
                response = self._flask.make_response(self._flask.handle_user_exception(error))
                return _Decision(current_context(), pipeline.finish(response), variables)
            return _Decision(current_context(), None, variables)

    def _render(
        self,
        error: Exception,
        environ: dict[str, Any],
        context: RequestContext,
        finish: Callable[[Response], Response],
    ) -> Response:
        """The problem for an error of these packages. Others are raised again, after they are logged as 500."""
        with self._flask.request_context(environ):
            g.kataven = context
            try:
                return self._flask.make_response(self._flask.handle_user_exception(error))
            except Exception:
                finish(Response(status=500))
                raise

    def _finish(
        self, context: RequestContext, environ: dict[str, Any], selected: _Selected, response: Response
    ) -> Response:
        """Set the headers of the pipeline and write the access log line."""
        with self._flask.request_context(environ):
            request.url_rule = Rule(f"/{selected.name.lstrip('/')}")
            g.kataven = context
            return pipeline.finish(response)

    async def _in_thread(self, function: Callable[[], Any], undo: Callable[[Future[Any]], None] | None = None) -> Any:
        """The result of `function`. If this task is cancelled, `undo` is called when the function has returned."""
        future = self._threads.submit(function)
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            if undo is not None:
                future.add_done_callback(undo)
            raise


class _ResponseInProgress:
    """Adds the headers of the pipeline to the response, and releases the in-flight slot before its last byte."""

    def __init__(self, finish: Callable[[Response], Response], decision: _Decision, send: Send) -> None:
        self._finish = finish
        self._decision = decision
        self._send = send
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            given = list(message.get("headers", ()))
            added = Response(status=message["status"])
            del added.headers["Content-Type"], added.headers["Content-Length"]
            names = {name.lower() for name, _ in given}
            headers = [pair for pair in headers_of(self._finish(added)) if pair[0] not in names]
            message = {**message, "headers": [*given, *headers]}
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            _release(self._decision)
        await self._send(message)

    async def replace(self, response: Response) -> None:
        """Send a problem instead of the application's response."""
        await send_response(self._finish(response), self._send)


def _release(decision: _Decision) -> None:
    admitted = decision.context.admitted
    if admitted is not None and admitted.admission is not None:
        admitted.admission.release()


def _release_decided(future: Future[Any]) -> None:
    """Release the slot of a request whose client disconnected while it was admitted."""
    if future.exception() is None:
        _release(future.result())


def context_of(request: Any) -> RequestContext:
    """The context of a request: `principal`, `account`, `actor`, `reading()` and `writing()`.

    `request` is a Starlette or FastAPI request, or an ASGI scope. The sessions are synchronous: use them in a `def`
    endpoint, which the framework runs in a thread, or in `run_in_threadpool`.
    """
    scope = request if isinstance(request, dict) else request.scope
    found: RequestContext = scope[CONTEXT]
    return found
