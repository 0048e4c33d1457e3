"""How the product stands: what it depends on, database servers, workers and leases, speed of revocations, schemas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from redis.exceptions import RedisError
from sqlalchemy import make_url
from werkzeug.wrappers import Response as AnyResponse

from kataven.hub.console.lists import server_states
from kataven.hub.gate import front, keep
from kataven.hub.page import OPERATORS, Desk, Visit, go, show
from kataven.hub.server_watch import FRESH_SECONDS, ServerState
from kataven.system import accounts, operators, servers
from kataven.system.errors import SystemRefusal
from kataven.system.models import DatabaseServer
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.tenancy.errors import TenancyError
from kataven.web import health, operating
from kataven.web.measuring import MeasurementFailed

desk = Desk("console-health", __name__)

RECEIPTS = 20
MEASURE_EVERY_SECONDS = 30


@dataclass(frozen=True, slots=True)
class ServerRow:
    """A database server as the page shows it."""

    name: str
    host: str
    draining: bool
    accounts: int
    given_up: int
    """Accounts whose database this process of the Hub has given up on for the moment."""
    state: ServerState


@desk.shows("/console/health", OPERATORS)
def show_health(visit: Visit) -> AnyResponse:
    return _page(visit)


@desk.takes("/console/health/measure", OPERATORS)
def measure(visit: Visit) -> AnyResponse:
    """Mint, use and revoke a few keys of the product's own account, and say how long it took."""
    if not front().sessions.take_turn("measure", MEASURE_EVERY_SECONDS):
        return _page(visit, f"It was measured a moment ago. Once in {MEASURE_EVERY_SECONDS} seconds is enough.")
    try:
        operating.measure_revocation(visit.services, front().measured_url, visit.operator_label)
    except (MeasurementFailed, SystemRefusal, TenancyError) as error:
        return _page(visit, str(error))
    keep(visit, visit.session.with_(notice="Measured."))
    return go("/console/health#measured")


def _page(visit: Visit, problem: str | None = None) -> AnyResponse:
    revocation = visit.services.revocation
    with visit.services.directory.database.reading() as session:
        revisions = accounts.count_by_revision(session)
        measured = next(iter(operators.listing(session, 1, action=operating.MEASURED)), None)
        events = [event for event in operators.listing(session, RECEIPTS) if "receipt" in event.detail]
        places = servers.listing(session)
        given_up = accounts.count_by_server(session, visit.services.registry.metrics().open_breakers)
    try:
        workers = revocation.workers()
    except RedisError:
        workers = None
    return show(
        "console/health.html",
        HTTPStatus.OK if problem is None else HTTPStatus.CONFLICT,
        problem=problem,
        measured=measured,
        servers=_servers(visit, places, given_up),
        server_seconds=round(FRESH_SECONDS),
        checks=health.checks_of(visit.services),
        workers=workers,
        summary=revocation.canary.summary(),
        events=events,
        revisions=revisions,
        served=ACCOUNT_SCHEMA.window,
        head=ACCOUNT_SCHEMA.head,
    )


def _servers(
    visit: Visit, places: Sequence[tuple[DatabaseServer, int]], given_up: Mapping[str, int]
) -> list[ServerRow]:
    states = server_states(visit, [server for server, _ in places])
    default = visit.services.directory.database.url
    return [
        ServerRow(
            server.name,
            servers.host_of(make_url(server.url) if server.url else default) or "",
            server.draining,
            count,
            given_up.get(server.name, 0),
            states[server.name],
        )
        for server, count in places
    ]
