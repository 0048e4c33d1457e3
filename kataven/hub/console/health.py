"""Health: a verdict first, then dependencies, database servers, workers and leases, revocations, and schemas."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from kataven.hub.console import verdict
from kataven.hub.page_blueprint import OPERATORS, HubRequest, PageBlueprint, render, see_other
from kataven.hub.session_middleware import hub_services, save_session
from kataven.operations import revocation_measurement
from kataven.operations.operator import Operator
from kataven.operations.revocation_measurement import MeasurementFailed
from kataven.system import accounts, operators
from kataven.system.errors import SystemRefusal
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.tenancy.errors import TenancyError

blueprint = PageBlueprint("console-health", __name__)

RECEIPTS = 20
MEASURE_EVERY_SECONDS = 30
PARTS = {"live": "console/health_live.html"}
"""Parts that the open page requests every few seconds."""


@blueprint.page("/console/health", OPERATORS)
def show_health(hub_request: HubRequest) -> AnyResponse:
    """`part=live` is the part that changes by itself."""
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
        found = verdict.read(hub_request, session)
        revisions = accounts.count_by_revision(session)
        measured = next(iter(operators.listing(session, 1, action=revocation_measurement.MEASURED)), None)
        events = [event for event in operators.listing(session, RECEIPTS) if "receipt" in event.detail]
    return render(
        PARTS.get(request.args.get("part", ""), "console/health.html"),
        HTTPStatus.OK if problem is None else HTTPStatus.CONFLICT,
        problem=problem,
        measured=measured,
        verdict=found,
        now=datetime.now(UTC),
        summary=revocation.canary.summary(),
        events=events,
        revisions=revisions,
        served=ACCOUNT_SCHEMA.window,
        head=ACCOUNT_SCHEMA.head,
    )
