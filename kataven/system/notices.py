"""The notices of the revocation protocol, in the system database: the place that is not Redis.

Each step is a statement of its own that is committed before the next one begins: whoever writes and then reads must
not read an older state than the one it has written to.
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

from kataven.revocation.notices import Beat, Notice, NoticesUnreachable, Posted, Reader, Word
from kataven.revocation.scope import Scope
from kataven.system import intents
from kataven.system.database import SystemDatabase
from kataven.system.errors import SystemDatabaseUnavailable
from kataven.system.models import RevocationNotice, RevocationReader

LATEST = select(RevocationNotice.count, RevocationNotice.mark)
READERS = select(RevocationReader.id, RevocationReader.home, RevocationReader.pid, RevocationReader.beats)
WORD = LATEST.add_columns(intents.unfinished(bindparam("patience", type_=Interval())).label("unfinished"))
NONE_YET = Notice(0, "none yet")


class SystemNotices:
    """Notices in the tables `revocation_notice`, `revocation_readers` and `revocation_intents`."""

    def __init__(self, database: SystemDatabase) -> None:
        self._database = database

    def current(self, patience_seconds: float) -> Word:
        with self._session() as session:
            row = session.execute(WORD, {"patience": timedelta(seconds=patience_seconds)}).first()
        if row is None:
            return Word(NONE_YET, frozenset())
        count, mark, unfinished = row
        return Word(Notice(count, str(mark)), frozenset(Scope(*pair) for pair in unfinished or ()))

    def beat(self, beat: Beat) -> Notice:
        # Only if it is the latest still: after a backup was restored, a count alone could be that of another one.
        read_count = LATEST.with_only_columns(RevocationNotice.count).where(
            RevocationNotice.mark == (None if beat.read is None else beat.read.mark)
        )
        row = insert(RevocationReader).values(
            id=beat.reader.id,
            home=beat.reader.home,
            pid=beat.reader.pid,
            beats=beat.count,
            read_count=read_count.scalar_subquery(),
            redis=beat.redis,
        )
        written = row.on_conflict_do_update(
            index_elements=[RevocationReader.id],
            set_={
                "beats": row.excluded.beats,
                "read_count": func.coalesce(row.excluded.read_count, RevocationReader.read_count),
                "redis": row.excluded.redis,
            },
            # A beat that the worker stopped waiting for may be executed after a later one, and must not undo it.
            where=RevocationReader.beats < row.excluded.beats,
        )
        with self._session() as session:
            session.execute(written)
            return _notice(session)

    def post(self) -> Posted:
        row = insert(RevocationNotice).values(id=1, count=1, mark=func.gen_random_uuid())
        posted = row.on_conflict_do_update(
            index_elements=[RevocationNotice.id],
            set_={"count": RevocationNotice.count + 1, "mark": row.excluded.mark},
        ).returning(RevocationNotice.count, RevocationNotice.mark)
        with self._session() as session:
            count, mark = session.execute(posted).one()
            return Posted(Notice(count, str(mark)), _readers(session, READERS))

    def unread(self, notice: Notice) -> frozenset[Reader]:
        behind = or_(RevocationReader.read_count.is_(None), RevocationReader.read_count < notice.count)
        with self._session() as session:
            return frozenset(_readers(session, READERS.where(behind)))

    def elsewhere(self, redis: str) -> frozenset[Reader]:
        # NULL is from a release that does not say where it renews, so it may be anywhere; '' is from a worker without
        # a lease.
        away = or_(RevocationReader.redis.is_(None), RevocationReader.redis.not_in(["", redis]))
        with self._session() as session:
            return frozenset(_readers(session, READERS.where(away)))

    def beats(self) -> dict[Reader, int]:
        with self._session() as session:
            return _readers(session, READERS)

    def remove(self, beats: Mapping[Reader, int]) -> None:
        if not beats:
            return
        seen = [(reader.id, count) for reader, count in beats.items()]
        with self._session() as session:
            session.execute(
                delete(RevocationReader).where(tuple_(RevocationReader.id, RevocationReader.beats).in_(seen))
            )

    def leave(self, reader: Reader) -> None:
        with self._session() as session:
            session.execute(delete(RevocationReader).where(RevocationReader.id == reader.id))

    def intend(self, scope: Scope) -> str:
        with self._session() as session:
            return str(intents.add(session, scope))

    def complete(self, done: Collection[str]) -> None:
        with self._session() as session:
            intents.remove(session, [UUID(intent) for intent in done])

    @contextmanager
    def _session(self) -> Iterator[Session]:
        try:
            with self._database.reading() as session:  # in AUTOCOMMIT
                yield session
        except SystemDatabaseUnavailable as error:
            raise NoticesUnreachable("the system database can't be reached") from error
        except DBAPIError as error:  # it is there, and can't do it: not migrated yet, read-only, its disk full
            raise NoticesUnreachable(f"the system database refuses ({type(error.orig).__name__})") from error


def _notice(session: Session) -> Notice:
    found = session.execute(LATEST).first()
    if found is None:
        return NONE_YET
    count, mark = found
    return Notice(count, str(mark))


def _readers(session: Session, query: Select[str, str, int, int]) -> dict[Reader, int]:
    return {Reader(row.id, row.home, row.pid): row.beats for row in session.execute(query)}
