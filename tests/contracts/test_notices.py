"""What a place of notices must do: the system database, and the twin that the simulation plays with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from kataven.dev.postgres import EmbeddedPostgres
from kataven.revocation.notices import Notice, Notices, NoticesUnreachable, Reader
from kataven.system import schema
from kataven.system.database import SystemDatabase
from kataven.system.notices import SystemNotices
from tests.revocation.simulation.notices_model import NoticesModel, NoticesOf

ALICE, BOB = Reader("alice", "host a", 11), Reader("bob", "host b", 12)
DATABASE = "notices"


@pytest.fixture(scope="module")
def prepared(postgres: EmbeddedPostgres) -> str:
    url = postgres.url(DATABASE)
    schema.upgrade_system(url)
    return url


@pytest.fixture
def database(prepared: str) -> Iterator[SystemDatabase]:
    database = SystemDatabase(prepared)
    with database.writing() as session:
        session.execute(text("DELETE FROM revocation_readers"))
    yield database
    database.close()


@pytest.fixture(params=["the system database", "its twin"])
def notices(request: pytest.FixtureRequest, database: SystemDatabase) -> Notices:
    if request.param == "its twin":
        return NoticesOf(NoticesModel(), lambda: True, lambda: None)
    return SystemNotices(database)


def test_every_notice_is_another_one_and_counts_on(notices: Notices) -> None:
    before = notices.current()
    first, second = notices.post().notice, notices.post().notice
    assert notices.current() == second
    assert len({before.mark, first.mark, second.mark}) == 3
    assert [first.count, second.count] == [before.count + 1, before.count + 2]


def test_reader_is_on_the_list_from_its_first_beat_and_told_what_is_posted(notices: Notices) -> None:
    posted = notices.post().notice
    assert notices.beat(ALICE, None) == posted
    notices.beat(BOB, None)
    notices.beat(BOB, None)
    assert notices.post().readers == {ALICE: 1, BOB: 2}


def test_reader_that_says_it_has_read_the_latest_is_no_longer_missing(notices: Notices) -> None:
    notices.beat(ALICE, None)
    notices.beat(BOB, None)
    posted = notices.post().notice
    assert notices.unread(posted) == {ALICE, BOB}
    notices.beat(ALICE, posted)
    assert notices.unread(posted) == {BOB}
    notices.beat(ALICE, None)
    assert notices.unread(posted) == {BOB}


def test_reader_that_has_read_a_later_notice_has_read_the_earlier_one(notices: Notices) -> None:
    notices.beat(ALICE, None)
    earlier, later = notices.post().notice, notices.post().notice
    notices.beat(ALICE, earlier)  # no longer the latest: it is told so, and reads on
    assert notices.unread(earlier) == {ALICE}
    notices.beat(ALICE, later)
    assert notices.unread(earlier) == notices.unread(later) == frozenset()


def test_notice_of_another_past_is_not_read_for_having_the_same_count(notices: Notices) -> None:
    """As after a backup was restored."""
    notices.beat(ALICE, None)
    posted = notices.post().notice
    notices.beat(ALICE, Notice(posted.count, "00000000-0000-0000-0000-000000000000"))
    assert notices.unread(posted) == {ALICE}


def test_only_who_has_not_written_since_is_taken_off(notices: Notices) -> None:
    notices.beat(ALICE, None)
    notices.beat(BOB, None)
    seen = notices.beats()
    notices.beat(BOB, None)
    notices.remove(seen)
    assert notices.beats() == {BOB: 2}
    notices.remove({})
    notices.leave(BOB)
    assert notices.beats() == {}


def test_database_that_can_not_be_reached_or_has_no_such_tables_says_so(postgres: EmbeddedPostgres) -> None:
    for name in ("no_such_database", "postgres"):
        database = SystemDatabase(postgres.url(name))
        with pytest.raises(NoticesUnreachable, match="system database"):
            SystemNotices(database).current()
        database.close()


def test_database_that_only_reads_gives_nobody_a_lease(database: SystemDatabase) -> None:
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"ALTER DATABASE {DATABASE} SET default_transaction_read_only = on"))
        try:
            database.engine.dispose()
            notices = SystemNotices(database)
            assert notices.current()
            with pytest.raises(NoticesUnreachable):
                notices.beat(ALICE, None)
        finally:
            connection.execute(text("SET default_transaction_read_only = off"))
            connection.execute(text(f"ALTER DATABASE {DATABASE} RESET default_transaction_read_only"))
