"""Health: dependencies, database servers, workers and leases, revocation latency, and schema revisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from redis.exceptions import RedisError
from sqlalchemy import make_url
from werkzeug.wrappers import Response as AnyResponse

from kataven.hub.console.lists import server_states
from kataven.hub.page_blueprint import OPERATORS, HubRequest, PageBlueprint, render, see_other
from kataven.hub.server_watch import FRESH_SECONDS, ServerState
from kataven.hub.session_middleware import hub_services, save_session
from kataven.operations import revocation_measurement
from kataven.operations.operator import Operator
from kataven.operations.revocation_measurement import MeasurementFailed
from kataven.system import accounts, operators, servers
from kataven.system.errors import SystemRefusal
from kataven.system.models import RegisteredServer
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.tenancy.errors import TenancyError
from kataven.web import health

blueprint = PageBlueprint("console-health", __name__)

RECEIPTS = 20
MEASURE_EVERY_SECONDS = 30


@dataclass(frozen=True, slots=True)
class ServerRow:
    """A database server on the page."""

    name: str
    host: str
    draining: bool
    accounts: int
    open_breakers: int
    """Accounts with an open circuit breaker in this process of the Hub."""
    state: ServerState


@blueprint.page("/console/health", OPERATORS)
def show_health(hub_request: HubRequest) -> AnyResponse:
    return _page(hub_request)


@blueprint.form("/console/health/measure", OPERATORS)
def measure(hub_request: HubRequest) -> AnyResponse:
    """Create, use and revoke keys of an internal account, and record the latency."""
    if not hub_services().sessions.start_cooldown("measure", MEASURE_EVERY_SECONDS):
        return _page(hub_request, f"Wait {MEASURE_EVERY_SECONDS} seconds between two measurements, then try again.")
    try:
        operator = Operator(hub_request.operator_label, hub_request.services)
        revocation_measurement.measure_for_console(operator, hub_services().measured_url)
    except (MeasurementFailed, SystemRefusal, TenancyError) as error:
        return _page(hub_request, str(error))
    save_session(hub_request, hub_request.session.with_(notice="Measurement finished."))
    return see_other("/console/health#measured")


def _page(hub_request: HubRequest, problem: str | None = None) -> AnyResponse:
    revocation = hub_request.services.revocation
    with hub_request.services.directory.database.reading() as session:
        revisions = accounts.count_by_revision(session)
        measured = next(iter(operators.listing(session, 1, action=revocation_measurement.MEASURED)), None)
        events = [event for event in operators.listing(session, RECEIPTS) if "receipt" in event.detail]
        registered = servers.listing(session)
        open_breakers = accounts.count_by_server(session, hub_request.services.registry.metrics().open_breakers)
    try:
        workers = revocation.workers()
    except RedisError:
        workers = None
    return render(
        "console/health.html",
        HTTPStatus.OK if problem is None else HTTPStatus.CONFLICT,
        problem=problem,
        measured=measured,
        servers=_servers(hub_request, registered, open_breakers),
        server_seconds=round(FRESH_SECONDS),
        checks=health.checks_of(hub_request.services),
        workers=workers,
        summary=revocation.canary.summary(),
        events=events,
        revisions=revisions,
        served=ACCOUNT_SCHEMA.window,
        head=ACCOUNT_SCHEMA.head,
    )


def _servers(
    hub_request: HubRequest, registered: Sequence[tuple[RegisteredServer, int]], open_breakers: Mapping[str, int]
) -> list[ServerRow]:
    states = server_states(hub_request, [server for server, _ in registered])
    default = hub_request.services.directory.database.url
    return [
        ServerRow(
            server.name,
            servers.host_of(make_url(server.url) if server.url else default) or "",
            server.draining,
            count,
            open_breakers.get(server.name, 0),
            states[server.name],
        )
        for server, count in registered
    ]
