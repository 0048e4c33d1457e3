"""`/metrics`: for Prometheus, and for nobody else."""

from __future__ import annotations

from flask import Response, request

from kataven.web.access import PUBLIC, Forbidden
from kataven.web.metrics import CONTENT_TYPE
from kataven.web.operation import ApiBlueprint
from kataven.web.request_context import RequestContext

blueprint = ApiBlueprint("metrics", __name__, "metrics", "What Prometheus collects.")


@blueprint.page("/metrics", access=PUBLIC, summary="Metrics of all workers")
def show_metrics(context: RequestContext) -> Response:
    """With `KATAVEN_METRICS_TOKEN` for whoever has it; without, only for this machine itself, in development."""
    if not context.services.internal_access.show_bearer(request):
        raise Forbidden("Metrics are for operators: set KATAVEN_METRICS_TOKEN, and send it as a bearer token.")
    return Response(
        context.services.metrics.exposition(), content_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"}
    )
