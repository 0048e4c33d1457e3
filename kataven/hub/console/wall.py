"""The wall: the state of the installation on one screen, for a display without a keyboard."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from flask import request
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from kataven.hub import line_chart
from kataven.hub.console import verdict
from kataven.hub.page_blueprint import OPERATORS, HubRequest, PageBlueprint, render
from kataven.system import response_history, revocation_history
from kataven.system.revocation_history import CANARY, EVICTION, REVOCATION, MinutePercentiles

blueprint = PageBlueprint("console-wall", __name__)

MINUTES = 60
TARGET_MS = 10.0
MAX_ACCOUNTS = 6
RECENT = timedelta(minutes=5)
"""Refused and failed requests of this time are shown as current."""
PARTS = {"live": "console/wall_live.html"}


@blueprint.page("/console/wall", OPERATORS)
def show_wall(hub_request: HubRequest) -> AnyResponse:
    """`part=live` is everything that changes."""
    now = datetime.now(UTC)
    start = now.replace(second=0, microsecond=0) - timedelta(minutes=MINUTES - 1)
    with hub_request.services.directory.database.reading() as session:
        found = verdict.read(hub_request, session)
        source, latency = _latency(session, start, now)
        responses = response_history.by_minute(session, start)
        limited = response_history.most_limited(session, start, MAX_ACCOUNTS)
    recent = [one for one in responses if one.minute > now - RECENT]
    chart = line_chart.draw(
        [(name, [(one.at, getattr(one, name)) for one in latency]) for name in ("max", "p99", "p50")],
        start,
        MINUTES,
        TARGET_MS,
    )
    return render(
        PARTS.get(request.args.get("part", ""), "console/wall.html"),
        now=now,
        verdict=found,
        source=source,
        latency=latency,
        chart=chart,
        target_ms=TARGET_MS,
        failed=(sum(one.failed for one in recent), sum(one.failed for one in responses)),
        refused=(sum(one.limited for one in recent), sum(one.limited for one in responses)),
        limited=limited,
    )


def _latency(session: Session, start: datetime, now: datetime) -> tuple[str, Sequence[MinutePercentiles]]:
    """The revocations of the last hour or, if nothing was revoked, the canary's."""
    for source in (REVOCATION, CANARY):
        found = revocation_history.percentiles(session, source, EVICTION, start, now)
        if found:
            return source, found
    return REVOCATION, []
