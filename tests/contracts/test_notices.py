"""What a place of notices must do: the system database, and the twin that the simulation plays with."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.revocation.fallback.channel import (
    INTENT_SECONDS,
    FallbackChannel,
    FallbackNotice,
    FallbackUnreachable,
    PollerHeartbeat,
    PollerId,
)
from kataven.revocation.target import EVERYTHING, RevocationTarget
from kataven.system import schema
from kataven.system.database import SystemDatabase
from kataven.system.fallback_channel import SystemFallbackChannel
from tests.revocation.simulation.notices_model import NoticesModel, NoticesOf

ALICE, BOB = PollerId("alice", "host a", 11), PollerId("bob", "host b", 12)
DATABASE = "notices"


_counts = itertools.count(1)


def heartbeat(
    fallback: FallbackChannel, reader: PollerId, read: FallbackNotice | None, redis: str = "here"
) -> FallbackNotice:
    return fallback.heartbeat(PollerHeartbeat(reader, next(_counts), read, redis))


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
def fallback(request: pytest.FixtureRequest, database: SystemDatabase) -> FallbackChannel:
    if request.param == "its twin":
        return NoticesOf(NoticesModel(), lambda: True, lambda: None)
    return SystemFallbackChannel(database)


def test_every_notice_is_another_one_and_counts_on(fallback: FallbackChannel) -> None:
    before = fallback.current(0).notice
    first, second = fallback.post().notice, fallback.post().notice
    assert fallback.current(0).notice == second
    assert len({before.mark, first.mark, second.mark}) == 3
    assert [first.count, second.count] == [before.count + 1, before.count + 2]


def test_reader_is_on_the_list_from_its_first_beat_and_told_what_is_posted(fallback: FallbackChannel) -> None:
    posted = fallback.post().notice
    assert heartbeat(fallback, ALICE, None) == posted
    fallback.heartbeat(PollerHeartbeat(BOB, 7, None, "here"))
    fallback.heartbeat(PollerHeartbeat(BOB, 8, None, "here"))
    assert fallback.post().readers.keys() == {ALICE, BOB}
    assert fallback.post().readers[BOB] == 8


def test_reader_that_says_it_has_read_the_latest_is_no_longer_missing(fallback: FallbackChannel) -> None:
    heartbeat(fallback, ALICE, None)
    heartbeat(fallback, BOB, None)
    posted = fallback.post().notice
    assert fallback.unread(posted) == {ALICE, BOB}
    heartbeat(fallback, ALICE, posted)
    assert fallback.unread(posted) == {BOB}
    heartbeat(fallback, ALICE, None)
    assert fallback.unread(posted) == {BOB}


def test_reader_that_has_read_a_later_notice_has_read_the_earlier_one(fallback: FallbackChannel) -> None:
    heartbeat(fallback, ALICE, None)
    earlier, later = fallback.post().notice, fallback.post().notice
    heartbeat(fallback, ALICE, earlier)  # no longer the latest: it is told so, and reads on
    assert fallback.unread(earlier) == {ALICE}
    heartbeat(fallback, ALICE, later)
    assert fallback.unread(earlier) == fallback.unread(later) == frozenset()


def test_notice_of_another_past_is_not_read_for_having_the_same_count(fallback: FallbackChannel) -> None:
    """As after a backup was restored."""
    heartbeat(fallback, ALICE, None)
    posted = fallback.post().notice
    heartbeat(fallback, ALICE, FallbackNotice(posted.count, "00000000-0000-0000-0000-000000000000"))
    assert fallback.unread(posted) == {ALICE}


def test_only_who_has_not_written_since_is_taken_off(fallback: FallbackChannel) -> None:
    heartbeat(fallback, ALICE, None)
    heartbeat(fallback, BOB, None)
    seen = fallback.heartbeats()
    heartbeat(fallback, BOB, None)
    fallback.remove(seen)
    assert fallback.heartbeats().keys() == {BOB}
    fallback.remove({})
    fallback.leave(BOB)
    assert fallback.heartbeats() == {}


def test_reader_is_elsewhere_if_it_renews_at_another_redis(fallback: FallbackChannel) -> None:
    heartbeat(fallback, ALICE, None)
    heartbeat(fallback, BOB, None, "")  # it holds no lease
    assert fallback.elsewhere("here") == frozenset()
    assert fallback.elsewhere("there") == {ALICE}
    heartbeat(fallback, BOB, None, "there")
    heartbeat(fallback, ALICE, None, "there")
    assert fallback.elsewhere("there") == frozenset()
    assert fallback.elsewhere("here") == {ALICE, BOB}


def test_intent_is_unfinished_from_its_patience_until_it_is_complete(fallback: FallbackChannel) -> None:
    key, account = RevocationTarget("acme", "a key"), RevocationTarget("globex")
    intents = [fallback.intend(key), fallback.intend(account), fallback.intend(EVERYTHING)]
    assert fallback.current(0).unfinished == {key, account, EVERYTHING}
    assert fallback.current(INTENT_SECONDS / 2).unfinished == frozenset()
    fallback.complete(intents[:1])
    assert fallback.current(0).unfinished == {account, EVERYTHING}
    fallback.complete(intents)
    assert fallback.current(0).unfinished == frozenset()


def test_reader_from_a_release_that_does_not_say_where_it_renews_may_be_anywhere(database: SystemDatabase) -> None:
    fallback = SystemFallbackChannel(database)
    heartbeat(fallback, ALICE, None)
    with database.writing() as session:
        session.execute(text("UPDATE revocation_readers SET redis = NULL"))
    assert fallback.elsewhere("here") == {ALICE}


def test_intent_that_nobody_completed_is_dropped_when_its_change_can_no_longer_be_committed(
    database: SystemDatabase,
) -> None:
    fallback = SystemFallbackChannel(database)
    fallback.intend(RevocationTarget("acme"))
    with database.writing() as session:
        session.execute(text("UPDATE revocation_intents SET begun_at = begun_at - interval '61 seconds'"))
    assert fallback.current(0).unfinished == frozenset()
    fallback.complete(())
    with database.reading() as session:
        assert session.scalar(text("SELECT count(*) FROM revocation_intents")) == 0


def test_reader_that_was_taken_off_and_came_back_has_written_since(fallback: FallbackChannel) -> None:
    """Whoever saw its first beat must not take it for one that has been silent since."""
    fallback.heartbeat(PollerHeartbeat(ALICE, 1, None, "here"))
    seen = fallback.heartbeats()
    fallback.remove(seen)
    fallback.heartbeat(PollerHeartbeat(ALICE, 2, None, "here"))
    fallback.remove(seen)
    assert fallback.heartbeats() == {ALICE: 2}


def test_database_that_can_not_be_reached_or_has_no_such_tables_says_so(postgres: EmbeddedPostgres) -> None:
    for name in ("no_such_database", "postgres"):
        database = SystemDatabase(postgres.url(name))
        with pytest.raises(FallbackUnreachable, match="system database"):
            SystemFallbackChannel(database).current(0)
        database.close()


def test_database_that_only_reads_gives_nobody_a_lease(database: SystemDatabase) -> None:
    with database.autocommit() as operator:
        operator.execute(text(f"ALTER DATABASE {DATABASE} SET default_transaction_read_only = on"))
        try:
            database.close()  # the next connection has the new default
            fallback = SystemFallbackChannel(database)
            assert fallback.current(0).notice
            with pytest.raises(FallbackUnreachable):
                heartbeat(fallback, ALICE, None)
        finally:
            operator.execute(text("SET default_transaction_read_only = off"))
            operator.execute(text(f"ALTER DATABASE {DATABASE} RESET default_transaction_read_only"))
