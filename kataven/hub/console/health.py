"""How the product stands: what it depends on, its workers and their leases, how fast revocations are, the schemas."""

from __future__ import annotations

from http import HTTPStatus

from redis.exceptions import RedisError
from werkzeug.wrappers import Response as AnyResponse

from kataven.hub.gate import front, keep
from kataven.hub.page import OPERATORS, Desk, Visit, go, show
from kataven.system import accounts, operators
from kataven.system.errors import SystemRefusal
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.tenancy.errors import TenancyError
from kataven.web import health, operating
from kataven.web.measuring import MeasurementFailed

desk = Desk("console-health", __name__)

RECEIPTS = 20
MEASURE_EVERY_SECONDS = 30


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
    try:
        workers = revocation.workers()
    except RedisError:
        workers = None
    return show(
        "console/health.html",
        HTTPStatus.OK if problem is None else HTTPStatus.CONFLICT,
        problem=problem,
        measured=measured,
        checks=health.checks_of(visit.services),
        workers=workers,
        summary=revocation.canary.summary(),
        events=events,
        revisions=revisions,
        served=ACCOUNT_SCHEMA.window,
        head=ACCOUNT_SCHEMA.head,
    )
