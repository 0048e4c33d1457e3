"""`/metrics`: for Prometheus, and for nobody else."""

from __future__ import annotations

import hmac

from flask import Response, request

from kataven.web.access import PUBLIC, Forbidden
from kataven.web.call import Call
from kataven.web.metrics import CONTENT_TYPE
from kataven.web.operation import Room

room = Room("metrics", __name__, "metrics", "What Prometheus collects.")

_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")


@room.page("/metrics", access=PUBLIC, summary="Metrics of all workers")
def show_metrics(call: Call) -> Response:
    """With `KATAVEN_METRICS_TOKEN` for whoever has it; without, only for this machine itself."""
    _check(call.services.metrics_token)
    return Response(
        call.services.metrics.exposition(), content_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"}
    )


def _check(token: str | None) -> None:
    if token is not None:
        shown = request.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(shown, f"Bearer {token}".encode()):
            raise Forbidden("Metrics are for who has KATAVEN_METRICS_TOKEN: send it as a bearer token.")
    elif request.remote_addr not in _LOOPBACK or any(name in request.headers for name in _FORWARDED):
        raise Forbidden("Metrics are for this machine alone, without a proxy, until KATAVEN_METRICS_TOKEN is set.")
