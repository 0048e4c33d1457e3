"""The Hub's lists: search, filters, pagination, and the redirect after a form."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from sqlalchemy import text

from kataven.hub.pages import agents, audit, widget_keys
from kataven.hub.pages.api_keys import key_list
from kataven.hub.server_watch import ServerState
from kataven.system import operators
from tests.hub.conftest import Hub
from tests.hub.hub_browser import HubBrowser
from tests.hub.test_agents import FORM as AGENT
from tests.hub.test_agents import create as create_agent
from tests.hub.test_pages import NEW, create_key, revoke_path
from tests.hub.test_widget_keys import create as create_widget_key
from tests.support.app_harness import AppHarness, Caller

KEYS = "/settings/api-keys"
WIDGET_KEYS = "/settings/widget-keys"
AUDIT = "/audit-log"
CONSOLE = "/console"
TRAIL = "/console/trail"


def id_of(path: str) -> str:
    return path.rpartition("/")[2]


def link(page: str, relation: str) -> str:
    """The target of the page's link with this relation."""
    found = re.search(rf'<a href="([^"]+)" rel="{relation}"', page)
    assert found, page
    return html.unescape(found[1])


def names(page: str) -> list[str]:
    return re.findall(r"<bdi>([^<]+)</bdi>", page)


# Widget keys and their agents


def test_pinned_agent_is_named_even_if_many_are_newer(alice: HubBrowser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(widget_keys, "MAX_LISTED_AGENTS", 1)
    pinned = create_agent(alice, name="The oldest agent")
    _, place = create_widget_key(alice, "Pinned to the oldest", agent_id=id_of(pinned))
    create_agent(alice, name="A newer agent")
    listed = alice.get(WIDGET_KEYS).text
    row = listed[listed.index("Pinned to the oldest") :]
    assert "<dd>The oldest agent</dd>" in row
    editor = alice.get(place).text
    assert "A deleted agent" not in editor
    assert re.search(rf'value="{id_of(pinned)}" selected>The oldest agent', editor)
    form = {"name": "Pinned to the oldest", "domain_allowlist": "shop.example", "agent_id": id_of(pinned)}
    assert alice.post(place, form).status_code == 303


def test_deleted_agent_of_a_widget_key_is_shown_as_deleted(alice: HubBrowser) -> None:
    agent = create_agent(alice, name="Soon gone")
    _, place = create_widget_key(alice, "Pinned to nothing", agent_id=id_of(agent))
    alice.get(agent)
    alice.post(f"{agent}/delete")
    assert "A deleted agent" in alice.get(place).text


def test_agent_can_be_entered_by_id_name_or_part_of_the_name(
    alice: HubBrowser, acme_key: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(widget_keys, "MAX_LISTED_AGENTS", 2)
    mark = uuid4().hex[:8]
    agent = id_of(create_agent(alice, name=f"Quay {mark}"))
    other = id_of(create_agent(alice, name=f"Quay {mark} by night"))
    for number in range(2):
        create_agent(alice, name=f"Filler {number}")
    for typed, expected in ((agent, agent), (f"quay {mark}", agent), (f"{mark} BY", other)):
        _, place = create_widget_key(alice, "Named", agent=typed)
        key = acme_key.get(f"/v1/widget-keys/{id_of(place)}").get_json()
        assert key["agent_id"] == expected, typed

    alice.get(WIDGET_KEYS)
    several = alice.post(WIDGET_KEYS, {"name": "Which", "domain_allowlist": "a.example", "agent": mark[:7]})
    assert several.status_code == 400
    assert 'id="agent-problem"' in several.text
    assert f'<option value="{agent}">Quay {mark} (active)' in several.text
    for nobody in ("no agent is called so", str(uuid4()), "\x00"):
        page = alice.post(WIDGET_KEYS, {"name": "Whom", "domain_allowlist": "a.example", "agent": nobody})
        assert page.status_code == 400
        assert "No agent has this name or ID" in page.text


def test_agents_of_another_account_are_not_found(alice: HubBrowser, charlie: HubBrowser) -> None:
    theirs = create_agent(charlie, name="Of globex alone")
    alice.get(WIDGET_KEYS)
    for typed in (id_of(theirs), "Of globex alone"):
        page = alice.post(WIDGET_KEYS, {"name": "Stolen", "domain_allowlist": "a.example", "agent": typed})
        assert "No agent has this name or ID" in page.text


# The console's search


@pytest.fixture(scope="module")
def rows(harness: AppHarness) -> str:
    """Insert three accounts without a database. Returns a unique mark in their names."""
    mark = uuid4().hex[:8]
    insert = text(
        "INSERT INTO accounts (account_id, account_name, database_name, server, status, zitadel_org_id)"
        " VALUES (:id, :name, :id, 'default', 'archived', :org)"
    )
    found = (("one", "First Bank", "Org-1"), ("two", "Second Bank of 100%", "Org-2"), ("three", "Bakery", "Org-3"))
    with harness.services.directory.database.writing() as session:
        for name, words, org in found:
            session.execute(insert, {"id": f"{name}-{mark}", "name": f"{words} {mark}", "org": f"{org}-{mark}"})
    return mark


@pytest.mark.parametrize("path", [CONSOLE, "/console/migrations"])
def test_account_search_matches_parts_of_id_name_and_organisation(olivia: HubBrowser, rows: str, path: str) -> None:
    def found(query: str) -> set[str]:
        page = olivia.get(path, query_string={"q": query})
        assert page.status_code == 200
        assert f'name="q" type="text" value="{html.escape(query)}"' in page.text.replace("&#34;", "&quot;")
        return set(re.findall(rf"/console/accounts/(\w+)-{rows}", page.text))

    assert found(f"bank {rows}") == {"one"}
    assert found(f"BANK {rows[:-1]}") == {"one"}
    assert found(f"  Bakery {rows} ") == {"three"}
    assert found(f"ne-{rows}") == {"one"}
    assert found(f"ORG-2-{rows}") == {"two"}
    assert found(f"100% {rows}") == {"two"}
    assert found(rows) == {"one", "two", "three"}
    for nothing in (f"Bank_{rows}", "Nothing is called so!", "%", "x" * 300, "Alpine\x00"):
        assert found(nothing) <= ({"two"} if nothing == "%" else set()), nothing


def test_console_lists_paginate_forwards_and_back(
    olivia: HubBrowser, rows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kataven.hub.console import accounts, migrations

    for module, path in ((accounts, CONSOLE), (migrations, "/console/migrations")):
        monkeypatch.setattr(module, "PAGE_SIZE", 1)
        first = olivia.get(path, query_string={"q": rows}).text
        assert f"one-{rows}" in first
        assert 'rel="prev"' not in first
        second = olivia.get(link(first, "next")).text
        assert f"three-{rows}" in second
        third = olivia.get(link(second, "next")).text
        assert f"two-{rows}" in third
        assert 'rel="next"' not in third
        assert f"three-{rows}" in olivia.get(link(third, "prev")).text
        assert f"one-{rows}" in olivia.get(link(olivia.get(link(third, "prev")).text, "prev")).text


def test_account_chips_count_the_matching_accounts_per_status(olivia: HubBrowser, rows: str) -> None:
    page = olivia.get(CONSOLE, query_string={"q": rows}).text
    chips = re.findall(r"(\w+) <span class=\"count\">(\d+)</span>", page.partition("<table")[0])
    assert chips == [("All", "3"), ("Archived", "3")]
    assert f'href="/console?q={rows}&amp;status=archived"' in page
    assert "No accounts found" in olivia.get(CONSOLE, query_string={"q": rows, "status": "active"}).text


@pytest.mark.parametrize("order", ["name", "created", "requests", "connections"])
def test_accounts_are_sorted_and_paginate_in_each_order(
    hub: Hub, harness: AppHarness, olivia: HubBrowser, rows: str, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kataven.hub.console import accounts

    mark = f"-{rows}"
    with harness.services.directory.database.writing() as session:
        for age, name in enumerate(("two", "one", "three")):
            session.execute(
                text("UPDATE accounts SET created_at = now() - :age * interval '1 hour' WHERE account_id = :id"),
                {"age": age, "id": name + mark},
            )
    counts = {f"one{mark}": 5, f"two{mark}": 7, f"three{mark}": 5}
    monkeypatch.setattr(accounts, "used_today", lambda limits: {name: counts[name] for name in limits})
    monkeypatch.setattr(
        accounts,
        "server_states",
        lambda *_: {"default": ServerState(True, connections_by_database={name: counts[name] for name in counts})},
    )
    expected = {
        "name": ["one", "three", "two"],
        "created": ["two", "one", "three"],
        "requests": ["two", "one", "three"],
        "connections": ["two", "one", "three"],
    }[order]

    def shown(page: str) -> list[str]:
        return re.findall(rf"/console/accounts/(\w+)-{rows}\"", page)

    page = olivia.get(CONSOLE, query_string={"q": rows, "sort": order}).text
    assert shown(page) == expected
    assert "aria-sort" in page
    monkeypatch.setattr(accounts, "PAGE_SIZE", 1)
    page = olivia.get(CONSOLE, query_string={"q": rows, "sort": order}).text
    there = [*shown(page)]
    for _ in range(2):
        page = olivia.get(link(page, "next")).text
        there += shown(page)
    assert there == expected
    assert 'rel="next"' not in page
    for name in expected[1::-1]:
        page = olivia.get(link(page, "prev")).text
        assert shown(page) == [name]
    assert 'rel="prev"' not in page


def test_accounts_are_listed_by_name_if_they_cannot_be_sorted_by_requests(
    olivia: HubBrowser, rows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kataven.hub.console import accounts

    query = {"q": rows, "sort": "requests", "after": "99999999999999999~one"}
    monkeypatch.setattr(accounts, "used_today", lambda _: {})
    assert "Redis is unavailable, so the accounts are sorted by name" in olivia.get(CONSOLE, query_string=query).text
    monkeypatch.setattr(accounts, "MAX_RANKED", 2)
    assert "More than 2 accounts match" in olivia.get(CONSOLE, query_string=query).text
    for order in ("created", "requests", "nonsense"):
        for position in ("999999999999999999~one", "~one", "1~", "x~one", "one~1"):
            query = {"q": rows, "sort": order, "after": position}
            assert olivia.get(CONSOLE, query_string=query).status_code == 200


def test_operator_audit_log_filters_offer_existing_values(harness: AppHarness, olivia: HubBrowser) -> None:
    mark = uuid4().hex[:8]
    with harness.services.directory.database.writing() as session:
        operators.record(session, "jwt:oscar", "account.tested", f"trail-{mark}")
        operators.record(session, "jwt:olivia", "account.tested", f"trail-{mark}-too")
    page = olivia.get(TRAIL).text
    assert '<option value="jwt:oscar">oscar</option>' in page
    assert '<option value="account.tested">' in page

    def count(**query: str) -> int:
        return olivia.get(TRAIL, query_string=query).text.count("<code>account.tested</code>")

    assert count(q=mark) == 2
    assert count(q=f"TRAIL-{mark.upper()}") == 2
    assert count(account=f"trail-{mark}") == 1
    assert count(q=mark, actor="jwt:oscar") == 1
    assert count(q=mark, action="account.created") == 0
    for nothing in ("Nobody!", "\x00", "x" * 300):
        page = olivia.get(TRAIL, query_string={"q": nothing}).text
        assert "No events found" in page
        assert html.escape(nothing) in page


def test_operator_audit_log_paginates_back(
    olivia: HubBrowser, harness: AppHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kataven.hub.console import audit_log

    monkeypatch.setattr(audit_log, "PAGE_SIZE", 1)
    mark = uuid4().hex[:8]
    with harness.services.directory.database.writing() as session:
        operators.record(session, "jwt:olivia", "account.tested", f"first-{mark}")
    with harness.services.directory.database.writing() as session:
        operators.record(session, "jwt:olivia", "account.tested", f"second-{mark}")
    first = olivia.get(TRAIL, query_string={"q": mark}).text
    second = olivia.get(link(first, "next")).text
    assert f">second-{mark}</a>" in first
    assert f">first-{mark}</a>" in second
    assert f">second-{mark}</a>" in olivia.get(link(second, "prev")).text


def test_operator_audit_log_is_limited_to_days_and_exported(harness: AppHarness, olivia: HubBrowser) -> None:
    mark = uuid4().hex[:8]
    with harness.services.directory.database.writing() as session:
        for day in (1, 2):
            event = operators.record(session, "jwt:olivia", "account.tested", f"day-{mark}", {"note": f"={day}"})
            event.at = datetime(2026, 1, day, 12, tzinfo=UTC)
    filters = {"q": mark, "from": "2026-01-02", "to": "2026-01-02"}
    page = olivia.get(TRAIL, query_string=filters)
    assert page.text.count("<code>account.tested</code>") == 1
    assert "Note</span> <bdi>=2</bdi>" in page.text
    exported = olivia.post(f"{TRAIL}/export", {"format": "csv"})  # the hidden fields of the page have the filters
    assert "kataven-operator-audit-" in exported.headers["Content-Disposition"]
    header, event_line, end = exported.text.splitlines()
    assert header == "at,actor,action,account_id,detail,id"
    assert event_line.startswith("2026-01-02T12:00:00+00:00,jwt:olivia,account.tested,day-")
    assert end == "# export complete,1 events"
    assert olivia.post(f"{TRAIL}/export", {"format": "csv", "to": "x"}).status_code == 400
    assert olivia.get(TRAIL, query_string={"from": "x"}).status_code == 400
    page = olivia.get(TRAIL, query_string={"action": "audit_log.exported"}).text
    assert f"Q</span> <bdi>{mark}</bdi>" in page


# Keys and the audit log


def test_revoked_key_shows_the_user_and_links_to_its_events(alice: HubBrowser) -> None:
    name = f"Billing {uuid4().hex[:8]}"
    path = revoke_path(alice, create_key(alice, name))
    key_id = path.split("/")[-2]
    alice.post(path)
    page = alice.get(KEYS).text
    row = page[page.index(f'id="key-{key_id}"') :].partition("</tr>")[0]
    assert re.search(r"revoked <time[^>]+>just now</time>", row)
    page = alice.get(f"{KEYS}/{key_id}").text
    assert re.search(r"<dt>Revoked</dt><dd><time[^>]+>just now</time> by alice", page, re.IGNORECASE)
    events = alice.get(link_to_events(page)).text
    assert set(re.findall(r"<code>(api_key\.\w+)</code>", events)) == {"api_key.created", "api_key.revoked"}
    revoked = events[events.index("<code>api_key.revoked</code>") :].partition("</tr>")[0]
    assert name in revoked
    assert key_id in alice.get(AUDIT, query_string={"target": name.lower()}).text


def link_to_events(row: str) -> str:
    found = re.search(r'href="(/audit-log\?target=[^"]+)"', row)
    assert found
    return found[1]


def test_members_see_no_link_to_the_audit_log(alice: HubBrowser, bob: HubBrowser) -> None:
    create_key(alice, "Without a link")
    _, place = create_widget_key(alice, "Without a link")
    assert AUDIT not in bob.get(KEYS).text
    assert AUDIT not in bob.get(place).text


def test_events_of_widget_keys_and_agents_contain_the_name(alice: HubBrowser) -> None:
    mark = uuid4().hex[:8]
    _, place = create_widget_key(alice, f"Widget {mark}")
    agent = create_agent(alice, name=f"Agent {mark}")
    alice.get(place)
    alice.post(f"{place}/disable")
    assert re.search(r"Disabled <time[^>]+>just now</time> by alice", alice.get(place).text, re.IGNORECASE)
    alice.get(agent)
    assert alice.post(agent, {**AGENT, "name": f"Agent {mark}", "description": "Changed"}).status_code == 303
    for target, action, name in ((place, "widget_key.disabled", "Widget"), (agent, "agent.changed", "Agent")):
        events = alice.get(AUDIT, query_string={"target": id_of(target), "action": action}).text
        assert f"<bdi>{name} {mark}</bdi></a>" in events


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"action": "revoked"}, True),
        ({"action": "API_KEY.REVOKED"}, True),
        ({"action": "api_key"}, True),
        ({"action": "evoked"}, False),
        ({"actor": "jwt:alice"}, True),
        ({"actor": "alice"}, True),
        ({"actor": "Alice"}, True),
        ({"actor": "ali"}, True),
        ({"actor": "lice"}, False),
        ({"actor": "jwt:alic"}, True),
        ({"actor": "%"}, False),
        ({"actor": "bob"}, False),
        ({"action": "\x00"}, False),
        ({"target": "x" * 300}, False),
    ],
)
def test_audit_log_filters_match_prefixes(alice: HubBrowser, query: dict[str, str], found: bool) -> None:
    key = revoke_path(alice, create_key(alice, "To be looked for"))
    alice.post(key)
    target = {} if "target" in query else {"target": key.split("/")[-2]}
    page = alice.get(AUDIT, query_string={**query, **target})
    assert page.status_code == 200
    assert ("<code>api_key.revoked</code>" in page.text) is found


def test_audit_log_filters_offer_existing_actors_and_actions(alice: HubBrowser) -> None:
    create_widget_key(alice, "An event of its own")
    page = alice.get(AUDIT).text
    assert '<option value="widget_key.created">' in page
    assert re.search(r'<option value="jwt:alice">\w+ \(jwt:alice\)</option>', page)
    asked = alice.get(AUDIT, query_string={"action": "long.ago"}).text
    assert '<option value="long.ago" selected>' in asked


def test_exact_actor_filter_excludes_longer_labels(harness: AppHarness, alice: HubBrowser) -> None:
    record = harness.services.directory.read("acme")
    assert record is not None
    from kataven.account.audit import Actor
    from kataven.account.audit import record as record_event

    with harness.services.registry.writing(record.tenant) as session:
        record_event(session, Actor("jwt:al", "Al"), "agent.tested")
        record_event(session, Actor("jwt:alan", "Alan"), "agent.tested")
    assert alice.get(AUDIT, query_string={"actor": "jwt:al"}).text.count("<code>agent.tested</code>") == 1
    assert alice.get(AUDIT, query_string={"actor": "jwt:ala"}).text.count("<code>agent.tested</code>") == 1


@pytest.mark.parametrize(("module", "path"), [(key_list, KEYS), (agents, "/agents"), (audit, AUDIT)])
def test_account_lists_paginate_back(
    alice: HubBrowser, monkeypatch: pytest.MonkeyPatch, module: object, path: str
) -> None:
    for number in range(3):
        create_key(alice, f"Paged {number}")
        create_agent(alice, name=f"Paged {number}")
    monkeypatch.setattr(module, "PAGE_SIZE", 2)
    first = alice.get(path).text
    assert 'rel="prev"' not in first
    second = alice.get(link(first, "next")).text
    back = alice.get(link(second, "prev")).text
    assert rows_of(back) == rows_of(first)
    assert alice.get(f"{path}?newer=junk").status_code == 200


def rows_of(page: str) -> list[str]:
    return re.findall(r'href="(/agents/[0-9a-f-]{36})"|id="(key-[^"]+)"|<td><time datetime="([^"]+)"', page)


def test_lists_show_the_displayed_range(charlie: HubBrowser, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        charlie.get(NEW)
        assert charlie.post(NEW, {"name": f"Counted {number}", "expiry": "30d"}).status_code == 201
    monkeypatch.setattr(key_list, "PAGE_SIZE", 2)
    first = charlie.get(KEYS).text
    place = re.search(r"1 to 2 of (\d+)<", first)
    assert place
    assert f"3 to {min(4, int(place[1]))} of {place[1]}<" in charlie.get(link(first, "next")).text


def test_revoking_a_key_returns_to_the_same_page_of_the_list(
    hub: Hub, charlie: HubBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        charlie.get(NEW)
        assert charlie.post(NEW, {"name": f"Stays {number}", "expiry": "30d"}).status_code == 201
    monkeypatch.setattr(key_list, "PAGE_SIZE", 1)
    second = link(charlie.get(KEYS).text, "next")
    third = link(charlie.get(second).text, "next")
    page = charlie.get(third).text
    assert names(page) == ["Stays 1"]
    row = re.search(r'<a href="(/settings/api-keys/([0-9a-f-]{36})[^"]*)"><bdi>', page)
    assert row
    key_page = charlie.get(html.unescape(row[1])).text
    assert f'href="{third}#key-{row[2]}"' in html.unescape(key_page)
    question = re.search(r'href="(/settings/api-keys/[0-9a-f-]{36}/revoke[^"]*)"', key_page)
    assert question
    action = re.search(r'action="(/settings/api-keys/[^"]+/revoke[^"]*)"', charlie.get(html.unescape(question[1])).text)
    assert action
    back = charlie.post(html.unescape(action[1])).location
    assert back == f"{third}#key-{row[2]}"
    page = charlie.get(back.partition("#")[0]).text
    assert names(page) == ["Stays 1"]
    assert "“Stays 1”" in page
    assert f'id="key-{row[2]}"' in page


def test_form_redirects_only_to_lists_of_the_hub(charlie: HubBrowser) -> None:
    charlie.get(NEW)
    charlie.post(NEW, {"name": "Elsewhere", "expiry": "30d"})
    key = re.search(r"/settings/api-keys/[0-9a-f-]{36}", charlie.get(KEYS).text)
    assert key
    back = charlie.post(f"{key[0]}/revoke?cursor=//evil.example&newer=%0d%0aSet-Cookie:x").location
    assert back.startswith(f"{KEYS}#key-")
