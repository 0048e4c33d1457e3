"""The write of a revocation intent must not delay the commit that it precedes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.orm import Session

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.revocation.fallback.channel import FallbackUnreachable
from kataven.revocation.target import RevocationTarget
from kataven.system import schema
from kataven.system.database import SystemDatabase
from kataven.system.fallback_channel import SystemFallbackChannel
from kataven.tenancy.directory import Tenant
from kataven.tenancy.serving.registry import EngineRegistry
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

DATABASE = "intents"
TARGET = RevocationTarget("acme", "a key")


@pytest.fixture(scope="module")
def system_url(postgres: EmbeddedPostgres) -> str:
    schema.upgrade_system(postgres.url(DATABASE))
    return postgres.url(DATABASE)


@pytest.mark.parametrize("connected", [True, False], ids=["pooled-connection", "new-connection"])
def test_a_transaction_commits_although_the_system_database_does_not_respond(system_url: str, connected: bool) -> None:
    """An account's database ends a transaction that is idle for 2 s, so the write must give up earlier."""
    socket_folder = make_url(system_url).query["host"]
    account, registry = Tenant("acme", make_url(system_url)), EngineRegistry()
    with Proxy(Path(str(socket_folder)) / ".s.PGSQL.5432") as proxy:
        database = SystemDatabase(f"postgresql+psycopg2://kataven@127.0.0.1:{proxy.port}/{DATABASE}")
        channel = SystemFallbackChannel(database)
        if connected:
            channel.read_state(0)
        proxy.swallow()
        with registry.writing(account) as session:
            session.execute(text("SELECT 1"))
            with pytest.raises(FallbackUnreachable):
                channel.add_intent(TARGET)
        database.close()
    registry.close()


class BlockedDatabase:
    """A system database whose sessions open when `released` is set."""

    def __init__(self, database: SystemDatabase) -> None:
        self.released = threading.Event()
        self._database = database

    def autocommit(self) -> AbstractContextManager[Session]:
        return self._blocked()

    @contextmanager
    def _blocked(self) -> Iterator[Session]:
        self.released.wait()
        with self._database.autocommit() as session:
            yield session


def test_an_intent_that_is_written_too_late_is_removed(system_url: str) -> None:
    database = SystemDatabase(system_url)
    blocked = BlockedDatabase(database)
    with pytest.raises(FallbackUnreachable, match="in time"):
        SystemFallbackChannel(cast("SystemDatabase", blocked)).add_intent(TARGET)
    blocked.released.set()
    wait_until(lambda: not any(thread.name == "revocation-intent" for thread in threading.enumerate()), 30)
    assert SystemFallbackChannel(database).read_state(0).overdue == frozenset()
    database.close()
