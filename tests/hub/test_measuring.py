"""Measuring revocation latency from the console, against a running API."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from redis import Redis

from kataven.hub.session_middleware import EXTENSION
from kataven.operations import revocation_measurement
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
    """A Hub with that API, without a measurement cooldown."""
    monkeypatch.setitem(hub.pages.extensions, EXTENSION, replace(hub.services, measured_url=api.url))
    with Redis.from_url(harness.environ["KATAVEN_REDIS_URL"]) as redis:
        redis.delete("hub:turn:measure")
    return hub


def test_measurement_is_shown_and_in_the_operator_audit_log(
    measured: Hub, harness: AppHarness, olivia: HubBrowser
) -> None:
    olivia.get(PAGE)
    assert olivia.post(f"{PAGE}/measure").status_code == 303
    with harness.services.directory.database.reading() as session:
        (event,) = operators.listing(session, 1, action=revocation_measurement.MEASURED)
    assert event.actor == "jwt:olivia"
    assert event.detail["accepted"] == 0
    eviction, call = event.detail["rows"]
    for row in (eviction, call):
        assert 1 <= row["n"] <= revocation_measurement.CONSOLE_ROUNDS
        assert row["workers"] == 2
        assert 0 < row["p50"] <= row["p99"] <= row["max"]
    page = olivia.get(PAGE).text
    assert "Publish to last eviction" in page
    assert f"<td>{eviction['p50']:.1f}</td>" in page
    assert "No key was accepted after its receipt." in page


def test_second_measurement_is_rejected_during_the_cooldown(
    measured: Hub, olivia: HubBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocation_measurement, "CONSOLE_ROUNDS", 1)
    olivia.get(PAGE)
    assert olivia.post(f"{PAGE}/measure").status_code == 303
    again = olivia.post(f"{PAGE}/measure")
    assert again.status_code == 409
    assert "between two measurements" in again.text


def test_measurement_stops_at_its_time_limit(
    measured: Hub, olivia: HubBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocation_measurement, "CONSOLE_SECONDS", -1.0)
    olivia.get(PAGE)
    page = olivia.post(f"{PAGE}/measure")
    assert page.status_code == 409
    assert "Not every worker could be reached" in page.text


def test_measurement_reports_an_unreachable_api(
    measured: Hub, olivia: HubBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = replace(measured.services, measured_url=f"http://127.0.0.1:{free_port()}")
    monkeypatch.setitem(measured.pages.extensions, EXTENSION, nowhere)
    olivia.get(PAGE)
    page = olivia.post(f"{PAGE}/measure")
    assert page.status_code == 409
    assert "No API responds at" in page.text


def test_measurement_requires_the_operator_role(measured: Hub, alice: HubBrowser, olivia: HubBrowser) -> None:
    alice.get("/")
    assert alice.post(f"{PAGE}/measure").status_code == 403
    olivia.get(PAGE)
    olivia.csrf = "made up"
    assert olivia.post(f"{PAGE}/measure").status_code == 403
