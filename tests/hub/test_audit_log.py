"""The account's audit log: filters, readable details, and the export."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from kataven.account import audit_search
from kataven.account.audit import Actor
from kataven.account.audit import record as record_event
from kataven.account.audit_search import AuditFacets, AuditSearch
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.hub import audit_export
from kataven.hub.audit_export import COMPLETE, INCOMPLETE, ExportFormat, TooManyExports
from kataven.hub.audit_facts import AuditFact, facts_of
from kataven.hub.pages import audit
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.tenancy.errors import TenantUnavailable
from kataven.tenancy.server import DatabaseServer
from kataven.tenancy.templates import Templates
from tests.hub import large
from tests.hub.hub_browser import HubBrowser
from tests.hub.test_lists import link
from tests.hub.test_pages import create_key, revoke_path
from tests.support.app_harness import AppHarness

AUDIT, EXPORT = "/audit-log", "/audit-log/export"
ARROW = "\N{RIGHTWARDS ARROW}"


def add_event(harness: AppHarness, action: str, *, target: object = None, **detail: Any) -> None:
    record = harness.services.directory.read("acme")
    assert record is not None
    with harness.services.registry.writing(record.tenant) as session:
        record_event(session, Actor("jwt:mark", "Mark"), action, target, detail)


# The page


def test_target_is_shown_by_name_and_linked_while_it_exists(harness: AppHarness, alice: HubBrowser) -> None:
    name = f"Billing {uuid4().hex[:8]}"
    key_id = revoke_path(alice, create_key(alice, name)).split("/")[-2]
    page = alice.get(AUDIT, query_string={"target": name.upper()}).text
    assert f'<a href="/settings/api-keys/{key_id}"><bdi>{name}</bdi></a>' in page
    gone = f"Gone {uuid4().hex[:8]}"
    add_event(harness, "agent.deleted", target=uuid4(), name=gone)
    page = alice.get(AUDIT, query_string={"target": gone[:9]}).text
    assert f"<bdi>{gone}</bdi>" in page
    assert f"<bdi>{gone}</bdi></a>" not in page
    assert alice.get(AUDIT, query_string={"target": key_id}).text.count("<code>api_key.created</code>") == 1


def test_revocation_links_to_its_receipt(alice: HubBrowser) -> None:
    path = revoke_path(alice, create_key(alice, f"Billing {uuid4().hex[:8]}"))
    alice.post(path)
    page = alice.get(AUDIT, query_string={"target": path.split("/")[-2], "action": "api_key.revoked"}).text
    assert re.search(r"\d+ of \d+ workers confirmed after \d+ ms", page)
    found = re.search(r'<a href="(/receipts/[0-9a-f-]+)"', page)
    assert found
    assert alice.get(found[1]).status_code == 200


def test_days_limit_the_events_and_include_both_ends(harness: AppHarness, alice: HubBrowser) -> None:
    mark = f"Dated {uuid4().hex[:8]}"
    record = harness.services.directory.read("acme")
    assert record is not None
    with harness.services.registry.writing(record.tenant) as session:
        for days in ("2026-01-01 00:00", "2026-01-02 23:59:59", "2026-01-03 00:00"):
            found = record_event(session, Actor("jwt:mark", "Mark"), "agent.dated", uuid4(), {"name": mark})
            found.created_at = datetime.fromisoformat(days).replace(tzinfo=UTC)

    def count(**days: str) -> int:
        return alice.get(AUDIT, query_string={"target": mark, **days}).text.count("<code>agent.dated</code>")

    assert count() == 3
    assert count(**{"from": "2026-01-02"}) == 2
    assert count(to="2026-01-02") == 2
    assert count(**{"from": "2026-01-02", "to": "2026-01-02"}) == 1
    assert count(to="9999-12-31") == 3
    for wrong in ({"from": "yesterday"}, {"to": "2026-13-01"}, {"from": "2026-01-03", "to": "2026-01-02"}):
        page = alice.get(AUDIT, query_string=wrong)
        assert page.status_code == 400
        assert "There is a problem" in page.text


def test_filtered_pages_lead_forwards_and_back(
    harness: AppHarness, alice: HubBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "PAGE_SIZE", 1)
    mark = f"Paged {uuid4().hex[:8]}"
    for number in range(3):
        add_event(harness, "agent.paged", target=uuid4(), name=mark, number=number)
    numbers = []
    page = alice.get(AUDIT, query_string={"target": mark, "action": "agent.p", "from": "2026-01-01"}).text
    for _ in range(2):
        numbers += re.findall(r"Number</span> <bdi>(\d)", page)
        page = alice.get(link(page, "next")).text
    numbers += re.findall(r"Number</span> <bdi>(\d)", page)
    assert numbers == ["2", "1", "0"]
    assert 'rel="next"' not in page
    assert re.findall(r"Number</span> <bdi>(\d)", alice.get(link(page, "prev")).text) == ["1"]


@pytest.mark.parametrize(
    ("detail", "facts"),
    [
        ({}, []),
        ({"name": "CI", "hint": "1C4MhMqU"}, [("Name", "CI"), ("Key ends with", "1C4MhMqU")]),
        (
            {"from": {"per_minute": 60, "x": 1}, "to": {"per_minute": 1200, "x": 1}},
            [("Per minute", f"60 {ARROW} 1,200")],
        ),
        ({"from": None, "to": {"per_day": 5}}, [("Per day", f"none {ARROW} 5")]),
        ({"from": "CI", "to": "Deploy"}, [("", f"CI {ARROW} Deploy")]),
        ({"fields": ["greeting", "name"]}, [("Changed", "greeting, name")]),
        ({"expires_at": "2026-07-25T09:30:00+00:00"}, [("Expires", "2026-07-25 09:30 UTC")]),
        ({"expires_at": None, "reapplied": True}, [("Expires", "none"), ("Reapplied after a restore", "yes")]),
        ({"rules": {"scopes": None, "from_browsers": False}}, [("Rules", "scopes none, from browsers no")]),
        ({"odd": {"deep": {"a": 1}}}, [("Odd", '{"deep": {"a": 1}}')]),
        ({"at": "2026-99-99T00:00"}, [("At", "2026-99-99T00:00")]),
        (
            {"receipt": {"workers": 2, "acknowledged": 2, "ms": 18.5}, "times": {"w": 1}},
            [("", "2 of 2 workers confirmed after 18 ms")],
        ),
        ({"receipt": {"odd": 1}}, [("", "odd 1")]),
    ],
)
def test_details_are_readable(detail: dict[str, Any], facts: list[tuple[str, str]]) -> None:
    assert facts_of(detail) == [AuditFact(*fact) for fact in facts]


# The export


def rows_of(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_export_has_the_filtered_events_and_ends_with_their_number(harness: AppHarness, alice: HubBrowser) -> None:
    mark = f"Exported {uuid4().hex[:8]}"
    for number in range(3):
        add_event(harness, "agent.exported", target=uuid4(), name=mark, number=number)
    alice.get(AUDIT, query_string={"target": mark})
    response = alice.post(EXPORT, {"format": "csv", "target": mark})
    assert response.mimetype == "text/csv"
    disposition = response.headers["Content-Disposition"]
    assert re.fullmatch(r'attachment; filename="kataven-audit-acme-\d{8}-\d{6}\.csv"', disposition)
    assert response.headers["Cache-Control"] == "no-store"
    header, *events, end = rows_of(response.text)
    assert header == list(audit.COLUMNS)
    assert [json.loads(row[header.index("detail")])["number"] for row in events] == [2, 1, 0]
    assert end == [f"# {COMPLETE}", "3 events"]
    response = alice.post(EXPORT, {"format": "ndjson", "target": mark})
    assert response.mimetype == "application/x-ndjson"
    *lines, last = [json.loads(line) for line in response.text.splitlines()]
    assert [line["detail"]["number"] for line in lines] == [2, 1, 0]
    assert last == {"export": COMPLETE, "complete": True, "events": 3}


def test_export_is_an_event_itself(alice: HubBrowser) -> None:
    mark = uuid4().hex
    alice.get(AUDIT)
    assert alice.post(EXPORT, {"format": "ndjson", "target": mark, "from": "2026-01-01"}).status_code == 200
    page = alice.get(AUDIT, query_string={"action": "audit_log.exported"}).text
    assert f"Target</span> <bdi>{mark}</bdi>" in page
    assert "Format</span> <bdi>ndjson</bdi>" in page


@pytest.mark.parametrize(
    "form", [{}, {"format": "xlsx"}, {"format": "csv", "from": "x"}, {"format": "csv", "target": "x" * 300}]
)
def test_invalid_export_is_refused(alice: HubBrowser, form: dict[str, str]) -> None:
    alice.get(AUDIT)
    assert alice.post(EXPORT, form).status_code == 400


def test_members_cannot_export(bob: HubBrowser) -> None:
    bob.get("/")
    assert bob.post(EXPORT, {"format": "csv"}).status_code == 403


@pytest.mark.parametrize(
    "name", ["=HYPERLINK(1)", "+1", "-1", "@x", "\tx", "\rx", " =1+1", "\u3000=1", "\uff1d1+1", "\uff20x"]
)
def test_formulas_in_cells_are_defused(name: str) -> None:
    line = {"name": name, "safe": "a=b"}
    text = "".join(audit_export.lines(ExportFormat.CSV, ["name", "safe"], iter([[line]])))
    assert rows_of(text)[1] == [f"'{name}", "a=b"]


@pytest.mark.parametrize("kind", list(ExportFormat))
def test_export_that_fails_in_the_middle_says_that_it_is_incomplete(kind: ExportFormat) -> None:
    def failing() -> Iterator[Sequence[dict[str, str]]]:
        yield [{"name": "first"}]
        raise TenantUnavailable("acme", "secret reason")

    text = "".join(audit_export.lines(kind, ["name"], failing()))
    last = text.splitlines()[-1]
    assert INCOMPLETE in last
    assert COMPLETE not in text
    assert "secret reason" not in text
    if kind is ExportFormat.NDJSON:
        assert json.loads(last)["complete"] is False


def test_exports_in_progress_are_limited() -> None:
    """A slow client uses a thread. The threads of a process must not all be used by exports."""
    running = audit_export.RunningExports()
    end = running.start("acme")
    with pytest.raises(TooManyExports):
        running.start("acme")
    running.start("globex")
    with pytest.raises(TooManyExports):
        running.start("initech")
    end()
    again = running.start("acme")
    end()  # ended before: not the new one
    with pytest.raises(TooManyExports):
        running.start("acme")
    again()
    running.start("acme")


def test_second_export_of_a_log_is_refused_until_the_first_one_has_ended(
    alice: HubBrowser, harness: AppHarness
) -> None:
    add_event(harness, "agent.exported", target=uuid4(), name="One")
    alice.get(AUDIT)
    first = alice.client.post(
        EXPORT, base_url=alice.url, data={"csrf": alice.csrf, "format": "csv"}, headers={"Origin": alice.url}
    )
    assert first.status_code == 200
    refused = alice.post(EXPORT, {"format": "csv"})
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert "Another export is in progress" in refused.text
    first.close()
    alice.get(AUDIT)
    assert COMPLETE in alice.post(EXPORT, {"format": "csv"}).text
    alice.get(AUDIT)
    assert COMPLETE in alice.post(EXPORT, {"format": "csv"}).text, "a complete export has ended"


def test_export_reads_a_part_only_when_the_previous_one_was_sent(harness: AppHarness) -> None:
    record = harness.services.directory.read("acme")
    assert record is not None
    opened = []

    @contextmanager
    def reading() -> Iterator[Session]:
        opened.append(1)
        with harness.services.registry.reading(record.tenant) as session:
            yield session
        opened.pop()

    for _ in range(3):
        add_event(harness, "agent.part")
    parts = audit_search.every_event(reading, AuditSearch(action="agent.part"), 1, indexed=True)
    for _ in range(3):
        assert len(next(parts)) == 1
        assert opened == [], "a slow reader would hold a connection"


# Indexes


@pytest.fixture(scope="module")
def events(postgres: EmbeddedPostgres) -> Iterator[Engine]:
    """An account's database with 10,000 events."""
    name = f"audit-{uuid4().hex[:8]}"
    server = DatabaseServer(make_url(postgres.url("postgres")))
    with server.maintenance() as maintenance:
        maintenance.create(name, Templates(server, ACCOUNT_SCHEMA).ensure(maintenance, ACCOUNT_SCHEMA.head))
    engine = create_engine(postgres.url(name), poolclass=NullPool)
    large.fill_account(engine)
    with engine.begin() as connection:
        connection.execute(text("ANALYZE"))
    yield engine
    with server.maintenance() as maintenance:
        maintenance.drop(name)


FILTERS = {
    "none": AuditSearch(),
    "action": AuditSearch(action="api_key.created"),
    "part of an action": AuditSearch(action="creat"),
    "actor": AuditSearch(actor="jwt:person-7"),
    "part of an actor": AuditSearch(actor="person 7"),
    "unknown actor": AuditSearch(actor="nobody"),
    "target": AuditSearch(target=str(uuid4())),
    "name": AuditSearch(target="thing 77"),
    "unknown name": AuditSearch(target="nothing has this name"),
    "day": AuditSearch(since=datetime.now(UTC) - timedelta(days=2), until=datetime.now(UTC) - timedelta(days=1)),
    "all": AuditSearch("api_key", "person", "thing 77", datetime.now(UTC) - timedelta(days=3), datetime.now(UTC)),
}


def plans_of(engine: Engine, wanted: AuditSearch, *, indexed: bool) -> str:
    """How PostgreSQL executes a page of the log, with its filters."""
    statements: list[tuple[str, Any]] = []

    def remember(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        statements.append((statement, parameters))

    with engine.connect() as connection:
        event.listen(connection, "before_cursor_execute", remember)
        with Session(connection) as session:
            known = audit_search.facets(session, indexed=indexed)
            audit_search.search(session, 50, None, audit_search.resolve(session, wanted, known))
        event.remove(connection, "before_cursor_execute", remember)
        return "\n".join(
            line
            for statement in statements
            for (line,) in connection.exec_driver_sql(f"EXPLAIN {statement[0]}", statement[1])
        )


@pytest.mark.parametrize("name", FILTERS)
def test_no_filter_reads_the_whole_log(events: Engine, name: str) -> None:
    assert "Seq Scan on audit_events" not in plans_of(events, FILTERS[name], indexed=True)


@pytest.mark.parametrize("name", FILTERS)
def test_filters_find_the_same_events_with_and_without_indexes(events: Engine, name: str) -> None:
    with Session(events) as session:
        known = [audit_search.facets(session, indexed=indexed) for indexed in (True, False)]
        wanted = [audit_search.resolve(session, FILTERS[name], facets) for facets in known]
        found = [audit_search.search(session, 200, None, resolved).rows for resolved in wanted]
        assert [row.id for row in found[0]] == [row.id for row in found[1]]
        assert bool(found[0]) is not name.startswith(("unknown", "target"))


def test_search_for_a_name_that_too_many_have_is_reported(events: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_search, "MAX_TARGETS", 5)
    with Session(events) as session:
        known = audit_search.facets(session, indexed=True)
        assert audit_search.resolve(session, AuditSearch(target="Agent 1"), known).too_many_names
        assert not audit_search.resolve(session, AuditSearch(target="Agent 499"), known).too_many_names


def test_every_existing_action_and_actor_is_offered(events: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_search, "FACET_EVENTS", 10)
    with Session(events) as session:
        found = audit_search.facets(session, indexed=True)
        assert found.complete
        assert len(found.actors) == 41  # 40 and the person who revoked keys
        assert found.actors["jwt:person-7"] == "Person 7"
        assert found.actions == [
            "agent.changed",
            "agent.created",
            "api_key.created",
            "api_key.revoked",
            "widget_key.changed",
        ]
        assert len(audit_search.facets(session, indexed=False).actors) <= 10
        monkeypatch.setattr(audit_search, "MAX_FACETS", 5)
        assert not audit_search.facets(session, indexed=True).complete


def test_log_without_events_offers_nothing(postgres: EmbeddedPostgres, events: Engine) -> None:
    with events.connect() as connection, connection.begin() as transaction:
        connection.execute(text("DELETE FROM audit_events"))
        with Session(connection) as session:
            assert audit_search.facets(session, indexed=True) == AuditFacets({}, [], indexed=True, complete=True)
        transaction.rollback()
