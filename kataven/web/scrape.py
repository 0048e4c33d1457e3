"""Serves `/metrics` to Prometheus."""

from __future__ import annotations

from flask import Response, request

from kataven.web.access import PUBLIC, Forbidden
from kataven.web.metrics import CONTENT_TYPE
from kataven.web.operation import ApiBlueprint
from kataven.web.request_context import RequestContext

blueprint = ApiBlueprint("metrics", __name__, "metrics", "Metrics for Prometheus.")


@blueprint.page("/metrics", access=PUBLIC, summary="Metrics of all workers")
def show_metrics(context: RequestContext) -> Response:
    """Requires `KATAVEN_METRICS_TOKEN`. If it is not set, only loopback addresses are accepted, in development."""
    if not context.services.internal_access.allows_bearer(request):
        raise Forbidden(
            "Metrics are available to operators only. Set KATAVEN_METRICS_TOKEN and send it as a bearer token."
        )
    return Response(
        context.services.metrics.exposition(), content_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"}
    )
