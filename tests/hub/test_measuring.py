"""How fast revocations are, measured from the console against an API as it runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from redis import Redis

from kataven.hub.session_middleware import EXTENSION
from kataven.operations import operator_actions
from kataven.system import operators
from tests.hub.conftest import Hub
from tests.hub.hub_browser import HubBrowser
from tests.support.app_harness import AppHarness
from tests.support.gunicorn import Gunicorn, free_port

PAGE = "/console/health"


@pytest.fixture(scope="module")
def api(harness: AppHarness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    with Gunicorn(harness.environ, tmp_path_factory.mktemp("api") / "api.log", workers=2) as api:
        yield api


@pytest.fixture
def measured(hub: Hub, harness: AppHarness, api: Gunicorn, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The Hub beside that API, where nobody has measured for a while."""
    monkeypatch.setitem(hub.pages.extensions, EXTENSION, replace(hub.services, measured_url=api.url))
    with Redis.from_url(harness.environ["KATAVEN_REDIS_URL"]) as redis:
        redis.delete("hub:turn:measure")
    return hub


def test_it_is_measured_shown_and_in_the_trail(measured: Hub, harness: AppHarness, olivia: HubBrowser) -> None:
    olivia.get(PAGE)
    assert olivia.post(f"{PAGE}/measure").status_code == 303
    with harness.services.directory.database.reading() as session:
        (event,) = operators.listing(session, 1, action=operator_actions.MEASURED)
    assert event.actor == "jwt:olivia"
    assert event.detail["accepted"] == 0
    eviction, call = event.detail["rows"]
    for row in (eviction, call):
        assert 1 <= row["n"] <= operator_actions.MEASURE_ROUNDS
        assert row["workers"] == 2
        assert 0 < row["p50"] <= row["p99"] <= row["max"]
    page = olivia.get(PAGE).text
    assert "publish to last eviction" in page
    assert f"<td>{eviction['p50']:.1f}</td>" in page
    assert "No key was accepted after its receipt." in page


def test_a_second_one_waits_its_turn(measured: Hub, olivia: HubBrowser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_actions, "MEASURE_ROUNDS", 1)
    olivia.get(PAGE)
    assert olivia.post(f"{PAGE}/measure").status_code == 303
    again = olivia.post(f"{PAGE}/measure")
    assert again.status_code == 409
    assert "between two measurements" in again.text


def test_it_ends_when_its_time_is_over(measured: Hub, olivia: HubBrowser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_actions, "MEASURE_SECONDS", -1.0)
    olivia.get(PAGE)
    page = olivia.post(f"{PAGE}/measure")
    assert page.status_code == 409
    assert "Not every worker could be reached" in page.text


def test_without_an_api_it_says_so(measured: Hub, olivia: HubBrowser, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = replace(measured.services, measured_url=f"http://127.0.0.1:{free_port()}")
    monkeypatch.setitem(measured.pages.extensions, EXTENSION, nowhere)
    olivia.get(PAGE)
    page = olivia.post(f"{PAGE}/measure")
    assert page.status_code == 409
    assert "No API answers at" in page.text


def test_nobody_else_measures(measured: Hub, alice: HubBrowser, olivia: HubBrowser) -> None:
    alice.get("/")
    assert alice.post(f"{PAGE}/measure").status_code == 403
    olivia.get(PAGE)
    olivia.csrf = "made up"
    assert olivia.post(f"{PAGE}/measure").status_code == 403
