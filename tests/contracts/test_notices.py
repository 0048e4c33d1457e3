"""What a place of notices must do: the system database, and the twin that the simulation plays with."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from kataven.dev.postgres import EmbeddedPostgres
from kataven.revocation.notices import INTENT_SECONDS, Beat, Notice, Notices, NoticesUnreachable, Reader
from kataven.revocation.scope import EVERYTHING, Scope
from kataven.system import schema
from kataven.system.database import SystemDatabase
from kataven.system.notices import SystemNotices
from tests.revocation.simulation.notices_model import NoticesModel, NoticesOf

ALICE, BOB = Reader("alice", "host a", 11), Reader("bob", "host b", 12)
DATABASE = "notices"


_counts = itertools.count(1)


def beat(notices: Notices, reader: Reader, read: Notice | None, redis: str = "here") -> Notice:
    return notices.beat(Beat(reader, next(_counts), read, redis))


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
        session.execute(text("DELETE FROM revocation_intents"))
    yield database
    database.close()


@pytest.fixture(params=["the system database", "its twin"])
def notices(request: pytest.FixtureRequest, database: SystemDatabase) -> Notices:
    if request.param == "its twin":
        return NoticesOf(NoticesModel(), lambda: True, lambda: None)
    return SystemNotices(database)


def test_every_notice_is_another_one_and_counts_on(notices: Notices) -> None:
    before = notices.current(0).notice
    first, second = notices.post().notice, notices.post().notice
    assert notices.current(0).notice == second
    assert len({before.mark, first.mark, second.mark}) == 3
    assert [first.count, second.count] == [before.count + 1, before.count + 2]


def test_reader_is_on_the_list_from_its_first_beat_and_told_what_is_posted(notices: Notices) -> None:
    posted = notices.post().notice
    assert beat(notices, ALICE, None) == posted
    notices.beat(Beat(BOB, 7, None, "here"))
    notices.beat(Beat(BOB, 8, None, "here"))
    assert notices.post().readers.keys() == {ALICE, BOB}
    assert notices.post().readers[BOB] == 8


def test_reader_that_says_it_has_read_the_latest_is_no_longer_missing(notices: Notices) -> None:
    beat(notices, ALICE, None)
    beat(notices, BOB, None)
    posted = notices.post().notice
    assert notices.unread(posted) == {ALICE, BOB}
    beat(notices, ALICE, posted)
    assert notices.unread(posted) == {BOB}
    beat(notices, ALICE, None)
    assert notices.unread(posted) == {BOB}


def test_reader_that_has_read_a_later_notice_has_read_the_earlier_one(notices: Notices) -> None:
    beat(notices, ALICE, None)
    earlier, later = notices.post().notice, notices.post().notice
    beat(notices, ALICE, earlier)  # no longer the latest: it is told so, and reads on
    assert notices.unread(earlier) == {ALICE}
    beat(notices, ALICE, later)
    assert notices.unread(earlier) == notices.unread(later) == frozenset()


def test_notice_of_another_past_is_not_read_for_having_the_same_count(notices: Notices) -> None:
    """As after a backup was restored."""
    beat(notices, ALICE, None)
    posted = notices.post().notice
    beat(notices, ALICE, Notice(posted.count, "00000000-0000-0000-0000-000000000000"))
    assert notices.unread(posted) == {ALICE}


def test_only_who_has_not_written_since_is_taken_off(notices: Notices) -> None:
    beat(notices, ALICE, None)
    beat(notices, BOB, None)
    seen = notices.beats()
    beat(notices, BOB, None)
    notices.remove(seen)
    assert notices.beats().keys() == {BOB}
    notices.remove({})
    notices.leave(BOB)
    assert notices.beats() == {}


def test_reader_is_elsewhere_if_it_renews_at_another_redis(notices: Notices) -> None:
    beat(notices, ALICE, None)
    beat(notices, BOB, None, "")  # it holds no lease
    assert notices.elsewhere("here") == frozenset()
    assert notices.elsewhere("there") == {ALICE}
    beat(notices, BOB, None, "there")
    beat(notices, ALICE, None, "there")
    assert notices.elsewhere("there") == frozenset()
    assert notices.elsewhere("here") == {ALICE, BOB}


def test_intent_is_unfinished_from_its_patience_until_it_is_complete(notices: Notices) -> None:
    key, account = Scope("acme", "a key"), Scope("globex")
    intents = [notices.intend(key), notices.intend(account), notices.intend(EVERYTHING)]
    assert notices.current(0).unfinished == {key, account, EVERYTHING}
    assert notices.current(INTENT_SECONDS / 2).unfinished == frozenset()
    notices.complete(intents[:1])
    assert notices.current(0).unfinished == {account, EVERYTHING}
    notices.complete(intents)
    assert notices.current(0).unfinished == frozenset()


def test_reader_from_a_release_that_does_not_say_where_it_renews_may_be_anywhere(database: SystemDatabase) -> None:
    notices = SystemNotices(database)
    beat(notices, ALICE, None)
    with database.writing() as session:
        session.execute(text("UPDATE revocation_readers SET redis = NULL"))
    assert notices.elsewhere("here") == {ALICE}


def test_intent_that_nobody_completed_is_dropped_when_its_change_can_no_longer_be_committed(
    database: SystemDatabase,
) -> None:
    notices = SystemNotices(database)
    notices.intend(Scope("acme"))
    with database.writing() as session:
        session.execute(text("UPDATE revocation_intents SET begun_at = begun_at - interval '61 seconds'"))
    assert notices.current(0).unfinished == frozenset()
    notices.complete(())
    with database.reading() as session:
        assert session.scalar(text("SELECT count(*) FROM revocation_intents")) == 0


def test_reader_that_was_taken_off_and_came_back_has_written_since(notices: Notices) -> None:
    """Whoever saw its first beat must not take it for one that has been silent since."""
    notices.beat(Beat(ALICE, 1, None, "here"))
    seen = notices.beats()
    notices.remove(seen)
    notices.beat(Beat(ALICE, 2, None, "here"))
    notices.remove(seen)
    assert notices.beats() == {ALICE: 2}


def test_beat_that_arrives_after_a_later_one_changes_nothing(notices: Notices) -> None:
    """The worker stopped waiting for it, and wrote again over another connection; the server executes it afterwards."""
    seen = notices.post().notice
    notices.beat(Beat(ALICE, 2, None, "redis b"))
    notices.beat(Beat(ALICE, 1, seen, "redis a"))
    assert notices.elsewhere("redis a") == {ALICE}
    assert notices.elsewhere("redis b") == frozenset()
    assert notices.beats() == {ALICE: 2}
    assert notices.unread(seen) == {ALICE}


def test_database_that_can_not_be_reached_or_has_no_such_tables_says_so(postgres: EmbeddedPostgres) -> None:
    for name in ("no_such_database", "postgres"):
        database = SystemDatabase(postgres.url(name))
        with pytest.raises(NoticesUnreachable, match="system database"):
            SystemNotices(database).current(0)
        database.close()


def test_database_that_only_reads_gives_nobody_a_lease(database: SystemDatabase) -> None:
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"ALTER DATABASE {DATABASE} SET default_transaction_read_only = on"))
        try:
            database.engine.dispose()
            notices = SystemNotices(database)
            assert notices.current(0).notice
            with pytest.raises(NoticesUnreachable):
                beat(notices, ALICE, None)
        finally:
            connection.execute(text("SET default_transaction_read_only = off"))
            connection.execute(text(f"ALTER DATABASE {DATABASE} RESET default_transaction_read_only"))
