"""Serves `/healthz` (the process is running) and `/readyz` (its dependencies are available)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from flask import Response, request

from kataven.identity.errors import VerifierUnavailable
from kataven.system import accounts, schema
from kataven.system.database import pooler_problem
from kataven.web.access import PUBLIC
from kataven.web.operation import ApiBlueprint, Audience, ResponseSpec
from kataven.web.request_context import RequestContext
from kataven.web.schema import View, write_json
from kataven.web.services import Services

blueprint = ApiBlueprint("health", __name__, "check", "Health of the process and its dependencies.", Audience.OPERATORS)

FAILING = "failing"
NEEDED = ("system_database",)
"""The checks that can be `failing`. The API serves requests without the other dependencies."""


class HealthView(View):
    """The process is running."""

    status: Literal["ok"]


class ReadinessView(View):
    """Readiness, and for operators the state of each dependency. The API serves requests if a dependency is `degraded`,
    and not if one is `failing`."""

    status: Literal["ready", "not_ready"]
    checks: dict[str, str] | None = None


@blueprint.operation(
    "GET",
    "/healthz",
    access=PUBLIC,
    summary="Liveness check",
    response=ResponseSpec(200, "The process is running.", HealthView),
)
def read_health(context: RequestContext) -> Response:
    """Checks no dependency: an unavailable database is not a reason to restart this process."""
    return write_json({"status": "ok"})


@blueprint.operation(
    "GET",
    "/readyz",
    access=PUBLIC,
    summary="Readiness check",
    response=ResponseSpec(200, "Ready for traffic.", ReadinessView),
    others=(ResponseSpec(503, "A required dependency is failing.", ReadinessView),),
)
def read_readiness(context: RequestContext) -> Response:
    """Returns 503 if the system database is unavailable or its schema is out of date. The API is ready without Redis.

    `checks` has the state of each dependency. It is returned to operators only, who send `KATAVEN_METRICS_TOKEN` as a
    bearer token.
    """
    if context.services.internal_access.allows_bearer(request):
        checks = checks_of(context.services)
        ready = not any(state.startswith(FAILING) for state in checks.values())
        return write_json({"status": _status(ready), "checks": checks}, 200 if ready else 503)
    ready = not any(CHECKS[name](context.services).startswith(FAILING) for name in NEEDED)
    return write_json({"status": _status(ready)}, 200 if ready else 503)


def _status(ready: bool) -> str:
    return "ready" if ready else "not_ready"


def checks_of(services: Services) -> dict[str, str]:
    """The state of each dependency. If the system database is unavailable, it is queried once only, so that the
    response is not delayed twice."""
    checks: dict[str, str] = {}
    for name, check in CHECKS.items():
        skipped = name == "migrations" and checks["system_database"] != "ok"
        checks[name] = "unknown: system database unavailable" if skipped else check(services)
    return checks


def _system_database(services: Services) -> str:
    try:
        with services.directory.database.reading() as session:
            have = schema.system_revision(session)
    except VerifierUnavailable as error:
        return f"{FAILING}: {pooler_problem(error) or 'unreachable'}"
    needed = schema.SYSTEM_SCHEMA
    if not needed.serves(have):
        return (
            f"failing: schema is at {have}, this release serves {needed.served}; "
            "run `flask migrations upgrade --system`"
        )
    return "ok"


def _pooler(services: Services) -> str:
    if services.directory.database.pooled:
        return "on: the system database is reached through a connection pooler"
    return "off: KATAVEN_DIRECT_DATABASE_URL is not set"


def _redis(services: Services) -> str:
    status = services.revocation.status()
    return "ok" if status.redis_reachable else f"degraded: {status.problem or 'unreachable'}"


def _limits(services: Services) -> str:
    if not services.limiter.degraded:
        return "ok"
    count = services.fallback_stats.requests_decided_locally
    return f"degraded: this worker enforces limits locally, {count} requests so far"


def _lease(services: Services) -> str:
    status = services.revocation.status()
    return (
        "ok" if status.lease_confirmed else "degraded: not confirmed; every credential is verified against the database"
    )


def _migrations(services: Services) -> str:
    try:
        with services.directory.database.reading() as session:
            behind = accounts.outside(session, schema.ACCOUNT_SCHEMA.window)
    except VerifierUnavailable:
        return "unknown: system database unavailable"
    if behind:
        return f"degraded: {behind} accounts have a schema that this release can't serve; run `flask migrations status`"
    return "ok"


def _auth_service(services: Services) -> str:
    if services.auth_service is None:
        return "off: credentials are verified in-process"
    if services.auth_service.is_serving():
        return "ok"
    return "degraded: unreachable; only cached credentials are accepted"


def _issuer(services: Services) -> str:
    """From the fetches that tokens have caused. A probe causes none, and API keys are accepted without the issuer."""
    if services.issuer_keys is None:
        return "off: the auth-service verifies JWTs"
    status = services.issuer_keys.status()
    if status.failure is None:
        if status.succeeded_ago is None:
            return "unknown: no JWT has required the issuer's keys yet"
        return f"ok: keys fetched {status.succeeded_ago:.0f} s ago"
    failed = f"degraded: the last fetch of the keys, {status.attempted_ago or 0:.0f} s ago, failed: {status.failure}"
    if status.usable:
        return f"{failed}; JWTs are verified with keys that were fetched {status.succeeded_ago:.0f} s ago"
    return f"{failed}; JWTs are rejected with 503, API keys are accepted"


def _widget(services: Services) -> str:
    return "ok" if services.widget.ring is not None else "off: KATAVEN_WIDGET_SIGNING_KEYS is not set"


CHECKS: dict[str, Callable[[Services], str]] = {
    "system_database": _system_database,
    "pooler": _pooler,
    "migrations": _migrations,
    "auth_service": _auth_service,
    "redis": _redis,
    "limits": _limits,
    "lease": _lease,
    "issuer": _issuer,
    "widget": _widget,
}
