"""An account's page in the console: why requests are refused with 429, and temporary raises of the limits."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from kataven.hub.bounded_reads import KEPT_SECONDS, MAX_READS, BoundedReads
from kataven.hub.console import refusals
from kataven.hub.server_watch import ServerState, ServerWatch
from kataven.hub.session_middleware import EXTENSION
from kataven.operations import limit_raises
from kataven.operations.operator import Operator
from kataven.system import operators
from tests.hub.conftest import Hub
from tests.hub.hub_browser import HubBrowser
from tests.support.app_harness import AppHarness, new_account
from tests.support.clock import Clock
from tests.support.waiting import wait_until

SECONDS = 60
NONE = "\N{EN DASH}"
ACCOUNT = "why-429"
PAGE = f"/console/accounts/{ACCOUNT}"


@pytest.fixture(scope="module")
def key_id(harness: AppHarness) -> str:
    """The key whose requests the account's limit refused."""
    new_account(harness.services, ACCOUNT)
    harness.set_limits(ACCOUNT, per_minute=5, per_hour=8, per_day=10_000)
    caller = harness.bearer(harness.new_key(ACCOUNT))
    found: str = caller.get("/v1/me").get_json()["credential"]["id"]
    while caller.get("/v1/me").status_code == 200:
        pass
    caller.get("/v1/me")
    harness.services.usage.flush()
    return found


def shown(hub: Hub, olivia: HubBrowser, path: str) -> str:
    """A page, once the account's database has responded."""
    page = olivia.get(path).text
    for read in list(hub.services.reads._reads.values()):
        assert read.ended.wait(SECONDS)
    return olivia.get(path).text if "Not available" in page else page


@pytest.fixture
def page(hub: Hub, olivia: HubBrowser, key_id: str) -> str:
    """The page, once the account's database has responded."""
    return shown(hub, olivia, PAGE)


def cells(page: str, label: str) -> list[str]:
    """The row of a limit, as text."""
    row = page[page.index(f'<th scope="row">{label}</th>') :].partition("</tr>")[0]
    return [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)]


def test_page_names_the_limit_the_key_and_a_higher_value(page: str, key_id: str) -> None:
    assert "<b>2 requests</b> refused with 429 in the last 24 hours, by <b>per-minute</b>" in page
    assert f'most of <b><a href="{PAGE}/keys/{key_id}">test</a></b>' in page
    assert cells(page, "Requests per minute")[1:] == ["5", "5", "2", "just now", "10"]
    assert "5 of 5 used" in cells(page, "Requests per minute")[0]
    assert cells(page, "Requests per hour")[1:] == ["8", "8", NONE, NONE, "10"]  # a minute must not allow more
    assert cells(page, "Requests per day")[1:] == ["10,000", "10,000", NONE, NONE, NONE]
    assert re.search(r'name="raised_per_minute" type="text" value="10"', page)


def test_raise_is_shown_with_its_end_and_can_be_ended(harness: AppHarness, olivia: HubBrowser, page: str) -> None:
    form = {"raised_per_minute": "10", "raised_per_hour": "10", "raised_per_day": "", "hours": "24"}
    raised = olivia.post(f"{PAGE}/raise", form)
    assert raised.status_code == 303
    shown = olivia.get(PAGE).text
    assert "Limits raised until" in shown
    assert "All workers apply this within one second" in shown
    assert cells(shown, "Requests per minute")[1:3] == ["10 raised", "5"]
    assert 'name="per_minute" type="text" value="5"' in shown  # the permanent limit
    with harness.services.directory.database.reading() as session:
        assert operators.listing(session, 1, account=ACCOUNT)[0].action == "account.limits_raised"
    assert olivia.post(f"{PAGE}/end-raise").status_code == 303
    assert "Raise ended" in olivia.get(PAGE).text
    assert cells(olivia.get(PAGE).text, "Requests per minute")[1:3] == ["5", "5"]
    assert olivia.post(f"{PAGE}/end-raise").status_code == 303
    assert "were not raised any more" in olivia.get(PAGE).text


@pytest.mark.parametrize(
    ("form", "field", "words"),
    [
        ({"raised_per_minute": "many"}, "raised_per_minute", "must be a whole number"),
        ({"raised_per_minute": "5"}, "raised_per_minute", "changes nothing"),
        ({"raised_per_minute": "9"}, "raised_per_minute", "inconsistent"),
        ({}, "raised_per_minute", "at least one limit"),
        ({"raised_per_minute": "6", "hours": "169"}, "hours", "168 or less"),
    ],
)
def test_form_that_raises_nothing_shows_an_error(
    harness: AppHarness, olivia: HubBrowser, page: str, form: dict[str, str], field: str, words: str
) -> None:
    response = olivia.post(f"{PAGE}/raise", {"hours": "24", **form})
    assert response.status_code == 400
    assert f'id="{field}-problem"' in response.text
    assert words in response.text
    assert limit_raises.read(Operator("test", harness.services), ACCOUNT) is None


def test_account_without_refusals_says_so(hub: Hub, harness: AppHarness, olivia: HubBrowser) -> None:
    new_account(harness.services, "never-refused")
    page = shown(hub, olivia, "/console/accounts/never-refused")
    assert "No request was refused with 429 in the last 24 hours" in page


# Servers that do not respond


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Reads of refusals wait for this event."""
    event = threading.Event()

    def waiting(*_: object) -> object:
        return lambda: event.wait(SECONDS)

    monkeypatch.setattr(refusals, "_reader", waiting)
    yield event
    event.set()


def test_page_does_not_wait_for_the_database_of_the_account(
    hub: Hub, olivia: HubBrowser, key_id: str, blocked: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The read blocks until the end of the test: a page that waits for it would never be returned."""
    monkeypatch.setitem(hub.pages.extensions, EXTENSION, replace(hub.services, reads=BoundedReads()))
    page = olivia.get(PAGE)
    assert page.status_code == 200
    assert "has not responded. Reload to try again" in page.text
    assert "Raise temporarily" in page.text


def test_unresponsive_server_is_not_queried(
    hub: Hub, olivia: HubBrowser, key_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent(ServerWatch):
        def states(self, urls: object, databases: object = None) -> dict[str, ServerState]:  # type: ignore[override]
            return {"default": ServerState(responds=False)}

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(refusals, "_reader", never)
    monkeypatch.setitem(hub.pages.extensions, EXTENSION, replace(hub.services, servers=Silent()))
    page = olivia.get(PAGE).text
    assert "Not available: server default is not responding" in page
    assert "server default is not responding</span>" in page


def test_reads_run_once_per_key_and_are_bounded() -> None:
    clock, go, started = Clock(), threading.Event(), []
    reads = BoundedReads(clock)

    def slow() -> str:
        started.append(1)
        go.wait(SECONDS)
        return "found"

    for number in range(MAX_READS + 3):
        assert reads.read(f"key-{number}", slow, 0) is None
        assert reads.read(f"key-{number}", slow, 0) is None
    wait_until(lambda: len(started) == MAX_READS, SECONDS)
    go.set()
    assert reads.read("key-0", slow, SECONDS) == "found"
    assert len(started) == MAX_READS
    clock.now += KEPT_SECONDS
    assert reads.read("key-0", slow, SECONDS) == "found"
    assert len(started) == MAX_READS + 1


def test_read_that_fails_returns_nothing() -> None:
    def failing() -> str:
        raise RuntimeError

    assert BoundedReads().read("key", failing, SECONDS) is None


def test_read_without_a_free_thread_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    reads = BoundedReads()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert reads.read("key", lambda: "found", SECONDS) is None
    assert reads.read("key", lambda: "found", SECONDS) == "found"


@pytest.mark.parametrize(
    ("value", "rounded"),
    [(2, 2), (10, 10), (120, 120), (1234, 1300), (1999999, 2000000), (2 * 10**9, 10**9)],
)
def test_suggested_values_are_round(value: int, rounded: int) -> None:
    assert refusals.nice(value) == rounded
