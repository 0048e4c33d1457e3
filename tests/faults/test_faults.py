"""Each row of the fault table in docs/operations.md, on real servers, under load."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.place import DEADLINE_SECONDS, Place, opened_place
from tests.support.waiting import wait_until

pytestmark = pytest.mark.processes

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
COLUMNS = ("known key", "new key", "another account's key", "new JWT", "/readyz")


def rows(*, of_auth_service: bool) -> list[tuple[str, str, list[set[int]]]]:
    """Dependency, fault, and the statuses that each caller may receive during the fault."""
    section = PAGE.read_text("utf-8").partition("## When a dependency is unavailable")[2].partition("\n## ")[0]
    found = []
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) > 6 and re.match(r"\d{3}", cells[2]) and (cells[0] == "auth-service") == of_auth_service:
            statuses = [{int(status) for status in re.findall(r"\b\d{3}\b", cell)} for cell in cells[2:7]]
            found += [(cells[0], fault.strip(), statuses) for fault in cells[1].split(",")]
    return found


def name(value: object) -> str:
    return value if isinstance(value, str) else ""


@pytest.fixture(scope="module", params=[False, True], ids=["alone", "with-auth-service"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with opened_place(tmp_path_factory.mktemp("faults"), with_auth_service=request.param) as place:
        wait_until(lambda: len(place.workers()) == 2, 20)
        yield place


@pytest.mark.parametrize("place", [False], ids=["alone"], indirect=True)
@pytest.mark.parametrize(("dependency", "fault", "expected"), rows(of_auth_service=False), ids=name)
def test_faults_have_the_documented_effect_on_callers(
    place: Place, dependency: str, fault: str, expected: list[set[int]]
) -> None:
    check_row(place, dependency, fault, expected)


@pytest.mark.parametrize("place", [True], ids=["with-auth-service"], indirect=True)
@pytest.mark.parametrize(("dependency", "fault", "expected"), rows(of_auth_service=True), ids=name)
def test_faults_of_the_auth_service_have_the_documented_effect_on_callers(
    place: Place, dependency: str, fault: str, expected: list[set[int]]
) -> None:
    check_row(place, dependency, fault, expected)


@pytest.mark.parametrize("place", [False], ids=["alone"], indirect=True)
def test_workers_started_without_the_issuer_reject_jwts_and_accept_keys(place: Place) -> None:
    before, load = place.workers(), place.load()
    with place.dependencies["OIDC issuer"].broken("dead", lambda: None):
        os.kill(place.api.process.pid, signal.SIGHUP)
        wait_until(lambda: len(place.workers()) == 2 and not place.workers() & before, 30)
        with load.running():
            meanwhile = load.since(load.wait_for_answers())
    statuses = {caller: {response.status for response in responses} for caller, responses in meanwhile.items()}
    assert statuses.pop("new JWT") == {503}
    assert all(found == {200} for found in statuses.values())


def check_row(place: Place, dependency: str, fault: str, expected: list[set[int]]) -> None:
    workers, load = place.workers(), place.load()
    with load.running():
        load.wait_until_well()
        with place.dependencies[dependency].broken(fault, lambda: load.wait_for_answers() and None):
            began = load.wait_for_answers()
            meanwhile = load.since(began)
        load.wait_until_well()
    for caller, allowed in zip(COLUMNS, expected, strict=True):
        assert {response.status for response in meanwhile[caller]} <= allowed, (
            caller,
            place.api.log.read_text()[-3000:],
        )
    for caller, responses in load.responses.items():
        assert {response.status for response in responses} <= {200, 503}, caller
        assert max(response.seconds for response in responses) < DEADLINE_SECONDS
    assert place.workers() == workers, "no worker died"
