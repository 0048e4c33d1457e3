"""The users who used an account, recorded without I/O on the request path, as the last use of keys is.

A request records the use in memory. A background thread writes it, at most once in five minutes per user and account on
each worker. Users who were not seen for 90 days are removed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from kataven.account.errors import NotFound
from kataven.account.models import SeenPerson
from kataven.account.paging import Page, Position, newest_first
from kataven.background import BackgroundLoop
from kataven.identity.principal import Principal, Role
from kataven.tenancy.errors import SchemaMismatch

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 300.0
MAX_PEOPLE = 100_000
RETENTION = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A use of an account by a user."""

    id: str
    sub: str
    name: str
    role: str
    at: datetime


Write = Callable[[str, Collection[Sighting]], None]
"""Stores the sightings of an account. May raise any exception."""


class SeenPeopleTracker:
    """The users that one worker process saw."""

    def __init__(self, write: Write, clock: Callable[[], float] = time.time) -> None:
        self._write = write
        self._clock = clock
        self._recorded: dict[tuple[str, str], float] = {}
        self._pending: dict[str, dict[str, Sighting]] = {}
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._thread = BackgroundLoop("people-seen", self.flush, lambda: None)

    def record(self, principal: Principal) -> None:
        """Record that a user uses an account now. Costs a dictionary lookup, except once in five minutes."""
        if principal.person is None or principal.role is None:
            return
        now, key = self._clock(), (principal.account, principal.person)
        if now - self._recorded.get(key, 0.0) < INTERVAL_SECONDS:
            return
        seen = Sighting(
            principal.person, principal.id, principal.name, str(principal.role), datetime.fromtimestamp(now, UTC)
        )
        with self._lock:
            if len(self._recorded) >= MAX_PEOPLE:
                self._recorded.clear()
            self._recorded[key] = now
            self._pending.setdefault(principal.account, {})[principal.person] = seen
        self._thread.wake()

    def flush(self) -> None:
        """Write what was recorded. If this fails for an account, its sightings are lost until the first uses after the
        interval."""
        with self._writing:  # what another thread is writing is written when this method returns
            with self._lock:
                pending, self._pending = self._pending, {}
            for account, seen in pending.items():
                try:
                    self._write(account, seen.values())
                except Exception as error:
                    # An error in one account's database must not prevent writing those of other accounts. A database
                    # without the table is not migrated yet: that is not worth a warning for each user.
                    level = logging.DEBUG if isinstance(error, SchemaMismatch) else logging.WARNING
                    log.log(level, "user not stored", extra={"account": account, "error": type(error).__name__})

    def start(self) -> None:
        """Start the background thread of this process."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and write what was recorded."""
        self._thread.stop(timeout=5)
        self.flush()


def store(session: Session, issuer: str, seen: Collection[Sighting]) -> None:
    """Write the sightings of an account, and remove users who were not seen for `RETENTION`."""
    for person in sorted(seen, key=lambda one: one.id):
        row = insert(SeenPerson).values(
            id=UUID(person.id),
            created_at=person.at,
            last_seen_at=person.at,
            issuer=issuer,
            sub=person.sub,
            name=person.name,
            role=person.role,
        )
        session.execute(
            row.on_conflict_do_update(
                index_elements=[SeenPerson.id],
                set_={
                    "last_seen_at": func.greatest(SeenPerson.last_seen_at, row.excluded.last_seen_at),
                    "name": row.excluded.name,
                    "role": row.excluded.role,
                },
                where=SeenPerson.last_seen_at < row.excluded.last_seen_at,
            )
        )
    session.execute(delete(SeenPerson).where(SeenPerson.last_seen_at < func.now() - RETENTION))


def listing(session: Session, limit: int, start: Position | None) -> Page[SeenPerson]:
    """A page of the users who were seen within `RETENTION`, newest first by the time they were first seen."""
    return newest_first(session, SeenPerson, limit, start, SeenPerson.last_seen_at >= func.now() - RETENTION)


def read(session: Session, person_id: UUID) -> SeenPerson:
    """Raises NotFound."""
    found = session.get(SeenPerson, person_id)
    if found is None:
        raise NotFound("user")
    return found


def owners(session: Session) -> set[str]:
    """The ids of the users who were owners at their last use."""
    found = select(SeenPerson.id).where(
        SeenPerson.role == Role.OWNER, SeenPerson.last_seen_at >= func.now() - RETENTION
    )
    return {str(person) for person in session.scalars(found)}
