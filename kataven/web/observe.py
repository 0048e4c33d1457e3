"""The edges of a request: its id, its client's address, and one line in the log when it is answered."""

from __future__ import annotations

import re
import time
import uuid

import structlog
from flask import Request, Response, current_app

from kataven import tracing
from kataven.logs import every_request
from kataven.ratelimit.address import client_address
from kataven.web.call import Call
from kataven.web.services import services

log = every_request("kataven.access")

MEASURE_HEADER = "X-Kataven-Measure"
"""With KATAVEN_METRICS_TOKEN in it, a request is told which worker answered; `flask revocation measure` warms them all.

In development any value does, from this machine.
"""
WORKER_HEADER = "X-Kataven-Worker"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")


def open_call(request: Request) -> Call:
    """A call with the client's own request id, if it is harmless, else a new one."""
    found = services()
    given = request.headers.get("X-Request-ID", "")
    request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    trace = tracing.Trace.following(request.headers.get(tracing.HEADER))
    tracing.current.set(trace)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id, trace_id=trace.trace_id)
    address = client_address(request.remote_addr or "", request.headers.get("X-Forwarded-For"), found.trusted_proxies)
    return Call(found, request_id, address)


def close_call(_error: BaseException | None) -> None:
    """What this thread logs from now on is of no request."""
    structlog.contextvars.clear_contextvars()
    tracing.current.set(None)


def finish(call: Call, request: Request, response: Response) -> Response:
    """Stamp the answer and write its line. The query string stays out: it may hold what does not belong in a log."""
    response.headers["X-Request-ID"] = call.request_id
    measured = request.headers.get(MEASURE_HEADER)
    if measured is not None and call.services.insiders.admit(request, measured):
        response.headers[WORKER_HEADER] = call.services.revocation.status().worker
    response.headers.setdefault("Cache-Control", "no-store")  # what may be kept says so
    seconds = time.perf_counter() - call.started
    route = request.url_rule.rule if request.url_rule else None
    principal = call.admitted.principal if call.admitted else call.known
    surface = current_app.name.removeprefix("kataven-")
    call.services.metrics.request(surface, request.method, route, response.status_code, seconds)
    log.info(
        "request",
        method=request.method,
        route=route,
        status=response.status_code,
        code=call.problem,
        account=principal.account if principal else call.named,
        principal=principal.label if principal else None,
        address=call.address,
        ms=round(seconds * 1000, 2),
    )
    return response
