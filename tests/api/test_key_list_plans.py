"""Lists of many API keys use indexes. `EXPLAIN` of the statements that the pages execute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from kataven.account import audit
from kataven.account.key_listing import Hygiene, KeyOrder, KeyQuery, page_of_keys
from kataven.account.key_search import KeyFilter, search
from kataven.account.key_status import NEWEST_COLUMNS, KeyStatus
from tests.support.app_harness import AppHarness, new_account

ACCOUNT, KEYS = "many-keys", 4_000
FILL = """
INSERT INTO api_keys (id, name, key_hash, pepper_id, hint, created_by, created_at, paused_at, not_before,
                      browser_use_at, expires_at)
SELECT gen_random_uuid(), 'Server ' || n, sha256(('plans ' || n)::bytea), 'dev1', lpad(n::text, 8, '0'), 'test',
       now() - n * interval '1 minute', CASE WHEN n % 900 = 7 THEN now() END, CASE WHEN n % 900 = 8 THEN now() END,
       CASE WHEN n % 900 = 9 THEN now() END, now() + n * interval '1 hour'
FROM generate_series(1, :count) n
"""
EVENTS = """
INSERT INTO audit_events (id, created_at, actor, actor_name, action, target)
SELECT gen_random_uuid(), now() - n * interval '1 minute', 'test', 'test', 'agent.created', gen_random_uuid()::text
FROM generate_series(1, :count) n
"""


@pytest.fixture(scope="module")
def session(harness: AppHarness) -> Iterator[Session]:
    new_account(harness.services, ACCOUNT)
    record = harness.services.directory.read(ACCOUNT)
    assert record is not None
    with harness.services.registry.writing(record.tenant) as session:
        for statement in (FILL, EVENTS):
            session.execute(text(statement), {"count": KEYS})
    with harness.services.registry.writing(record.tenant) as session:
        session.execute(text("ANALYZE api_keys, audit_events"))
        yield session


def plan_of(session: Session, read: Callable[[Session], Any]) -> str:
    statements: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    connection = session.connection()
    event.listen(connection, "before_cursor_execute", note)
    try:
        read(session)
    finally:
        event.remove(connection, "before_cursor_execute", note)
    (found,) = statements
    cursor = connection.connection.cursor()
    cursor.execute(f"EXPLAIN {found[0]}", found[1])
    return "\n".join(str(row[0]) for row in cursor.fetchall())


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (KeyQuery(), "api_keys_newest_first"),
        (KeyQuery(group=KeyStatus.ACTIVE), "api_keys_newest_first"),
        (KeyQuery(group=KeyStatus.PAUSED), "api_keys_with_paused_at"),
        (KeyQuery(group=KeyStatus.NOT_YET_VALID), "api_keys_with_not_before"),
        (KeyQuery(group=Hygiene.BROWSER_USE), "api_keys_with_browser_use_at"),
        (KeyQuery(order=KeyOrder.NAME), "api_keys_by_name"),
        (KeyQuery(order=KeyOrder.NAME_REVERSED), "api_keys_by_name"),
        (KeyQuery(order=KeyOrder.EXPIRY), "api_keys_by_expiry"),
        (KeyQuery(group=Hygiene.EXPIRES_SOON, order=KeyOrder.EXPIRY), "api_keys_by_expiry"),
        (KeyQuery(group=Hygiene.ROTATION_DUE, rotate_after=timedelta(hours=9)), "api_keys_newest_first"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.group}-{value.order.value}",
)
def test_page_of_the_hub_uses_an_index(session: Session, wanted: KeyQuery, index: str) -> None:
    plan = plan_of(session, lambda it: page_of_keys(it, wanted, NEWEST_COLUMNS, 50, None))
    choice = plan[plan.index("Limit ") :]  # the rows are joined afterwards, for which a small table is scanned
    assert index in choice, plan
    assert "Seq Scan on api_keys api_keys_1" not in choice, plan


@pytest.mark.parametrize("order", [KeyOrder.LAST_USED, KeyOrder.LEAST_USED])
def test_rows_are_converted_only_after_the_limit(session: Session, order: KeyOrder) -> None:
    """No index has the last use. The row as JSON, which is slow, is computed for 51 rows and not for all."""
    plan = plan_of(session, lambda it: page_of_keys(it, KeyQuery(order=order), NEWEST_COLUMNS, 50, None))
    sort = plan[plan.index("Limit ") :].splitlines()[1]
    assert f"rows={KEYS}" in sort, plan
    assert int(sort.rpartition("width=")[2].rstrip(")")) < 40, plan


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (KeyFilter(), "api_keys_newest_first"),
        (KeyFilter(status=KeyStatus.PAUSED), "api_keys_with_paused_at"),
        (KeyFilter(status=KeyStatus.NOT_YET_VALID), "api_keys_with_not_before"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_page_of_the_api_uses_an_index(session: Session, wanted: KeyFilter, index: str) -> None:
    assert index in plan_of(session, lambda it: search(it, 50, None, wanted, NEWEST_COLUMNS))


def test_events_of_a_key_use_an_index(session: Session) -> None:
    assert "audit_events_of_target" in plan_of(session, lambda it: audit.of_target(it, "a key", 20))
