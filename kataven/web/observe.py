"""The edges of a request: its id, its client's address, and one line in the log when it is answered."""

from __future__ import annotations

import logging
import re
import time
import uuid

from flask import Request, Response

from kataven.ratelimit.address import client_address
from kataven.web.call import Call
from kataven.web.services import services

log = logging.getLogger("kataven.access")

MEASURE_HEADER = "X-Kataven-Measure"
"""A request that carries it is told which worker answered; `flask revocation measure` warms every one of them."""
WORKER_HEADER = "X-Kataven-Worker"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")


def open_call(request: Request) -> Call:
    """A call with the client's own request id, if it is harmless, else a new one."""
    found = services()
    given = request.headers.get("X-Request-ID", "")
    request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    address = client_address(request.remote_addr or "", request.headers.get("X-Forwarded-For"), found.trusted_proxies)
    return Call(found, request_id, address)


def finish(call: Call, request: Request, response: Response) -> Response:
    """Stamp the answer and write its line. The query string stays out: it may hold what does not belong in a log."""
    response.headers["X-Request-ID"] = call.request_id
    if MEASURE_HEADER in request.headers:
        response.headers[WORKER_HEADER] = call.services.revocation.status().worker
    if call.admitted is not None:
        response.headers.setdefault("Cache-Control", "no-store")
    log.info(
        "request",
        extra={
            "request_id": call.request_id,
            "method": request.method,
            "route": request.url_rule.rule if request.url_rule else None,
            "status": response.status_code,
            "account": call.admitted.principal.account if call.admitted else call.named,
            "principal": call.admitted.principal.label if call.admitted else None,
            "address": call.address,
            "ms": round((time.perf_counter() - call.started) * 1000, 2),
        },
    )
    return response
