"""Database servers in the console: probed in the background, so that no page waits for an unresponsive server."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import OperationalError

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.hub import server_watch
from kataven.hub.server_watch import (
    DEADLINE_SECONDS,
    FRESH_SECONDS,
    STALE_SECONDS,
    CloseConnection,
    ServerState,
    ServerWatch,
)
from kataven.hub.session_middleware import EXTENSION
from tests.hub.conftest import Hub
from tests.hub.hub_browser import HubBrowser
from tests.support.app_harness import AppHarness
from tests.support.clock import Clock
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

SECONDS = 60
CONSOLE, HEALTH, MIGRATIONS = "/console", "/console/health", "/console/migrations?check=1"
SOMEWHERE = make_url("postgresql+psycopg2://nobody@127.0.0.1/postgres")


class Probes:
    """Fake probes: each one blocks until its result is set or its connection is closed."""

    def __init__(self) -> None:
        self.started: list[frozenset[str]] = []
        self.cuts = 0
        self._answers: bool | None = None
        self._changed = threading.Condition()

    def __call__(
        self, url: URL, databases: Collection[str], connected: Callable[[CloseConnection], None]
    ) -> ServerState:
        is_cut = threading.Event()

        def close_connection() -> None:
            with self._changed:
                self.cuts += 1
                is_cut.set()
                self._changed.notify_all()

        self.started.append(frozenset(databases))
        connected(close_connection)
        with self._changed:
            assert self._changed.wait_for(lambda: is_cut.is_set() or self._answers is not None, SECONDS)
            if is_cut.is_set() or not self._answers:
                raise OperationalError("SELECT 1", {}, Exception("gone"))
        return ServerState(True, 1.5, 3, 100, dict.fromkeys(databases, 8192))

    def end(self, *, responds: bool | None) -> None:
        """Set the result of probes. None: they block."""
        with self._changed:
            self._answers = responds
            self._changed.notify_all()


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Probes]:
    monkeypatch.setattr(server_watch, "MAX_WAIT_SECONDS", 0.0)
    probes = Probes()
    yield probes
    probes.end(responds=False)


def test_states_do_not_wait_and_show_the_probe_result_later(probes: Probes) -> None:
    watch = ServerWatch(probes)
    assert watch.states({"pg2": SOMEWHERE})["pg2"].responds is None
    probes.end(responds=True)
    wait_until(lambda: watch.states({"pg2": SOMEWHERE})["pg2"].responds is True, SECONDS)
    state = watch.states({"pg2": SOMEWHERE}, {"pg2": ["acme"]})["pg2"]
    assert (state.ms, state.connections, state.connections_limit) == (1.5, 3, 100)
    wait_until(lambda: watch.states({"pg2": SOMEWHERE})["pg2"].sizes == {"acme": 8192}, SECONDS)


def test_server_is_probed_at_intervals_and_never_concurrently(probes: Probes) -> None:
    clock = Clock()
    watch = ServerWatch(probes, clock)
    for _ in range(5):
        watch.states({"pg2": SOMEWHERE})
    probes.end(responds=True)
    wait_until(lambda: watch.states({"pg2": SOMEWHERE})["pg2"].responds is True, SECONDS)
    watch.states({"pg2": SOMEWHERE})
    clock.advance(FRESH_SECONDS - 1)
    watch.states({"pg2": SOMEWHERE})
    assert len(probes.started) == 1
    clock.advance(1)
    watch.states({"pg2": SOMEWHERE})
    wait_until(lambda: len(probes.started) == 2, SECONDS)


def test_unresponsive_server_is_reported_and_its_connection_closed(probes: Probes) -> None:
    clock = Clock()
    watch = ServerWatch(probes, clock)
    probes.end(responds=True)
    watch.states({"pg2": SOMEWHERE})
    wait_until(lambda: watch.states({"pg2": SOMEWHERE})["pg2"].responds is True, SECONDS)
    probes.end(responds=None)
    clock.advance(FRESH_SECONDS)
    assert watch.states({"pg2": SOMEWHERE})["pg2"].responds is True  # the last known status
    wait_until(lambda: len(probes.started) == 2, SECONDS)
    clock.advance(DEADLINE_SECONDS)
    assert watch.states({"pg2": SOMEWHERE})["pg2"].responds is False
    wait_until(lambda: watch.states({"pg2": SOMEWHERE})["pg2"].responds is False and probes.cuts > 0, SECONDS)
    probes.end(responds=True)
    clock.advance(FRESH_SECONDS)
    wait_until(lambda: watch.states({"pg2": SOMEWHERE})["pg2"].responds is True, SECONDS)


def test_probe_without_a_free_thread_is_tried_again(probes: Probes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    clock = Clock()
    watch = ServerWatch(probes, clock)
    probes.end(responds=True)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert watch.states({"pg2": SOMEWHERE})["pg2"].responds is None
    clock.advance(FRESH_SECONDS)
    wait_until(lambda: watch.states({"pg2": SOMEWHERE})["pg2"].responds is True, SECONDS)


def test_removed_server_is_forgotten(probes: Probes) -> None:
    watch = ServerWatch(probes)
    probes.end(responds=True)
    watch.states({"pg2": SOMEWHERE})
    wait_until(lambda: watch.states({"pg2": SOMEWHERE})["pg2"].responds is True, SECONDS)
    watch.states({})
    probes.end(responds=None)
    assert watch.states({"pg2": SOMEWHERE})["pg2"].responds is None


def test_probe_measures_a_real_server_and_can_be_closed(postgres: EmbeddedPostgres) -> None:
    cuts: list[CloseConnection] = []
    state = server_watch.probe(make_url(postgres.url("postgres")), ["postgres", "not-there"], cuts.append)
    assert state.responds
    assert state.ms
    assert state.connections
    assert state.connections_limit
    assert state.connections_limit >= state.connections
    assert state.sizes["postgres"]
    assert state.sizes["not-there"] is None
    cuts[0]()  # the connection is already closed: no effect


# Pages with an unresponsive server


class SilentServer:
    """Accepts connections and never responds."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def silent(hub: Hub, harness: AppHarness, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The id of an account on an unresponsive server. The Hub has not probed any server yet."""
    server, name, account = SilentServer(), f"silent-{uuid4().hex[:8]}", f"on-silent-{uuid4().hex[:8]}"
    url = f"postgresql+psycopg2://nobody@127.0.0.1:{server.port}/postgres"
    database = harness.services.directory.database
    with database.writing() as session:
        session.execute(
            # Draining, so that no other test places an account there.
            text("INSERT INTO database_servers (name, url, draining) VALUES (:name, :url, true)"),
            {"name": name, "url": url},
        )
        session.execute(
            text(
                "INSERT INTO accounts (account_id, account_name, database_name, server, status, schema_revision)"
                " VALUES (:id, 'On a silent server', :id, :server, 'suspended', 'account_0002')"
            ),
            {"id": account, "server": name},
        )
    monkeypatch.setitem(hub.pages.extensions, EXTENSION, replace(hub.services, servers=ServerWatch()))
    yield account
    with database.writing() as session:
        session.execute(text("DELETE FROM accounts WHERE account_id = :id"), {"id": account})
        session.execute(text("DELETE FROM database_servers WHERE name = :name"), {"name": name})
    server.close()


def test_no_page_waits_for_an_unresponsive_server(
    hub: Hub, silent: str, olivia: HubBrowser, probes: Probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probes block until the end of the test: a page that waits for one would never be returned."""
    monkeypatch.setitem(hub.pages.extensions, EXTENSION, replace(hub.services, servers=ServerWatch(probes)))
    for path in (f"{CONSOLE}?q={silent}", HEALTH, f"{MIGRATIONS}&q={silent}"):
        page = olivia.get(path)
        assert page.status_code == 200
        assert "not responding" not in page.text
    assert "has not responded yet" in olivia.get(f"{MIGRATIONS}&q={silent}").text
    assert ">checking<" in olivia.get(HEALTH).text


def test_unresponsive_server_is_named_on_every_page_that_uses_it(silent: str, olivia: HubBrowser) -> None:
    said = re.compile(r"[Ss]erver (silent-\w+) is not responding")
    for path in (f"{CONSOLE}?q={silent}", HEALTH, f"{MIGRATIONS}&q={silent}"):
        wait_until(lambda path=path: said.search(olivia.get(path).text) is not None, SECONDS)
    health = olivia.get(HEALTH).text
    row = row_of(health, "silent-")
    assert '<td class="num">1</td>' in row  # its account
    assert "It has 1 account, which return 503" in health.partition("Database servers")[0]  # the verdict
    default = health[health.index('<th scope="row">default') :].partition("</tr>")[0]
    assert ">available<" in default
    assert re.search(r'<td class="num">\d+ of \d+</td>', default)
    assert re.search(r'<td class="num">\d+ ms</td>', default)


def test_server_that_goes_silent_is_shown_within_10_seconds_on_the_open_page(
    hub: Hub, harness: AppHarness, postgres: EmbeddedPostgres, olivia: HubBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page refreshes itself every 5 seconds: each refresh advances the clock."""
    clock, name = Clock(), f"goes-silent-{uuid4().hex[:8]}"
    monkeypatch.setitem(hub.pages.extensions, EXTENSION, replace(hub.services, servers=ServerWatch(clock=clock)))
    socket_of_server = Path(make_url(postgres.url("x")).query["host"]) / ".s.PGSQL.5432"  # type: ignore[arg-type]
    user = make_url(postgres.url("x")).username

    def refreshed() -> str:
        page = olivia.get(f"{HEALTH}?part=live", headers={"HX-Request": "true"}).text
        assert not page.startswith("<!doctype"), "the whole page instead of its part"
        return page

    with Proxy(socket_of_server) as proxy:
        database = harness.services.directory.database
        with database.writing() as session:
            session.execute(
                text("INSERT INTO database_servers (name, url, draining) VALUES (:name, :url, true)"),
                {"name": name, "url": f"postgresql+psycopg2://{user}@127.0.0.1:{proxy.port}/postgres"},
            )
        try:
            wait_until(lambda: ">available<" in row_of(refreshed(), name), SECONDS)
            proxy.swallow()
            pages = []
            for _ in range(2):
                clock.advance(5)
                pages.append(refreshed())
            assert f"Server {name} is not responding" in pages[-1]
            assert "server " + name + " is not responding" in row_of(pages[-1], name)
            proxy.heal()
            clock.advance(5)
            wait_until(lambda: ">available<" in row_of(refreshed(), name), SECONDS)
        finally:
            with database.writing() as session:
                session.execute(text("DELETE FROM database_servers WHERE name = :name"), {"name": name})


def row_of(page: str, server: str) -> str:
    return page[page.index(f'<th scope="row">{server}') :].partition("</tr>")[0]


def test_old_status_is_unknown_until_the_server_responds_again(probes: Probes) -> None:
    """No page was open for a while. The server may have gone silent since."""
    clock = Clock()
    watch = ServerWatch(probes, clock)
    probes.end(responds=True)
    wait_until(lambda: watch.states({"pg2": SOMEWHERE})["pg2"].responds is True, SECONDS)
    assert watch.states({"pg2": SOMEWHERE})["pg2"].age == 0
    probes.end(responds=None)
    clock.advance(STALE_SECONDS)
    assert watch.states({"pg2": SOMEWHERE})["pg2"].responds is None
    probes.end(responds=True)
    wait_until(lambda: watch.states({"pg2": SOMEWHERE})["pg2"].responds is True, SECONDS)


def test_database_sizes_are_shown_when_known(hub: Hub, olivia: HubBrowser) -> None:
    wait_until(
        lambda: re.search(r'<td class="num">[\d.]+ MB</td>', olivia.get(f"{CONSOLE}?q=acme").text) is not None, SECONDS
    )
