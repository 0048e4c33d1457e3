"""Sessions and rows belong to an account; sessions reject rows of another account."""

import pytest
from sqlalchemy import create_engine, insert, select, text, update

from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import NoTenant, ReadOnlySession, TenantUnavailable, WrongTenant
from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.tenancy.serving.session import TenantSession
from kataven.tenancy.testing import account_of
from tests.tenancy.conftest import MakeRegistry
from tests.tenancy.models import Note, Tag


def test_a_row_keeps_its_account_after_its_session_is_closed(make_registry: MakeRegistry, acme: Tenant) -> None:
    registry = make_registry(session_options={"expire_on_commit": False})
    with registry.writing(acme) as session:
        added = Note(text="added")
        assert account_of(added) is None
        session.add(added)
    with registry.reading(acme) as session:
        loaded = session.get_one(Note, added.id)
    assert account_of(added) == account_of(loaded) == "acme"


def test_a_session_rejects_rows_of_another_account(make_registry: MakeRegistry, acme: Tenant, globex: Tenant) -> None:
    registry = make_registry()
    with registry.writing(acme) as session:
        note = Note(text="acme's own")
        session.add(note)
    with registry.writing(globex) as session:
        with pytest.raises(WrongTenant, match="'globex' received a row or bind of 'acme'"):
            session.add(note)
        with pytest.raises(WrongTenant):
            session.delete(note)
        with pytest.raises(WrongTenant):
            session.merge(note)
        with pytest.raises(WrongTenant):
            session.merge_all([note])
        with session.no_autoflush, pytest.raises(WrongTenant):
            session.merge(Tag(word="a new row of globex, beside an old one of acme", note=note))
        with pytest.raises(WrongTenant):
            session.add(Tag(word="the same, by cascade", note=note))
        session.rollback()
        assert session.scalars(select(Note)).all() == []


def test_a_row_can_be_merged_into_another_session_of_its_account(make_registry: MakeRegistry, acme: Tenant) -> None:
    registry = make_registry(session_options={"expire_on_commit": False})
    with registry.writing(acme) as session:
        session.add(note := Note(text="first"))
    with registry.writing(acme) as session:
        session.merge(note).text = "second"
    with registry.reading(acme) as session:
        assert [row.text for row in session.scalars(select(Note))] == ["second"]


def test_a_session_rejects_another_bind(make_registry: MakeRegistry, acme: Tenant, globex: Tenant) -> None:
    registry = make_registry()
    other = create_engine(globex.url)
    with registry.reading(acme) as session:
        with pytest.raises(WrongTenant):
            session.execute(text("SELECT 1"), bind_arguments={"bind": other})
        assert session.execute(text("SELECT current_database()")).scalar_one() == "acme"
    other.dispose()


def test_a_session_requires_a_tenant(make_registry: MakeRegistry, acme: Tenant) -> None:
    registry = make_registry()
    with pytest.raises(NoTenant), registry.reading(None):  # type: ignore[arg-type]
        pass
    with registry.reading(acme) as session, pytest.raises(NoTenant):
        TenantSession("", session.connection(), read_only=True)


def test_a_read_only_session_rejects_writes(make_registry: MakeRegistry, acme: Tenant) -> None:
    registry = make_registry()
    with registry.writing(acme) as session:
        session.add(Note(text="before"))
    with registry.reading(acme) as session:
        before = [note.text for note in session.scalars(select(Note).order_by(Note.id))]
        change, added = update(Note).values(text="after"), insert(Note).values(text="after").returning(Note.id)
        for write in (
            lambda: session.execute(change),
            lambda: session.execute(added),
            lambda: session.execute(insert(Note), [{"text": "after"}]),
            lambda: session.scalars(added),
            lambda: session.scalar(added),
            lambda: session.query(Note).update({"text": "after"}),
            lambda: session.query(Note).delete(),
        ):
            with pytest.raises(ReadOnlySession):
                write()
        session.scalars(select(Note)).first().text = "after"  # type: ignore[union-attr]
        with pytest.raises(ReadOnlySession):
            session.flush()
    with registry.reading(acme) as session:
        assert [note.text for note in session.scalars(select(Note).order_by(Note.id))] == before


def test_bulk_methods_that_bypass_the_checks_are_rejected(make_registry: MakeRegistry, acme: Tenant) -> None:
    with make_registry().writing(acme) as session:
        with pytest.raises(NotImplementedError):
            session.bulk_save_objects([Note(text="x")])
        with pytest.raises(NotImplementedError):
            session.bulk_insert_mappings(Note, [{"text": "x"}])
        with pytest.raises(NotImplementedError):
            session.bulk_update_mappings(Note, [{"id": 1, "text": "x"}])


def test_an_autocommit_statement_commits_immediately_and_holds_no_lock(
    make_registry: MakeRegistry, acme: Tenant
) -> None:
    registry = make_registry()
    with registry.writing(acme) as session:
        session.add(Note(text="first"))
    with registry.autocommit(acme) as autocommit:
        autocommit.execute(update(Note).values(text="updated"))
        with registry.writing(acme) as session:
            session.execute(select(Note).with_for_update(nowait=True))
            session.execute(update(Note).values(text="second"))
    with registry.reading(acme) as session:
        assert session.scalars(select(Note.text)).all() == ["second"]


def test_an_idle_transaction_is_ended_before_sessions_that_wait_for_its_lock_time_out(
    make_registry: MakeRegistry, acme: Tenant
) -> None:
    """For example because its process is paused."""
    settings = ConnectionSettings(idle_in_transaction_timeout_seconds=0.1)
    registry = make_registry(connection_settings=settings)
    with registry.writing(acme) as session:
        session.add(Note(text="first"))

    def stay_idle() -> None:
        with registry.writing(acme) as idle:
            idle.execute(update(Note).values(text="idle"))
            with registry.writing(acme) as session:
                session.execute(update(Note).values(text="second"))
            idle.execute(update(Note).values(text="late"))

    with pytest.raises(TenantUnavailable, match="connection was lost"):
        stay_idle()
    with registry.reading(acme) as session:
        assert session.scalars(select(Note.text)).all() == ["second"]


def test_the_lock_timeout_exceeds_the_idle_transaction_timeout() -> None:
    settings = ConnectionSettings()
    assert settings.idle_in_transaction_timeout_seconds < settings.lock_timeout_seconds
    assert settings.lock_timeout_seconds < settings.statement_timeout_seconds
