"""The fallback channel of the revocation protocol, in the system database, for when Redis can't be used.

Each step is a separate statement, committed before the next one starts: a process that writes and then reads must not
read a state that is older than its write.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Interval, Select, bindparam, delete, func, or_, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from kataven.revocation.fallback.channel import (
    FallbackNotice,
    FallbackState,
    FallbackUnreachable,
    PollerHeartbeat,
    PollerId,
    PostedNotice,
)
from kataven.revocation.target import RevocationTarget, RevokedKey
from kataven.system import cutoffs, intents, journal
from kataven.system.database import SystemDatabase
from kataven.system.deadline import within
from kataven.system.errors import SystemDatabaseUnavailable
from kataven.system.models import RevocationNotice, RevocationReader
from kataven.tenancy.error_classification import is_about_schema

LATEST_NOTICE = select(RevocationNotice.count, RevocationNotice.mark)
READERS = select(RevocationReader.id, RevocationReader.home, RevocationReader.pid, RevocationReader.beats)
STATE = LATEST_NOTICE.add_columns(intents.overdue(bindparam("overdue_after", type_=Interval())).label("unfinished"))
INTENT_WRITE_SECONDS = 1.0
"""How long the write of a revocation intent may delay the commit that follows it."""
JOURNAL_WRITE_SECONDS = 1.0
"""How long the write of a journal entry may delay the publication that follows it."""
NONE_YET = FallbackNotice(0, "none yet")


class SystemFallbackChannel:
    """Uses the tables `revocation_notice`, `revocation_readers`, `revocation_intents` and `revoked_keys`."""

    def __init__(self, database: SystemDatabase, journal_days: int = journal.RETENTION_DAYS) -> None:
        self._database = database
        self._journal_days = journal_days

    def read_state(self, overdue_after_seconds: float) -> FallbackState:
        with self._session() as session:
            row = session.execute(STATE, {"overdue_after": timedelta(seconds=overdue_after_seconds)}).first()
        if row is None:
            return FallbackState(NONE_YET, frozenset())
        count, mark, unfinished = row
        return FallbackState(
            FallbackNotice(count, str(mark)), frozenset(RevocationTarget(*pair) for pair in unfinished or ())
        )

    def write_heartbeat(self, heartbeat: PollerHeartbeat) -> FallbackNotice:
        # Matched by its mark: after a restore from a backup, the same count may belong to a different notice.
        read_count = LATEST_NOTICE.with_only_columns(RevocationNotice.count).where(
            RevocationNotice.mark == (None if heartbeat.read_notice is None else heartbeat.read_notice.mark)
        )
        row = insert(RevocationReader).values(
            id=heartbeat.reader.id,
            home=heartbeat.reader.pid_namespace,
            pid=heartbeat.reader.pid,
            beats=heartbeat.count,
            read_count=read_count.scalar_subquery(),
            redis=heartbeat.home_redis,
        )
        written = row.on_conflict_do_update(
            index_elements=[RevocationReader.id],
            set_={
                "beats": row.excluded.beats,
                "read_count": func.coalesce(row.excluded.read_count, RevocationReader.read_count),
                "redis": row.excluded.redis,
            },
            # A write that the worker gave up on may be executed after a later one, and must not overwrite it.
            where=RevocationReader.beats < row.excluded.beats,
        )
        with self._session() as session:
            session.execute(written)
            return _notice(session)

    def post_notice(self) -> PostedNotice:
        row = insert(RevocationNotice).values(id=1, count=1, mark=func.gen_random_uuid())
        posted = row.on_conflict_do_update(
            index_elements=[RevocationNotice.id],
            set_={"count": RevocationNotice.count + 1, "mark": row.excluded.mark},
        ).returning(RevocationNotice.count, RevocationNotice.mark)
        with self._session() as session:
            count, mark = session.execute(posted).one()
            return PostedNotice(FallbackNotice(count, str(mark)), _readers(session, READERS))

    def readers_behind(self, notice: FallbackNotice) -> frozenset[PollerId]:
        behind = or_(RevocationReader.read_count.is_(None), RevocationReader.read_count < notice.count)
        with self._session() as session:
            return frozenset(_readers(session, READERS.where(behind)))

    def readers_with_other_home(self, redis: str) -> frozenset[PollerId]:
        # NULL is from a release without this column, so the worker's home is unknown; '' is from a worker without a
        # lease.
        away = or_(RevocationReader.redis.is_(None), RevocationReader.redis.not_in(["", redis]))
        with self._session() as session:
            return frozenset(_readers(session, READERS.where(away)))

    def heartbeat_counts(self) -> dict[PollerId, int]:
        with self._session() as session:
            return _readers(session, READERS)

    def remove_readers(self, heartbeats: Mapping[PollerId, int]) -> None:
        if not heartbeats:
            return
        seen = [(reader.id, count) for reader, count in heartbeats.items()]
        with self._session() as session:
            session.execute(
                delete(RevocationReader).where(tuple_(RevocationReader.id, RevocationReader.beats).in_(seen))
            )

    def deregister(self, reader: PollerId) -> None:
        with self._session() as session:
            session.execute(delete(RevocationReader).where(RevocationReader.id == reader.id))

    def add_intent(self, target: RevocationTarget) -> str:
        # The caller's transaction holds a row lock, and its server ends a transaction that is idle for 2 s.
        try:
            return within(
                INTENT_WRITE_SECONDS,
                lambda: self._write_intent(target),
                discard=lambda intent: self.remove_intents([intent]),
                name="revocation-intent",
            )
        except TimeoutError as error:
            raise FallbackUnreachable("the system database did not respond in time") from error

    def _write_intent(self, target: RevocationTarget) -> str:
        with self._session() as session:
            return str(intents.add(session, target))

    def remove_intents(self, done: Collection[str]) -> None:
        with self._session() as session:
            intents.remove(session, [UUID(intent) for intent in done])

    def journal(self, key: RevokedKey) -> None:
        # The deadline limits how long the event waits: workers must receive it even if this database does not respond.
        try:
            within(
                JOURNAL_WRITE_SECONDS, lambda: self._write_entry(key), discard=lambda _: None, name="revocation-journal"
            )
        except TimeoutError as error:
            raise FallbackUnreachable("the system database did not respond in time") from error

    def _write_entry(self, key: RevokedKey) -> None:
        with self._session() as session, without_journal():
            journal.add(session, key)

    def expire_journal(self) -> None:
        with self._session() as session, without_journal():
            journal.expire(session, self._journal_days)
        with self._session() as session, without_journal():
            cutoffs.expire(session, self._journal_days)

    @contextmanager
    def _session(self) -> Iterator[Session]:
        try:
            with self._database.autocommit() as session:
                yield session
        except SystemDatabaseUnavailable as error:
            raise FallbackUnreachable("the system database can't be reached") from error
        except DBAPIError as error:  # reachable, but can't execute it: not migrated yet, read-only, disk full
            raise FallbackUnreachable(f"the system database refuses ({type(error.orig).__name__})") from error


@contextmanager
def without_journal() -> Iterator[None]:
    """Skip the block's statement on a system database that does not have its table yet."""
    try:
        yield
    except DBAPIError as error:
        if not is_about_schema(error):
            raise


def _notice(session: Session) -> FallbackNotice:
    found = session.execute(LATEST_NOTICE).first()
    if found is None:
        return NONE_YET
    count, mark = found
    return FallbackNotice(count, str(mark))


def _readers(session: Session, query: Select[str, str, int, int]) -> dict[PollerId, int]:
    return {PollerId(row.id, row.home, row.pid): row.beats for row in session.execute(query)}
