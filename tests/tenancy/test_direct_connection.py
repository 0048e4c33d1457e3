"""A new connection that leads to another server than the last one reports this before its first result."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError

from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import TenantUnavailable
from kataven.tenancy.pg_connection import PgConnection, ServerInstance, SessionFacts
from kataven.tenancy.pooler_check import NEEDS_DIRECT_URL
from kataven.tenancy.serving.histories import ServerHistories
from kataven.tenancy.serving.registry import EngineRegistry
from kataven.tenancy.serving.session import TenantSession
from tests.tenancy.conftest import MakeRegistry
from tests.tenancy.models import Note
from tests.tenancy.proxy import CountingProxy

ANOTHER_START = ServerInstance("2020-01-01 00:00:00+00", 1)


@dataclass
class Cold:
    """Sessions with new connections to a server that the process has connected to before."""

    registry: EngineRegistry
    histories: ServerHistories
    tenant: Tenant
    changes: list[str] = field(default_factory=list)

    def reading(self, statement: str = "SELECT 42") -> object:
        self.registry.forget(self.tenant.account)
        with self.registry.reading(self.tenant) as session:
            return session.execute(text(statement)).scalar_one()

    def known_before(self, instance: ServerInstance, history: str = "") -> None:
        """Pretend that the last connection found this instance."""
        same = self.histories._seen[next(iter(self.histories._seen))]
        self.histories.observe(self.tenant, history or same, instance)
        self.changes.clear()

    @property
    def instance(self) -> ServerInstance:
        found = self.histories.instance_of(self.tenant)
        assert found is not None
        return found


@pytest.fixture
def cold(make_registry: MakeRegistry, acme: Tenant) -> Cold:
    histories = ServerHistories()
    opened = Cold(make_registry(histories=histories), histories, acme)
    histories.subscribe(lambda: opened.changes.append("cleared"))
    opened.reading()
    return opened


@pytest.fixture
def examinations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each time that a connection reads its server's history."""
    seen: list[str] = []
    read_facts = PgConnection.read_facts

    def read(connection: PgConnection) -> SessionFacts:
        seen.append("read")
        return read_facts(connection)

    monkeypatch.setattr(PgConnection, "read_facts", read)
    return seen


def test_a_new_connection_to_a_known_server_costs_no_round_trip(make_registry: MakeRegistry, acme: Tenant) -> None:
    with CountingProxy(acme.url) as proxy:
        trips = []
        for histories in (None, ServerHistories()):
            registry, tenant = make_registry(histories=histories), Tenant("acme", proxy.url)
            for _ in range(3):
                before = proxy.round_trips
                registry.forget("acme")
                with registry.writing(tenant) as session:
                    session.execute(text("SELECT 1"))
                    session.execute(text("SELECT 1"))
                last = proxy.round_trips - before
            registry.close()
            trips.append(last)
        assert trips[0] == trips[1]


def test_the_first_results_are_those_of_the_statement(cold: Cold, examinations: list[str]) -> None:
    assert cold.reading("SELECT 'a % and a :colon'".replace(":", r"\:")) == "a % and a :colon"
    cold.registry.forget("acme")
    with cold.registry.reading(cold.tenant) as session:
        assert session.execute(text("SELECT :n + 1"), {"n": 1}).scalar_one() == 2
        assert session.execute(select(Note)).all() == []
    assert examinations == []


def test_a_restarted_server_with_the_same_history_is_no_change(cold: Cold, examinations: list[str]) -> None:
    real = cold.instance
    cold.known_before(ANOTHER_START)
    assert cold.reading() == 42
    assert (cold.changes, cold.instance) == ([], real)
    assert cold.reading() == 42
    assert examinations == ["read"]


@pytest.mark.parametrize("same_start", [True, False], ids=["promoted", "another server"])
def test_another_history_is_noticed_before_the_result(cold: Cold, *, same_start: bool) -> None:
    real = cold.instance
    cold.known_before(ServerInstance(real.started_at, 7) if same_start else ANOTHER_START, "another/7")
    assert cold.reading() == 42
    assert cold.changes == ["cleared"]
    assert cold.instance == real


def write(session: TenantSession) -> None:
    session.execute(insert(Note).values(text="once"))


def write_many(session: TenantSession) -> None:
    session.execute(text("INSERT INTO notes (text) VALUES (:text)"), [{"text": "once"}, {"text": "twice"}])


@pytest.mark.parametrize("change", [False, True], ids=["same server", "another server"])
@pytest.mark.parametrize(("first", "rows"), [(write, 1), (write_many, 2)])
@pytest.mark.parametrize("mode", ["writing", "autocommit"])
def test_the_first_write_is_executed_once(
    cold: Cold, first: Callable[[TenantSession], None], rows: int, mode: str, *, change: bool
) -> None:
    if change:
        cold.known_before(ANOTHER_START, "another/1")
    cold.registry.forget("acme")
    with getattr(cold.registry, mode)(cold.tenant) as session:
        first(session)
        assert cold.changes == (["cleared"] if change else [])
        session.execute(text("SELECT 1"))
    assert cold.reading("SELECT count(*) FROM notes") == rows


def test_a_statement_that_must_be_alone_can_be_the_first(cold: Cold, examinations: list[str]) -> None:
    cold.registry.forget("acme")
    with cold.registry.autocommit(cold.tenant) as session:
        session.execute(text("VACUUM notes"))
    assert examinations == ["read"]


def test_after_a_failed_first_statement_the_next_is_checked(cold: Cold) -> None:
    """A syntax error is found before the check is executed."""
    cold.known_before(ANOTHER_START, "another/1")
    cold.registry.forget("acme")
    with cold.registry.autocommit(cold.tenant) as session:
        with pytest.raises(DBAPIError):
            session.execute(text("SELEKT 1"))
        session.execute(text("SELECT 1"))
    assert cold.changes == ["cleared"]


def test_an_address_that_leads_to_a_pooler_by_now_is_refused(cold: Cold, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pooler that drops the options."""
    monkeypatch.setattr("kataven.tenancy.pg_connection.ConnectionSettings._options", lambda *_: "")
    with pytest.raises(TenantUnavailable) as refused:
        cold.reading()
    assert refused.value.reason == NEEDS_DIRECT_URL
    monkeypatch.undo()
    assert cold.reading() == 42


def test_a_server_side_cursor_is_checked_first(cold: Cold, examinations: list[str]) -> None:
    cold.registry.forget("acme")
    with cold.registry.writing(cold.tenant) as session:
        driver = session.connection().connection.driver_connection
        assert driver is not None
        with driver.cursor("rows") as cursor:
            cursor.execute("SELECT 42")
            assert cursor.fetchone() == (42,)
    assert examinations == ["read"]
