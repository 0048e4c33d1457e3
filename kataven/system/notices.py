"""The notices of the revocation protocol, in the system database: the place that is not Redis.

Each step is a statement of its own that is committed before the next one begins: whoever writes and then reads must
not read an older state than the one it has written to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sqlalchemy import Select, delete, func, or_, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from kataven.revocation.notices import Notice, NoticesUnreachable, Posted, Reader
from kataven.system.database import SystemDatabase
from kataven.system.errors import SystemDatabaseUnavailable
from kataven.system.models import RevocationNotice, RevocationReader

LATEST = select(RevocationNotice.count, RevocationNotice.mark)
READERS = select(RevocationReader.id, RevocationReader.home, RevocationReader.pid, RevocationReader.beats)


class SystemNotices:
    """Notices in the tables `revocation_notice` and `revocation_readers`."""

    def __init__(self, database: SystemDatabase) -> None:
        self._database = database

    def current(self) -> Notice:
        with self._session() as session:
            return _notice(session)

    def beat(self, reader: Reader, read: Notice | None) -> Notice:
        # Only if it is the latest still: after a backup was restored, a count alone could be that of another one.
        read_count = LATEST.with_only_columns(RevocationNotice.count).where(
            RevocationNotice.mark == (None if read is None else read.mark)
        )
        row = insert(RevocationReader).values(
            id=reader.id, home=reader.home, pid=reader.pid, beats=1, read_count=read_count.scalar_subquery()
        )
        written = row.on_conflict_do_update(
            index_elements=[RevocationReader.id],
            set_={
                "beats": RevocationReader.beats + 1,
                "read_count": func.coalesce(row.excluded.read_count, RevocationReader.read_count),
            },
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
        return Notice(0, "none yet")
    count, mark = found
    return Notice(count, str(mark))


def _readers(session: Session, query: Select[str, str, int, int]) -> dict[Reader, int]:
    return {Reader(row.id, row.home, row.pid): row.beats for row in session.execute(query)}
