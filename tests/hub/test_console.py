"""The operator console: access, the same operations as on the command line, and the operator audit log."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from kataven.hub.console.verdict import WorkerRow
from kataven.ratelimit.cluster_pool import pool_at
from kataven.ratelimit.policy import Limits
from kataven.revocation.coordination import Member
from kataven.revocation.revocation import Revocation
from kataven.system import operators
from kataven.system.models import OperatorEvent
from kataven.web import health
from tests.hub.conftest import Hub
from tests.hub.hub_browser import HubBrowser
from tests.support.app_harness import AppHarness, new_account

CONSOLE = "/console"
NEW_ACCOUNT = f"{CONSOLE}/new-account"


def events_of(harness: AppHarness, account: str) -> list[OperatorEvent]:
    with harness.services.directory.database.reading() as session:
        return list(operators.listing(session, 50, account=account))


def page_of(account: str) -> str:
    return f"{CONSOLE}/accounts/{account}"


def test_operator_is_redirected_to_the_console_after_sign_in(hub: Hub, olivia: HubBrowser) -> None:
    page = olivia.get(CONSOLE)
    assert page.status_code == 200
    assert "acme" in page.text
    assert ">Audit log<" not in page.text


@pytest.mark.parametrize("path", [CONSOLE, f"{CONSOLE}/accounts/acme", f"{CONSOLE}/health", f"{CONSOLE}/trail"])
def test_console_pages_require_the_operator_role(alice: HubBrowser, anonymous: HubBrowser, path: str) -> None:
    assert alice.get(path).status_code == 403
    assert anonymous.get(path).location.startswith("/sign-in")


@pytest.mark.parametrize("verb", ["suspend", "archive", "resume", "restore", "limits", "policy"])
def test_console_actions_require_the_operator_role(alice: HubBrowser, harness: AppHarness, verb: str) -> None:
    alice.get("/")
    assert alice.post(f"{CONSOLE}/accounts/globex/{verb}", {"confirm": "globex"}).status_code == 403
    assert alice.post(NEW_ACCOUNT, {"account": "of-alices", "name": "x"}).status_code == 403
    record = harness.services.directory.read("globex")
    assert record is not None
    assert record.open


def test_created_account_is_usable_immediately(hub: Hub, harness: AppHarness, olivia: HubBrowser) -> None:
    olivia.get(NEW_ACCOUNT)
    made = olivia.post(NEW_ACCOUNT, {"account": "new-in-console", "name": "New & Co.", "org_id": "org-x"})
    assert made.location == page_of("new-in-console")
    page = olivia.get(made.location).text
    assert "New &amp; Co." in page
    assert "Created account" in page
    assert harness.bearer(harness.new_key("new-in-console")).get("/v1/me").status_code == 200
    assert [(event.action, event.actor) for event in events_of(harness, "new-in-console")] == [
        ("account.created", "jwt:olivia")
    ]


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"account": "", "name": "x"}, "Enter an account ID"),
        ({"account": "Bad Name", "name": "x"}, "Bad Name"),
        ({"account": "pg_catalog", "name": "x"}, "pg_catalog"),
        ({"account": "kataven-admin", "name": "x"}, "kataven-admin"),
        ({"account": "acme", "name": "x"}, "already exists"),
        ({"account": "fine", "name": ""}, "Enter a name"),
        ({"account": "fine", "name": "x", "server": "nowhere"}, "does not exist or accepts no new accounts"),
    ],
)
def test_invalid_account_form_shows_an_error(
    olivia: HubBrowser, harness: AppHarness, form: dict[str, str], words: str
) -> None:
    olivia.get(NEW_ACCOUNT)
    page = olivia.post(NEW_ACCOUNT, form)
    assert page.status_code == 400
    assert words in page.text
    assert harness.services.directory.read("fine") is None


def test_suspending_requires_confirmation_and_rejects_every_key(harness: AppHarness, olivia: HubBrowser) -> None:
    new_account(harness.services, "to-be-closed")
    caller = harness.bearer(harness.new_key("to-be-closed"))
    assert caller.get("/v1/me").status_code == 200
    olivia.get(page_of("to-be-closed"))
    for confirm in ("", "to-be", "TO-BE-CLOSED"):
        assert olivia.post(f"{page_of('to-be-closed')}/suspend", {"confirm": confirm}).status_code == 400
    assert caller.get("/v1/me").status_code == 200

    assert olivia.post(f"{page_of('to-be-closed')}/suspend", {"confirm": "to-be-closed"}).status_code == 303
    assert caller.get("/v1/me").get_json()["code"] == "account_suspended"
    assert "Suspended to-be-closed: " in olivia.get(page_of("to-be-closed")).text
    assert olivia.post(f"{page_of('to-be-closed')}/suspend", {"confirm": "to-be-closed"}).status_code == 400

    assert olivia.post(f"{page_of('to-be-closed')}/resume").status_code == 303
    assert "Resumed to-be-closed: applied on" in olivia.get(page_of("to-be-closed")).text
    assert caller.get("/v1/me").status_code == 200
    assert olivia.post(f"{page_of('to-be-closed')}/archive", {"confirm": "to-be-closed"}).status_code == 303
    assert olivia.post(f"{page_of('to-be-closed')}/restore").status_code == 303
    assert "Restored to-be-closed: applied on" in olivia.get(page_of("to-be-closed")).text
    assert [event.action for event in events_of(harness, "to-be-closed")] == [
        "account.restored",
        "account.archived",
        "account.resumed",
        "account.suspended",
        "account.created",
    ]


def test_valid_limits_are_saved_and_invalid_limits_are_rejected(harness: AppHarness, olivia: HubBrowser) -> None:
    new_account(harness.services, "limited-here")
    path = f"{page_of('limited-here')}/limits"
    good = {name: str(value + 1) for name, value in asdict(Limits()).items()}
    olivia.get(page_of("limited-here"))
    for wrong in ({"per_minute": "0"}, {"per_hour": "many"}, {"per_day": ""}, {"concurrent": "1.5"}):
        page = olivia.post(path, {**good, **wrong})
        assert page.status_code == 400
        assert f'id="{next(iter(wrong))}-problem"' in page.text
    crossed = olivia.post(path, {**good, "per_minute": "1002"})
    assert crossed.status_code == 400
    assert "per_minute is 1002 and per_hour is 1001" in crossed.text
    assert olivia.post(path, good).status_code == 303
    record = harness.services.directory.read("limited-here")
    assert record is not None
    assert (record.limits.per_minute, record.limits.concurrent) == (61, 21)
    assert "0 of 61 used" in olivia.get(page_of("limited-here")).text


def test_key_policy_can_shorten_existing_keys(harness: AppHarness, olivia: HubBrowser) -> None:
    new_account(harness.services, "short-lived")
    caller = harness.bearer(harness.new_key("short-lived"))
    path = f"{page_of('short-lived')}/policy"
    olivia.get(page_of("short-lived"))
    assert olivia.post(path, {"max_days": "none"}).status_code == 400
    assert olivia.post(path, {"max_days": "30", "existing": "on"}).status_code == 303
    assert "expiry of 1 key shortened: applied on" in olivia.get(page_of("short-lived")).text
    assert caller.get("/v1/api-keys").get_json()[0]["expires_at"] is not None
    assert olivia.post(path, {"max_days": ""}).status_code == 303


def test_account_list_filters_by_name_and_status_and_paginates(
    harness: AppHarness, olivia: HubBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kataven.hub.console import accounts

    for name in ("find-a", "find-b"):
        new_account(harness.services, name)
    assert "find-b" in olivia.get(f"{CONSOLE}?q=find-").text
    assert "acme" not in olivia.get(f"{CONSOLE}?q=find-").text
    assert "find-a" not in olivia.get(f"{CONSOLE}?q=find-&status=suspended").text
    assert olivia.get(f"{CONSOLE}?q=%25&status=nonsense&after=%27").status_code == 200
    monkeypatch.setattr(accounts, "PAGE_SIZE", 1)
    first = olivia.get(f"{CONSOLE}?q=find-").text
    assert "find-b</a>" not in first
    assert "find-b</a>" in olivia.get(f"{CONSOLE}?q=find-&after=find-a").text


def test_unknown_account_returns_404(olivia: HubBrowser) -> None:
    olivia.get(CONSOLE)
    for account in ("nobody-there", "..", "%00"):
        assert olivia.get(page_of(account)).status_code == 404
    for verb in ("suspend", "resume", "limits", "policy"):
        form = {"confirm": "nobody-there"} | dict.fromkeys(asdict(Limits()), "1")
        assert olivia.post(f"{page_of('nobody-there')}/{verb}", form).status_code == 404


def test_todays_usage_is_shown_and_unknown_without_redis(
    hub: Hub, harness: AppHarness, olivia: HubBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_account(harness.services, "counted-here")
    caller = harness.bearer(harness.new_key("counted-here"))
    for _ in range(3):
        assert caller.get("/v1/me").status_code == 200
    assert '<td class="num">3</td>' in olivia.get(f"{CONSOLE}?q=counted-here").text
    assert "3 of 1,000,000 used" in olivia.get(page_of("counted-here")).text
    with monkeypatch.context() as outage:
        outage.setattr(hub.services.api_meter._windows, "_pool", pool_at("redis://127.0.0.1:1/0"))
        assert ">unknown<" in olivia.get(f"{CONSOLE}?q=counted-here").text
        assert "be read because Redis is unavailable" in olivia.get(page_of("counted-here")).text
    assert '<td class="num">3</td>' in olivia.get(f"{CONSOLE}?q=counted-here").text


def test_health_shows_dependencies_workers_and_schemas(olivia: HubBrowser) -> None:
    page = olivia.get(f"{CONSOLE}/health").text
    assert "System database" in page
    assert "account_0001" in page
    assert "Cache lease" in page


def test_health_starts_with_a_verdict(hub: Hub, olivia: HubBrowser, monkeypatch: pytest.MonkeyPatch) -> None:
    def verdict() -> str:
        return olivia.get(f"{CONSOLE}/health").text.partition("Database servers</h2>")[0]

    monkeypatch.setattr(health, "checks_of", lambda _: {"redis": "ok", "auth_service": "off: in-process"})
    worker = Member("w", "web-1", 7, lease_seconds=10.0, confirmed_seconds_ago=1.0)
    monkeypatch.setattr(Revocation, "workers", lambda _: [worker])
    monkeypatch.setattr("kataven.operations.migration_runs.latest", lambda _: None)
    assert "All well" in verdict()
    assert '<span class="tag neutral">off</span>' in olivia.get(f"{CONSOLE}/health").text
    monkeypatch.setattr(Revocation, "workers", lambda _: [worker, replace(worker, confirmed_seconds_ago=5.0)])
    assert "1 of 2 workers did not renew the lease in time" in verdict()
    assert "renewed late" in olivia.get(f"{CONSOLE}/health").text
    monkeypatch.setattr(Revocation, "workers", lambda _: [])
    monkeypatch.setattr(health, "checks_of", lambda _: {"redis": "degraded: unreachable"})
    found = verdict()
    assert found.index("No worker is running") < found.index("Redis: unreachable"), "failing problems come first"


@pytest.mark.parametrize(
    ("check", "state"), [("on: the system database is reached through a connection pooler", "on"), ("odd", "unknown")]
)
def test_health_shows_the_state_that_a_check_reports(
    olivia: HubBrowser, monkeypatch: pytest.MonkeyPatch, check: str, state: str
) -> None:
    monkeypatch.setattr(health, "checks_of", lambda _: {"redis": "ok", "pooler": check})
    rows = olivia.get(f"{CONSOLE}/health").text.partition("Dependencies of this process</h2>")[2]
    assert f'Connection pooler</th><td><span class="tag neutral">{state}</span>' in rows


@pytest.mark.parametrize(("age", "state"), [(0.0, "good"), (4.9, "good"), (5.0, "late"), (10.0, "expired")])
def test_worker_is_late_if_half_of_its_lease_has_passed(age: float, state: str) -> None:
    assert WorkerRow("web-1", 7, age, 10.0).state == state


def test_operator_audit_log_lists_actions(harness: AppHarness, olivia: HubBrowser) -> None:
    new_account(harness.services, "trailed")
    assert "account.created" in olivia.get(f"{CONSOLE}/trail?account=trailed").text
    assert "No events found" in olivia.get(f"{CONSOLE}/trail?account=nobody&page=x").text
