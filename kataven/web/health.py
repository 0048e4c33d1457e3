"""`/healthz` (this process answers) and `/readyz` (and so does all it needs): for load balancers and people on call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from flask import Response, request

from kataven.identity.errors import VerifierUnavailable
from kataven.system import accounts, schema
from kataven.web.access import PUBLIC
from kataven.web.operation import Answer, ApiBlueprint
from kataven.web.request_context import RequestContext
from kataven.web.schema import View, write_json
from kataven.web.services import Services

blueprint = ApiBlueprint("health", __name__, "check", "Whether this process, and what it depends on, is well.")

FAILING = "failing"
NEEDED = ("system_database",)
"""The checks that can be `failing`; the others are survived."""


class HealthView(View):
    """This process answers."""

    status: Literal["ok"]


class ReadinessView(View):
    """Each dependency, for operators; `degraded` ones are survived without, `failing` ones are not."""

    status: Literal["ready", "not_ready"]
    checks: dict[str, str] | None = None


@blueprint.operation(
    "GET", "/healthz", access=PUBLIC, summary="Is the process up", answer=Answer(200, "It is.", HealthView)
)
def read_health(context: RequestContext) -> Response:
    """Asks nothing and nobody else: a database that is down is no reason to restart this process."""
    return write_json({"status": "ok"})


@blueprint.operation(
    "GET",
    "/readyz",
    access=PUBLIC,
    summary="Is everything up",
    answer=Answer(200, "Ready for traffic.", ReadinessView),
    others=(Answer(503, "Something that it needs is failing.", ReadinessView),),
)
def read_readiness(context: RequestContext) -> Response:
    """503 without the system database, or with its schema out of date. Without Redis the API still serves.

    `checks` says which dependency is in which state, to operators alone: they send `KATAVEN_METRICS_TOKEN` as a
    bearer token.
    """
    if context.services.internal_access.show_bearer(request):
        checks = checks_of(context.services)
        ready = not any(state.startswith(FAILING) for state in checks.values())
        return write_json({"status": _word(ready), "checks": checks}, 200 if ready else 503)
    ready = not any(CHECKS[name](context.services).startswith(FAILING) for name in NEEDED)
    return write_json({"status": _word(ready)}, 200 if ready else 503)


def _word(ready: bool) -> str:
    return "ready" if ready else "not_ready"


def checks_of(services: Services) -> dict[str, str]:
    """The state of each dependency. One that can't answer is asked once, so that the whole stays short."""
    checks: dict[str, str] = {}
    for name, check in CHECKS.items():
        asks_system = name == "migrations" and checks["system_database"] != "ok"
        checks[name] = "unknown: the system database can't be asked" if asks_system else check(services)
    return checks


def _system_database(services: Services) -> str:
    try:
        with services.directory.database.reading() as session:
            have = schema.system_revision(session)
    except VerifierUnavailable:
        return "failing: not reachable"
    needed = schema.SYSTEM_SCHEMA
    if not needed.serves(have):
        return (
            f"failing: schema is at {have}, this code serves {needed.served}; run `flask migrations upgrade --system`"
        )
    return "ok"


def _redis(services: Services) -> str:
    status = services.revocation.status()
    return "ok" if status.redis_reachable else f"degraded: {status.problem or 'not reachable'}"


def _limits(services: Services) -> str:
    if not services.limiter.degraded:
        return "ok"
    alone = services.fallback_stats
    return f"degraded: kept by this worker alone, {alone.requests_decided_locally} requests so far"


def _lease(services: Services) -> str:
    status = services.revocation.status()
    return "ok" if status.lease_confirmed else "degraded: not confirmed; every credential is verified in the database"


def _migrations(services: Services) -> str:
    try:
        with services.directory.database.reading() as session:
            behind = accounts.outside(session, schema.ACCOUNT_SCHEMA.window)
    except VerifierUnavailable:
        return "unknown: the system database is not reachable"
    if behind:
        return f"degraded: {behind} accounts are at a schema that this code can't serve; see `flask migrations status`"
    return "ok"


def _auth_service(services: Services) -> str:
    if services.auth_service is None:
        return "off: credentials are verified in the process"
    if services.auth_service.is_serving():
        return "ok"
    return "degraded: not reachable; only credentials that are remembered are served"


def _widget(services: Services) -> str:
    return "ok" if services.widget.ring is not None else "off: KATAVEN_WIDGET_SIGNING_KEYS is not set"


CHECKS: dict[str, Callable[[Services], str]] = {
    "system_database": _system_database,
    "migrations": _migrations,
    "auth_service": _auth_service,
    "redis": _redis,
    "limits": _limits,
    "lease": _lease,
    "widget": _widget,
}
