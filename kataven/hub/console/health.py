"""How the product stands: what it depends on, its workers and their leases, how fast revocations are, the schemas."""

from __future__ import annotations

from redis.exceptions import RedisError
from werkzeug.wrappers import Response as AnyResponse

from kataven.hub.page import OPERATORS, Desk, Visit, show
from kataven.system import accounts, operators
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.web import health

desk = Desk("console-health", __name__)

RECEIPTS = 20


@desk.shows("/console/health", OPERATORS)
def show_health(visit: Visit) -> AnyResponse:
    revocation = visit.services.revocation
    with visit.services.directory.database.reading() as session:
        revisions = accounts.count_by_revision(session)
        events = [event for event in operators.listing(session, RECEIPTS) if "receipt" in event.detail]
    try:
        workers = revocation.workers()
    except RedisError:
        workers = None
    return show(
        "console/health.html",
        checks=health.checks_of(visit.services),
        workers=workers,
        summary=revocation.canary.summary(),
        events=events,
        revisions=revisions,
        served=ACCOUNT_SCHEMA.window,
        head=ACCOUNT_SCHEMA.head,
    )
