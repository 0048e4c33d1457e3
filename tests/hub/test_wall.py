"""The wall of the console: revocation latency, workers, servers, errors, and accounts at their limit on one screen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text

from kataven.hub import line_chart
from kataven.hub.line_chart import HEIGHT, WIDTH
from kataven.revocation.receipt import Channel, Receipt
from kataven.system import revocation_history
from tests.hub.hub_browser import HubBrowser
from tests.support.app_harness import AppHarness, new_account
from tests.support.waiting import wait_until

SECONDS = 60
WALL, LIVE = "/console/wall", "/console/wall?part=live"
NOW = datetime(2026, 7, 25, 12, 0, tzinfo=UTC)


def test_wall_shows_percentiles_errors_and_accounts_at_their_limit(harness: AppHarness, olivia: HubBrowser) -> None:
    account = f"wall-{uuid4().hex[:8]}"
    new_account(harness.services, account)
    with harness.services.directory.database.writing() as session:
        session.execute(text("DELETE FROM response_minutes"))  # other tests' accounts can have more refusals
    harness.set_limits(account, per_minute=1, per_hour=10, per_day=10)
    caller = harness.bearer(harness.new_key(account))
    while caller.get("/v1/me").status_code == 200:
        pass
    assert harness.services.response_history is not None
    harness.services.response_history.flush()
    # The background thread can have taken the counts before, and be about to write them.
    wait_until(lambda: f"<b>{account}</b>" in olivia.get(WALL).text, SECONDS)
    page = olivia.get(WALL).text
    row = page[page.index(f"<b>{account}</b>") :].partition("</li>")[0]
    assert "1, last at" in row
    assert f"/console/accounts/{account}#why-429" in page
    assert "Database servers" in page
    assert "<b>Redis</b>" in page


def test_wall_shows_revocations_against_the_target(harness: AppHarness, olivia: HubBrowser) -> None:
    database = harness.services.directory.database
    with database.writing() as session:
        session.execute(text("DELETE FROM revocation_minutes"))
    assert "No revocation in the last 60 minutes" in olivia.get(WALL).text
    at = datetime.now(UTC).timestamp()
    with database.writing() as session:
        revocation_history.add(session, revocation_history.CANARY, [(at, receipt(4.0))])
    page = olivia.get(WALL).text
    assert "canary, 60 min, target 10 ms" in page
    assert "over-target" not in page
    with database.writing() as session:
        revocation_history.add(session, revocation_history.REVOCATION, [(at, receipt(4.0)), (at, receipt(25.0))])
    page = olivia.get(WALL).text
    assert "all revocations, 60 min" in page
    assert page.count('class="over-target"') == 2  # p99 and the maximum
    assert '<td class="num">25.0</td><td class="num">2</td>' in page, "the table of the chart"


def receipt(ms: float) -> Receipt:
    return Receipt(workers=1, acknowledged=1, ms=ms, publish_to_last_ack_ms=ms, channel=Channel.REDIS)


def test_wall_refreshes_a_part_and_states_its_age(olivia: HubBrowser) -> None:
    page = olivia.get(WALL).text
    assert f'hx-get="{LIVE}" hx-trigger="every 5s"' in page
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in page
    assert 'id="wall-age">Updated at ' in page
    part = olivia.get(LIVE, headers={"HX-Request": "true"}).text
    assert part.startswith('<div id="wall"')
    assert "<h1" not in part


def test_wall_requires_an_operator(alice: HubBrowser, anonymous: HubBrowser) -> None:
    assert alice.get(WALL).status_code == 403
    assert anonymous.get(WALL).location.startswith("/sign-in")


def test_lines_have_gaps_and_stay_within_the_drawing() -> None:
    values = [(NOW, 0.1), (NOW + timedelta(minutes=1), 10.0), (NOW + timedelta(minutes=5), 10**6)]
    chart = line_chart.draw([("p99", values)], NOW, 60, 10.0)
    (line,) = chart.lines
    assert line.shape == f"M2.4 {HEIGHT:g}h7.2L14.4 {chart.target_y:g}h7.2M62.4 0h7.2"
    assert [tick for tick, _ in chart.ticks] == [1, 10, 100, 1_000, 10_000]
    assert chart.times == ["12:00", "12:15", "12:30", "12:45"]
    assert chart.view_box == f"0 0 {WIDTH:g} {HEIGHT:g}"


@pytest.mark.parametrize(("most", "top"), [(0.0, 100), (9.0, 100), (99.0, 100), (100.0, 1_000)])
def test_scale_always_shows_the_target(most: float, top: int) -> None:
    chart = line_chart.draw([("max", [(NOW, most)])], NOW, 60, 10.0)
    assert chart.ticks[-1] == (top, 0.0)
    assert 0 < chart.target_y < HEIGHT
