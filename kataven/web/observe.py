"""Opens and closes a request: its id, its client's address, its metrics and its access log line."""

from __future__ import annotations

import re
import time
from typing import Any

from flask import Request, Response, current_app

from kataven import logs, tracing
from kataven.random_ids import new_id
from kataven.ratelimit.address import client_address
from kataven.web.request_context import RequestContext, set_client_address
from kataven.web.services import Services

log = logs.AccessLog("kataven.access")

MEASURE_HEADER = "X-Kataven-Measure"
"""With KATAVEN_METRICS_TOKEN as its value, the response names the worker. `flask revocation measure` uses it to send a
request to every worker.

In development, any value is accepted from loopback addresses.
"""
WORKER_HEADER = "X-Kataven-Worker"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")


def open_context(services: Services, environ: dict[str, Any]) -> RequestContext:
    """The context of a new request. Keeps the client's `X-Request-ID` if it is well-formed; otherwise generates one."""
    given = environ.get("HTTP_X_REQUEST_ID")
    request_id = given if given and _REQUEST_ID.fullmatch(given) else new_id()
    trace = tracing.open_trace(environ.get("HTTP_TRACEPARENT"))
    tracing.current.set(trace)
    logs.set_ids(request_id=request_id, trace_id=trace.trace_id)
    address = client_address(
        environ.get("REMOTE_ADDR") or "", environ.get("HTTP_X_FORWARDED_FOR"), services.trusted_proxies
    )
    set_client_address(address)
    return RequestContext(services, request_id, address)


def span_attributes(context: RequestContext | None) -> dict[str, str]:
    """What a span has in addition to its route and status: the ids of the log line, and never a credential."""
    if context is None:
        return {}
    principal = context.admitted.principal if context.admitted else context.known
    found = {
        "kataven.request_id": context.request_id,
        "kataven.account": principal.account if principal else None,
        "kataven.problem.code": context.problem,
    }
    return {name: value for name, value in found.items() if value is not None}


def close_context(_error: BaseException | None) -> None:
    """Detach this thread's log lines, traces and client address from the request."""
    logs.set_ids()
    tracing.current.set(None)
    set_client_address(None)


def finish(context: RequestContext, request: Request, response: Response) -> Response:
    """Set the response headers, record metrics and write the access log line."""
    response.headers["X-Request-ID"] = context.request_id
    measured = request.environ.get("HTTP_X_KATAVEN_MEASURE")
    if measured is not None and context.services.internal_access.allows(request, measured):
        response.headers[WORKER_HEADER] = context.services.revocation.status().worker
    response.headers.setdefault("Cache-Control", "no-store")  # cacheable responses set their own
    surface = current_app.name.removeprefix("kataven-")
    route = request.url_rule.rule if request.url_rule else None
    record(context, surface, request.method, route, response.status_code)
    return response


def record(context: RequestContext, surface: str, method: str, route: str | None, status: int) -> None:
    """Record the metrics of a finished request, and write its access log line, without the query string: it can contain
    secrets."""
    seconds = time.perf_counter() - context.started
    principal = context.admitted.principal if context.admitted else context.known
    context.services.metrics.record_request(surface, method, route, status, seconds)
    history = context.services.response_history
    if history is not None:
        history.record(status, principal.account if principal else None)
    log.info(
        "request",
        method=method,
        route=route,
        status=status,
        code=context.problem,
        account=principal.account if principal else context.named,
        principal=principal.label if principal else None,
        address=context.address,
        ms=round(seconds * 1000, 2),
    )
