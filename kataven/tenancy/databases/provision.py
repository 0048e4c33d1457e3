"""Makes and removes accounts' databases, all or nothing.

A database is made under a scratch name and renamed when it is whole, so under an account's name there is never half a
database. While one is being made its maker holds a lock by its name, so that nobody takes it for the wreck of a crash:

    with provisioner.reserve("acme") as reservation:
        ...                                  # write down that acme is being made
        reservation.make(prepare)            # the database, whole, or an error and nothing
        ...                                  # write down that acme is there
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import URL, Connection
from sqlalchemy.exc import DBAPIError

from kataven.tenancy.errors import DatabaseExists, DumpUnreadable, ProvisioningError, ProvisioningInProgress
from kataven.tenancy.names import check_account_name
from kataven.tenancy.schema import Schema
from kataven.tenancy.server import DatabaseServer, Maintenance, Strategy
from kataven.tenancy.templates import Templates, scratch_name

logger = logging.getLogger(__name__)

Prepare = Callable[[Connection], None]
Fill = Callable[[URL], None]


@dataclass(frozen=True, slots=True)
class Provisioned:
    """A database that has been made."""

    database: str
    revision: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Reservation:
    """The right to make or remove one database, for as long as the block lasts that it was taken in."""

    database: str
    maintenance: Maintenance
    templates: Templates
    strategy: Strategy

    def make(self, prepare: Prepare | None = None) -> Provisioned:
        """Make the database at the head revision; `prepare` may fill it, in one transaction, before it has its name.

        Raises DatabaseExists, ProvisioningError, or whatever `prepare` raises; then there is no database.
        """
        began = time.monotonic()
        self._require_absence()
        with self._scratch() as scratch:
            template = self.templates.ensure(self.maintenance)
            self.maintenance.create(scratch, template, self.strategy)
            if prepare is not None:
                self._prepare(scratch, prepare)
            self.maintenance.rename(scratch, self.database)
        return Provisioned(self.database, self.templates.schema.head, time.monotonic() - began)

    def rebuild(self, fill: Fill, prepare: Prepare | None = None) -> Provisioned:
        """Make the database from what `fill` puts into the empty one whose URL it is given, such as a dump.

        It is brought to the head revision; then `prepare` as in `make`. Raises DatabaseExists, DumpUnreadable,
        ProvisioningError, or whatever the two raise; then there is no database.
        """
        began = time.monotonic()
        self._require_absence()
        with self._scratch() as scratch:
            self._fill(scratch, fill, prepare)
            self.maintenance.rename(scratch, self.database)
        return Provisioned(self.database, self.templates.schema.head, time.monotonic() - began)

    def replace(self, fill: Fill, prepare: Prepare | None = None) -> Provisioned:
        """The same in place of the database that is there: it is replaced in one step, or stays as it is."""
        began = time.monotonic()
        replaced = scratch_name(f"{self.database}, replaced")
        with self._scratch() as scratch:
            self._fill(scratch, fill, prepare)
            self.maintenance.drop(replaced)
            self.maintenance.exchange(self.database, by=scratch, aside=replaced)
        self._clean_up(replaced)
        return Provisioned(self.database, self.templates.schema.head, time.monotonic() - began)

    def drop(self) -> None:
        """Remove the database with everybody's sessions, if it is there. May take half a minute: never in a request."""
        self.maintenance.drop(self.database)

    def _require_absence(self) -> None:
        if self.maintenance.exists(self.database):
            raise DatabaseExists(f"there is a database {self.database!r} already")

    @contextmanager
    def _scratch(self) -> Iterator[str]:
        """The name under which the database is made; whatever goes wrong, nothing is left under it."""
        scratch = scratch_name(self.database)
        try:
            self.maintenance.drop(scratch)
            yield scratch
        except BaseException as error:
            self._clean_up(scratch)
            if isinstance(error, DBAPIError):
                raise ProvisioningError(f"the database {self.database!r} could not be made") from error
            raise

    def _fill(self, scratch: str, fill: Fill, prepare: Prepare | None) -> None:
        server, schema = self.templates.server, self.templates.schema
        self.maintenance.create(scratch, "template0", self.strategy)
        fill(server.url_of(scratch))
        with server.connect(scratch) as connection:
            revision = schema.revision_of(connection)
        if revision not in schema.revisions:
            raise DumpUnreadable(
                f"what was loaded is at schema {revision or 'none'}, and this code knows {schema.revisions[0]}"
                f" to {schema.head}"
            )
        if revision != schema.head:
            with server.connect(scratch) as connection:
                schema.upgrade(connection)
        if prepare is not None:
            self._prepare(scratch, prepare)

    def _prepare(self, scratch: str, prepare: Prepare) -> None:
        with self.templates.server.connect(scratch) as connection:
            connection = connection.execution_options(isolation_level="READ COMMITTED")
            with connection.begin():
                prepare(connection)

    def _clean_up(self, scratch: str) -> None:
        try:
            self.maintenance.drop(scratch)
        except DBAPIError:
            logger.exception("%s is left over from making %s; repair removes it", scratch, self.database)


class Provisioner:
    """Makes databases with the head schema on one server. `strategy` is PostgreSQL's way of copying the template.

    `wal_log` suits a database at a time; `file_copy`, no WAL but two checkpoints a copy, suits bulk on an idle server.
    """

    def __init__(self, server: DatabaseServer, schema: Schema, strategy: Strategy = "wal_log") -> None:
        self.server = server
        self.templates = Templates(server, schema)
        self._strategy = strategy

    @contextmanager
    def reserve(self, database: str) -> Iterator[Reservation]:
        """The right to make or remove `database`. Raises InvalidAccountName, or ProvisioningInProgress at once."""
        check_account_name(database)
        with self.server.maintenance() as maintenance:
            if not maintenance.try_lock(scratch_name(database)):
                raise ProvisioningInProgress(f"{database!r} is being made or removed at this moment")
            yield Reservation(database, maintenance, self.templates, self._strategy)

    def provision(self, database: str, prepare: Prepare | None = None) -> Provisioned:
        """Make one database; see Reservation.make."""
        with self.reserve(database) as reservation:
            return reservation.make(prepare)

    def drop(self, database: str) -> None:
        """Remove one database; see Reservation.drop."""
        with self.reserve(database) as reservation:
            reservation.drop()
