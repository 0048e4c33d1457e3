"""Marked statements are planned once per connection, with the same results as other statements."""

import pytest
from sqlalchemy import bindparam, insert, literal_column, select, text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.tenancy.directory import Tenant
from kataven.tenancy.prepared_statements import PREPARED
from kataven.tenancy.serving.histories import ServerHistories
from kataven.tenancy.serving.registry import EngineRegistry
from tests.tenancy.conftest import MakeRegistry, MakeTenant, connected
from tests.tenancy.models import Note

BY_TEXT = (
    select(Note.id, Note.text)
    .where((Note.text == bindparam("given")) | (Note.text == bindparam("given") + "%"))
    .order_by(Note.id)
    .prefix_with(PREPARED)
)
COUNT = text("SELECT count(*) FROM pg_prepared_statements")


@pytest.fixture
def registry(make_registry: MakeRegistry) -> EngineRegistry:
    return make_registry(histories=ServerHistories())


@pytest.fixture
def notes(registry: EngineRegistry, acme: Tenant) -> Tenant:
    with registry.writing(acme) as session:
        session.execute(insert(Note), [{"text": "one"}, {"text": "one%"}, {"text": "it's"}])
    registry.forget("acme")
    return acme


@pytest.mark.parametrize("mode", ["reading", "writing", "autocommit"])
def test_a_marked_statement_is_prepared_once(registry: EngineRegistry, notes: Tenant, mode: str) -> None:
    for _ in range(2):
        with getattr(registry, mode)(notes) as session:
            for given, found in (("one", ["one", "one%"]), ("it's", ["it's"]), ("none", [])):
                assert [row.text for row in session.execute(BY_TEXT, {"given": given})] == found
            session.execute(select(Note.id)).all()
            assert session.scalar(COUNT) == 1


def test_a_statement_is_not_prepared_through_a_pooler(registry: EngineRegistry, notes: Tenant) -> None:
    pooled = Tenant("acme", notes.url, direct_url=notes.url)
    with registry.reading(pooled) as session:
        assert [row.text for row in session.execute(BY_TEXT, {"given": "it's"})] == ["it's"]
        assert session.scalar(COUNT) == 0


def test_a_statement_is_not_prepared_if_poolers_are_not_detected(make_registry: MakeRegistry, acme: Tenant) -> None:
    with make_registry().reading(acme) as session:
        assert session.execute(BY_TEXT, {"given": "none"}).all() == []
        assert session.scalar(COUNT) == 0


def test_a_migration_does_not_break_prepared_statements(
    registry: EngineRegistry, make_tenant: MakeTenant, postgres: EmbeddedPostgres
) -> None:
    tenant, statement = make_tenant("migrated"), select(literal_column("*")).select_from(Note).prefix_with(PREPARED)
    with registry.autocommit(tenant) as session:
        assert session.connection().execute(statement, {}).all() == []
        with connected(postgres, "migrated") as connection:
            connection.execute(text("ALTER TABLE notes ADD COLUMN colour text"))
        found = session.connection().exec_driver_sql("SELECT /* prepared */ * FROM notes", {})
        assert "colour" in found.keys()  # noqa: SIM118 - of a result, not of a dictionary
        with connected(postgres, "migrated") as connection:
            connection.execute(text("ALTER TABLE notes DROP COLUMN colour"))
        for _ in range(2):
            found = session.connection().exec_driver_sql("SELECT /* prepared */ * FROM notes", {})
            assert "colour" not in found.keys()  # noqa: SIM118


def test_a_session_that_has_lost_its_prepared_statements_is_served(registry: EngineRegistry, notes: Tenant) -> None:
    with registry.reading(notes) as session:
        for _ in range(2):
            assert len(session.execute(BY_TEXT, {"given": "one"}).all()) == 2
            session.execute(text("DEALLOCATE ALL"))


def test_a_failed_statement_is_prepared_again(
    registry: EngineRegistry, make_tenant: MakeTenant, postgres: EmbeddedPostgres
) -> None:
    tenant, statement = make_tenant("late"), "SELECT /* prepared */ 1 / %(number)s FROM late"
    with registry.reading(tenant) as session:
        for number in (0, 1):
            with pytest.raises(ProgrammingError):
                session.connection().exec_driver_sql(statement, {"number": number})
        with connected(postgres, "late") as connection:
            connection.execute(text("CREATE TABLE late AS SELECT 1"))
        assert session.connection().exec_driver_sql(statement, {"number": 1}).scalar() == 1
        with pytest.raises(DBAPIError, match="division by zero"):
            session.connection().exec_driver_sql(statement, {"number": 0})
        assert session.connection().exec_driver_sql(statement, {"number": 1}).scalar() == 1


def test_a_statement_that_fails_stays_prepared(registry: EngineRegistry, notes: Tenant) -> None:
    statement = "SELECT /* prepared */ 1 / %(number)s"
    with registry.reading(notes) as session:
        connection = session.connection()
        assert connection.exec_driver_sql(statement, {"number": 1}).scalar() == 1
        for _ in range(3):
            with pytest.raises(DBAPIError, match="division by zero"):
                connection.exec_driver_sql(statement, {"number": 0})
        assert connection.exec_driver_sql(statement, {"number": 1}).scalar() == 1
        assert session.scalar(COUNT) == 1


def test_a_statement_that_was_not_sent_is_not_prepared(registry: EngineRegistry, notes: Tenant) -> None:
    with registry.writing(notes) as session:
        with pytest.raises(ValueError, match="NUL"):
            session.execute(BY_TEXT, {"given": "\0"})
        assert [row.text for row in session.execute(BY_TEXT, {"given": "it's"})] == ["it's"]
