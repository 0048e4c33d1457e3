"""Lists that are read as rows equal the lists of entities, on every page and with every filter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from sqlalchemy import bindparam
from sqlalchemy.orm import Session

from kataven.account import agents, audit
from kataven.account.audit import Actor
from kataven.account.models import Agent, AuditEvent
from kataven.account.paging import Page, Position
from kataven.account.row_list import RowList
from kataven.api.agents import AgentView
from kataven.api.audit_events import AuditEventView
from kataven.tenancy.directory import Tenant
from kataven.web.inputs.agents import AgentInput
from kataven.web.paging import encode
from kataven.web.schema import dump_json, fields_of
from tests.support.app_harness import AppHarness, Caller

ACTOR = Actor("jwt:alice", "Alice", "request-1", "192.0.2.7")


@pytest.fixture
def tenant(harness: AppHarness) -> Tenant:
    account = harness.services.directory.find("acme")
    assert account is not None
    return account.tenant


def pages(page: Callable[[Position | None], Page[Any]]) -> list[Page[Any]]:
    found = [page(None)]
    while (after := found[-1].next) is not None:
        found.append(page(after))
    return found


def written(found: list[Page[Any]], shape: Callable[[Any], Mapping[str, Any]]) -> list[Any]:
    return [
        (orjson.loads(dump_json([shape(row) for row in page.rows])), page.next and encode(page.next)) for page in found
    ]


def test_agents_of_one_moment_have_the_same_pages_as_entities(harness: AppHarness, tenant: Tenant) -> None:
    moment = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
    with harness.services.registry.writing(tenant) as session:
        for number in range(7):
            agent = agents.create(session, AgentInput(name=f"100 % {number}").model_dump(), ACTOR)
            agent.created_at = moment + timedelta(microseconds=number // 3)
    columns = tuple(AgentView.model_fields)
    listed = RowList(Agent, columns)

    def rows(after: Position | None) -> Page[Any]:
        return listed.page(lambda query, values: harness.services.registry.rows(tenant, query, values), 2, after)

    with harness.services.registry.reading(tenant) as session:
        entities = pages(lambda after: agents.listing(session, 2, after))
        assert len(entities) >= 4
        assert written(pages(rows), dict) == written(entities, lambda agent: fields_of(agent, columns))


def _record(session: Session, action: str, number: int) -> None:
    audit.record(session, ACTOR, action, uuid4(), {"name": f"« {number} »", "nested": {"list": [1, None, True]}})


@pytest.mark.parametrize("given", [{}, {"action": "listed.once"}, {"actor": "jwt:alice", "action": "listed.twice"}])
def test_audit_events_have_the_same_pages_with_each_filter(
    harness: AppHarness, tenant: Tenant, given: dict[str, str]
) -> None:
    with harness.services.registry.writing(tenant) as session:
        for number, action in enumerate(("listed.once", "listed.twice", "listed.twice")):
            _record(session, action, number)
    columns = tuple(AuditEventView.model_fields)
    filters = {name: getattr(AuditEvent, name) == bindparam(name) for name in ("action", "actor")}
    listed = RowList(AuditEvent, columns, filters)

    def rows(after: Position | None) -> Page[Any]:
        return listed.page(harness_rows, 2, after, action=given.get("action"), actor=given.get("actor"))

    def harness_rows(query: Any, values: Mapping[str, Any]) -> Any:
        return harness.services.registry.rows(tenant, query, values)

    with harness.services.registry.reading(tenant) as session:
        entities = pages(lambda after: audit.listing(session, 2, after, given.get("action"), given.get("actor")))
        assert written(pages(rows), dict) == written(entities, lambda event: fields_of(event, columns))


def test_audit_log_is_filtered_by_the_api(acme_key: Caller, alice: Caller) -> None:
    created = acme_key.post("/v1/agents", {"name": "Logged"}).get_json()["id"]
    found = alice.get("/v1/audit-events?action=agent.created&limit=1").get_json()
    assert [(event["action"], event["target"]) for event in found] == [("agent.created", created)]
    assert UUID(found[0]["id"])
    assert alice.get("/v1/audit-events?action=agent.created&actor=jwt:nobody-of-acme").get_json() == []
