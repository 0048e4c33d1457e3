"""`/metrics`: for Prometheus, and for nobody else."""

from __future__ import annotations

from flask import Response, request

from kataven.web.access import PUBLIC, Forbidden
from kataven.web.call import Call
from kataven.web.metrics import CONTENT_TYPE
from kataven.web.operation import Room

room = Room("metrics", __name__, "metrics", "What Prometheus collects.")


@room.page("/metrics", access=PUBLIC, summary="Metrics of all workers")
def show_metrics(call: Call) -> Response:
    """With `KATAVEN_METRICS_TOKEN` for whoever has it; without, only for this machine itself, in development."""
    if not call.services.insiders.show_bearer(request):
        raise Forbidden("Metrics are for operators: set KATAVEN_METRICS_TOKEN, and send it as a bearer token.")
    return Response(
        call.services.metrics.exposition(), content_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"}
    )
