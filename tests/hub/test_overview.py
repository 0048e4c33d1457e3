"""The overview of an account: the verdict, limits, requests of the last day, keys to look at, changes, first steps."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from kataven.account.key_listing import GROUPS, Group, Hygiene, KeyCounts
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.personas import ALICE, Persona
from kataven.hub.pages import home
from kataven.hub.verdict import AccountSeverity as Severity
from kataven.hub.verdict import UsageState, verdict
from kataven.identity.principal import Role
from kataven.ratelimit.decision import QuotaStatus
from kataven.ratelimit.policy import Quota
from kataven.usage import store
from kataven.usage.outcomes import CallOutcome
from kataven.usage.pending import PendingUsage
from kataven.usage.policy import UsagePolicy
from tests.hub.conftest import Hub
from tests.hub.hub_browser import HubBrowser
from tests.hub.test_agents import FORM as AGENT
from tests.support.app_harness import AppHarness, new_account
from tests.usage.test_recorder import observed


def counts(expiring: int = 0, **groups: int) -> KeyCounts:
    found: Mapping[Group, int] = {group: groups.get(str(group), 0) for group in GROUPS}
    return KeyCounts(10, found, (expiring, expiring, expiring), 10, 0)


def text_of(page: str) -> str:
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", page.partition("<main")[2]).split()))


def section(page: str, heading: str) -> str:
    return text_of("<main" + page.partition(f"<h2>{heading}</h2>")[2].partition("</section>")[0])


def test_all_is_well_with_the_figures() -> None:
    calls = {CallOutcome.OK: 409, CallOutcome.REFUSED: 3}
    found = verdict(calls, counts(), (), UsageState.KNOWN)
    assert (found.severity, found.title) == (
        Severity.GOOD,
        "All well: 412 requests in the last 24 hours, 3 refused.",
    )
    assert found.findings == ()


def test_verdict_of_an_account_without_requests() -> None:
    assert verdict({}, counts(), (), UsageState.KNOWN).title == "All well: no requests in the last 24 hours."


@pytest.mark.parametrize("state", [UsageState.DISABLED, UsageState.BEHIND])
def test_unknown_usage_is_not_reported_as_well(state: UsageState) -> None:
    found = verdict(None, counts(), (), state)
    assert found.severity is Severity.WARNING
    assert "can't be counted" in found.title


@pytest.mark.parametrize(
    ("calls", "keys", "severity", "words", "path"),
    [
        ({CallOutcome.FAILED: 1}, counts(), Severity.BAD, "1 request failed", "/requests?outcome=failed"),
        (
            {CallOutcome.LIMITED: 2},
            counts(),
            Severity.WARNING,
            "2 requests exceeded",
            "/requests?outcome=limited",
        ),
        (
            {CallOutcome.REFUSED: 20, CallOutcome.OK: 20},
            counts(),
            Severity.WARNING,
            "20 of 40 requests were refused",
            "/requests?outcome=refused",
        ),
        ({}, counts(browser_use=2), Severity.BAD, "2 keys were sent", "/settings/api-keys?show=browser_use"),
        ({}, counts(1), Severity.WARNING, "1 key expires", "/settings/api-keys?show=expires_soon&sort=expires"),
    ],
)
def test_problems_have_a_link(
    calls: Mapping[CallOutcome, int], keys: KeyCounts, severity: Severity, words: str, path: str
) -> None:
    found = verdict(calls, keys, (), UsageState.KNOWN)
    assert found.severity is severity
    assert found.title.startswith("1 problem. ")
    assert [(words in one.text, one.path) for one in found.findings] == [(True, path)]


def test_a_few_refused_requests_are_normal() -> None:
    calls = {CallOutcome.REFUSED: 19, CallOutcome.OK: 1}
    assert verdict(calls, counts(), (), UsageState.KNOWN).findings == ()


@pytest.mark.parametrize(("used", "severity"), [(53, Severity.GOOD), (54, Severity.WARNING), (60, Severity.BAD)])
def test_limits_are_reported_when_nearly_used_up(used: int, severity: Severity) -> None:
    found = verdict({}, counts(), (QuotaStatus(Quota("per-minute", 60, 60), used, 0),), UsageState.KNOWN)
    assert found.severity is severity
    assert [one.path for one in found.findings] == ([] if severity is Severity.GOOD else ["#limits"])


def test_worst_problem_is_first() -> None:
    found = verdict({CallOutcome.LIMITED: 1, CallOutcome.OK: 9}, counts(browser_use=1), (), UsageState.KNOWN)
    assert [one.severity for one in found.findings] == [Severity.BAD, Severity.WARNING]
    assert found.title == "2 problems. 10 requests in the last 24 hours, 1 rate limited."


def log(postgres: EmbeddedPostgres, account: str, *statuses: int) -> None:
    """Write requests of an hour ago, as a worker does."""
    pending = PendingUsage(UsagePolicy())
    at = (datetime.now(UTC) - timedelta(hours=1)).timestamp()
    for status in statuses:
        pending.add(observed(at, status=status))
    engine = create_engine(postgres.url(account), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with Session(engine) as session:
        assert store.write(session, pending.take(str(uuid4()), 1))


def test_requests_of_the_last_day_are_counted_and_drawn(
    alice: HubBrowser, harness: AppHarness, postgres: EmbeddedPostgres
) -> None:
    log(postgres, "acme", 200, 200, 503)
    page = alice.get("/")
    assert page.status_code == 200
    # Other tests of this account can have failed requests as well.
    assert re.search(r"\b[1-9][0-9,]* requests? failed with a server error", text_of(page.text))
    assert 'role="img"' in page.text
    assert "Failed" in section(page.text, "Requests in the last 24 hours")


def test_limits_show_what_is_used(alice: HubBrowser, harness: AppHarness) -> None:
    key = harness.new_key("acme")
    assert harness.bearer(key).get("/v1/me").status_code == 200
    limits = section(alice.get("/").text, "Limits")
    found = re.search(r"Requests per minute ([0-9,]+) of 1,000,000", limits)
    assert found, limits
    assert int(found[1]) >= 1


def test_limits_are_not_available_without_redis(alice: HubBrowser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "account_quotas", lambda *_: None)
    page = alice.get("/")
    assert page.status_code == 200
    assert "Not available: Redis is unavailable." in section(page.text, "Limits")
    assert "Requests per minute 1,000,000" in section(page.text, "Limits")


def test_keys_to_look_at_lead_to_the_filtered_list(alice: HubBrowser, harness: AppHarness) -> None:
    harness.new_key("acme", expires_at=datetime.now(UTC) + timedelta(days=2))
    page = alice.get("/").text
    path = html.unescape(re.search(r'href="([^"]+)">Expire within 14 days', page)[1])  # type: ignore[index]
    assert path == f"/settings/api-keys?show={Hygiene.EXPIRES_SOON}&sort=expires"
    assert "No API keys found" not in alice.get(path).text


def test_changes_are_shown_to_managers_only_and_without_sign_ins(alice: HubBrowser, bob: HubBrowser) -> None:
    alice.get("/agents/new")
    alice.post("/agents/new", {**AGENT, "name": "Shown on the overview"})
    changes = section(alice.get("/").text, "Latest changes")
    assert "person.signed_in" not in changes
    assert "by Alice" in changes
    assert "Latest changes" not in bob.get("/").text


def as_owner(hub: Hub, harness: AppHarness, account: str) -> HubBrowser:
    """Alice's browser with a token of an owner of `account`, because the issuer signs in only the test personas."""
    browser, sessions = hub.signed_in(ALICE), hub.services.sessions
    cookie = browser.client.get_cookie(hub.services.cookie_name)
    session = sessions.read(cookie and cookie.value)
    assert session is not None
    assert session.user is not None
    user = replace(session.user, access_token=harness.issuer.token(Persona("dora", "Dora", account, Role.OWNER)))
    sessions.save(session.with_(user=user, account=account))
    return browser


def done(page: str) -> list[str]:
    steps = section(page, "First steps")
    return [words for words in ("an agent", "an API key", "the first request") if f"{words} : done" in steps]


def test_first_steps_tick_themselves(hub: Hub, harness: AppHarness) -> None:
    account = "first-steps"
    new_account(harness.services, account)
    alice = as_owner(hub, harness, account)
    assert done(alice.get("/").text) == []
    alice.get("/agents/new")
    alice.post("/agents/new", {**AGENT, "name": "First"})
    assert done(alice.get("/").text) == ["an agent"]
    harness.new_key(account)
    assert done(alice.get("/").text) == ["an agent", "an API key"]
    harness.new_key(account, last_used_at=datetime.now(UTC))
    page = alice.get("/").text
    assert "First steps" not in page
    assert "No requests in the last 24 hours." in page
