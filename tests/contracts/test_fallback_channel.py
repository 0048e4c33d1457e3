"""The contract of the fallback channel, for the system database and for the model that the simulation uses."""

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
from tests.revocation.simulation.fallback_model import FallbackModel, ProcessFallback

ALICE, BOB = PollerId("alice", "host a", 11), PollerId("bob", "host b", 12)
DATABASE = "notices"


_counts = itertools.count(1)


def heartbeat(
    fallback: FallbackChannel, reader: PollerId, read: FallbackNotice | None, redis: str = "here"
) -> FallbackNotice:
    return fallback.write_heartbeat(PollerHeartbeat(reader, next(_counts), read, redis))


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


@pytest.fixture(params=["system database", "model"])
def fallback(request: pytest.FixtureRequest, database: SystemDatabase) -> FallbackChannel:
    if request.param == "model":
        return ProcessFallback(FallbackModel(), lambda: True, lambda: None)
    return SystemFallbackChannel(database)


def test_each_notice_has_a_new_mark_and_the_next_count(fallback: FallbackChannel) -> None:
    before = fallback.read_state(0).notice
    first, second = fallback.post_notice().notice, fallback.post_notice().notice
    assert fallback.read_state(0).notice == second
    assert len({before.mark, first.mark, second.mark}) == 3
    assert [first.count, second.count] == [before.count + 1, before.count + 2]


def test_reader_is_listed_from_its_first_heartbeat_and_receives_the_latest_notice(fallback: FallbackChannel) -> None:
    posted = fallback.post_notice().notice
    assert heartbeat(fallback, ALICE, None) == posted
    fallback.write_heartbeat(PollerHeartbeat(BOB, 7, None, "here"))
    fallback.write_heartbeat(PollerHeartbeat(BOB, 8, None, "here"))
    assert fallback.post_notice().readers.keys() == {ALICE, BOB}
    assert fallback.post_notice().readers[BOB] == 8


def test_reader_that_has_read_the_latest_notice_is_not_behind(fallback: FallbackChannel) -> None:
    heartbeat(fallback, ALICE, None)
    heartbeat(fallback, BOB, None)
    posted = fallback.post_notice().notice
    assert fallback.readers_behind(posted) == {ALICE, BOB}
    heartbeat(fallback, ALICE, posted)
    assert fallback.readers_behind(posted) == {BOB}
    heartbeat(fallback, ALICE, None)
    assert fallback.readers_behind(posted) == {BOB}


def test_reader_that_has_read_a_later_notice_has_read_the_earlier_one(fallback: FallbackChannel) -> None:
    heartbeat(fallback, ALICE, None)
    earlier, later = fallback.post_notice().notice, fallback.post_notice().notice
    heartbeat(fallback, ALICE, earlier)  # no longer the latest; the reply contains the later one
    assert fallback.readers_behind(earlier) == {ALICE}
    heartbeat(fallback, ALICE, later)
    assert fallback.readers_behind(earlier) == fallback.readers_behind(later) == frozenset()


def test_notice_from_another_history_with_the_same_count_is_not_read(fallback: FallbackChannel) -> None:
    """For example after a restore from backup."""
    heartbeat(fallback, ALICE, None)
    posted = fallback.post_notice().notice
    heartbeat(fallback, ALICE, FallbackNotice(posted.count, "00000000-0000-0000-0000-000000000000"))
    assert fallback.readers_behind(posted) == {ALICE}


def test_only_readers_that_have_not_written_since_are_removed(fallback: FallbackChannel) -> None:
    heartbeat(fallback, ALICE, None)
    heartbeat(fallback, BOB, None)
    seen = fallback.heartbeat_counts()
    heartbeat(fallback, BOB, None)
    fallback.remove_readers(seen)
    assert fallback.heartbeat_counts().keys() == {BOB}
    fallback.remove_readers({})
    fallback.deregister(BOB)
    assert fallback.heartbeat_counts() == {}


def test_reader_that_renews_at_another_redis_has_another_home(fallback: FallbackChannel) -> None:
    heartbeat(fallback, ALICE, None)
    heartbeat(fallback, BOB, None, "")  # it holds no lease
    assert fallback.readers_with_other_home("here") == frozenset()
    assert fallback.readers_with_other_home("there") == {ALICE}
    heartbeat(fallback, BOB, None, "there")
    heartbeat(fallback, ALICE, None, "there")
    assert fallback.readers_with_other_home("there") == frozenset()
    assert fallback.readers_with_other_home("here") == {ALICE, BOB}


def test_intent_is_overdue_after_the_given_age_until_it_is_removed(fallback: FallbackChannel) -> None:
    key, account = RevocationTarget("acme", "a key"), RevocationTarget("globex")
    intents = [fallback.add_intent(key), fallback.add_intent(account), fallback.add_intent(EVERYTHING)]
    assert fallback.read_state(0).overdue == {key, account, EVERYTHING}
    assert fallback.read_state(INTENT_SECONDS / 2).overdue == frozenset()
    fallback.remove_intents(intents[:1])
    assert fallback.read_state(0).overdue == {account, EVERYTHING}
    fallback.remove_intents(intents)
    assert fallback.read_state(0).overdue == frozenset()


def test_reader_of_an_earlier_release_counts_as_having_another_home(database: SystemDatabase) -> None:
    fallback = SystemFallbackChannel(database)
    heartbeat(fallback, ALICE, None)
    with database.writing() as session:
        session.execute(text("UPDATE revocation_readers SET redis = NULL"))
    assert fallback.readers_with_other_home("here") == {ALICE}


def test_intent_expires_when_its_change_can_no_longer_be_committed(
    database: SystemDatabase,
) -> None:
    fallback = SystemFallbackChannel(database)
    fallback.add_intent(RevocationTarget("acme"))
    with database.writing() as session:
        session.execute(text("UPDATE revocation_intents SET begun_at = begun_at - interval '61 seconds'"))
    assert fallback.read_state(0).overdue == frozenset()
    fallback.remove_intents(())
    with database.reading() as session:
        assert session.scalar(text("SELECT count(*) FROM revocation_intents")) == 0


def test_removed_reader_that_registers_again_has_written_since(fallback: FallbackChannel) -> None:
    """A process that saw its first heartbeat must not conclude that it has not written since."""
    fallback.write_heartbeat(PollerHeartbeat(ALICE, 1, None, "here"))
    seen = fallback.heartbeat_counts()
    fallback.remove_readers(seen)
    fallback.write_heartbeat(PollerHeartbeat(ALICE, 2, None, "here"))
    fallback.remove_readers(seen)
    assert fallback.heartbeat_counts() == {ALICE: 2}


def test_heartbeat_that_arrives_after_a_later_one_changes_nothing(fallback: FallbackChannel) -> None:
    """The worker gave up on it and wrote again over another connection; the server executes it afterwards."""
    seen = fallback.post_notice().notice
    fallback.write_heartbeat(PollerHeartbeat(ALICE, 2, None, "redis b"))
    fallback.write_heartbeat(PollerHeartbeat(ALICE, 1, seen, "redis a"))
    assert fallback.readers_with_other_home("redis a") == {ALICE}
    assert fallback.readers_with_other_home("redis b") == frozenset()
    assert fallback.heartbeat_counts() == {ALICE: 2}
    assert fallback.readers_behind(seen) == {ALICE}


def test_unreachable_or_unmigrated_database_raises_fallback_unreachable(postgres: EmbeddedPostgres) -> None:
    for name in ("no_such_database", "postgres"):
        database = SystemDatabase(postgres.url(name))
        with pytest.raises(FallbackUnreachable, match="system database"):
            SystemFallbackChannel(database).read_state(0)
        database.close()


def test_read_only_database_grants_no_reader_lease(database: SystemDatabase) -> None:
    with database.autocommit() as operator:
        operator.execute(text(f"ALTER DATABASE {DATABASE} SET default_transaction_read_only = on"))
        try:
            database.close()  # the next connection has the new default
            fallback = SystemFallbackChannel(database)
            assert fallback.read_state(0).notice
            with pytest.raises(FallbackUnreachable):
                heartbeat(fallback, ALICE, None)
        finally:
            operator.execute(text("SET default_transaction_read_only = off"))
            operator.execute(text(f"ALTER DATABASE {DATABASE} RESET default_transaction_read_only"))
