"""Creates and removes accounts' databases, completely or not at all.

A database is created under a scratch name and renamed when it is complete, so no incomplete database ever has an
account's name. The creating process holds a lock on the name, so that repair does not treat the database as orphaned:

    with provisioner.reserve("acme") as reservation:
        ...                                  # record that acme is being created
        reservation.create(prepare)          # a complete database, or an error and no database
        ...                                  # record that acme exists
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
from kataven.tenancy.templates import Templates

logger = logging.getLogger(__name__)

Prepare = Callable[[Connection], None]
Fill = Callable[[URL], None]


@dataclass(frozen=True, slots=True)
class Provisioned:
    """A database that was created, and how long that took."""

    database: str
    revision: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Reservation:
    """The exclusive right to create or remove one database, until the end of the `reserve` block."""

    database: str
    maintenance: Maintenance
    templates: Templates
    strategy: Strategy

    def create(self, prepare: Prepare | None = None) -> Provisioned:
        """Create the database at the head revision. `prepare` can fill it in one transaction before it is renamed.

        Raises DatabaseExists, ProvisioningError, or the errors of `prepare`; then no database exists.
        """
        started = time.monotonic()
        self._require_absence()
        with self._scratch() as scratch:
            template = self.templates.ensure(self.maintenance)
            self.maintenance.create(scratch, template, self.strategy)
            if prepare is not None:
                self._prepare(scratch, prepare)
            self.maintenance.rename(scratch, self.database)
        return Provisioned(self.database, self.templates.schema.head, time.monotonic() - started)

    def create_from(self, fill: Fill, prepare: Prepare | None = None) -> Provisioned:
        """Create the database from the data that `fill` loads into an empty database, such as a dump.

        `fill` receives the database's URL. The database is then upgraded to the head revision and passed to `prepare`,
        as in `create`. Raises DatabaseExists, DumpUnreadable, ProvisioningError, or the callbacks' errors; then no
        database exists.
        """
        started = time.monotonic()
        self._require_absence()
        with self._scratch() as scratch:
            self._fill(scratch, fill, prepare)
            self.maintenance.rename(scratch, self.database)
        return Provisioned(self.database, self.templates.schema.head, time.monotonic() - started)

    def replace(self, fill: Fill, prepare: Prepare | None = None) -> Provisioned:
        """The same for an existing database, which is replaced atomically or remains unchanged."""
        started = time.monotonic()
        replaced = self.templates.names.scratch(f"{self.database}, replaced")
        with self._scratch() as scratch:
            self._fill(scratch, fill, prepare)
            self.maintenance.drop(replaced)
            self.maintenance.exchange(self.database, by=scratch, aside=replaced)
        self._clean_up(replaced)
        return Provisioned(self.database, self.templates.schema.head, time.monotonic() - started)

    def drop(self) -> None:
        """Drop the database if it exists, and terminate its sessions. Can take 30 s: don't call it in a request."""
        self.maintenance.drop(self.database)

    def _require_absence(self) -> None:
        if self.maintenance.exists(self.database):
            raise DatabaseExists(f"the database {self.database!r} already exists")

    @contextmanager
    def _scratch(self) -> Iterator[str]:
        """The scratch name of the new database. After an error, the scratch database is dropped."""
        scratch = self.templates.names.scratch(self.database)
        try:
            self.maintenance.drop(scratch)
            yield scratch
        except BaseException as error:
            self._clean_up(scratch)
            if isinstance(error, DBAPIError):
                raise ProvisioningError(f"the database {self.database!r} could not be created") from error
            raise

    def _fill(self, scratch: str, fill: Fill, prepare: Prepare | None) -> None:
        server, schema = self.templates.server, self.templates.schema
        self.maintenance.create(scratch, "template0", self.strategy)
        fill(server.url_of(scratch))
        with server.connect(scratch) as connection:
            revision = schema.revision_of(connection)
        if revision not in schema.revisions:
            raise DumpUnreadable(
                f"the loaded data is at schema {revision or 'none'}; this release supports {schema.revisions[0]}"
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
            logger.exception(
                "the scratch database %s of %s could not be dropped; `flask accounts repair` removes it",
                scratch,
                self.database,
            )


class Provisioner:
    """Creates databases with the head schema on one server. `strategy` is how PostgreSQL copies the template.

    `wal_log` suits single databases. `file_copy` writes no WAL but needs two checkpoints per copy, which suits bulk
    creation on an idle server.
    """

    def __init__(self, server: DatabaseServer, schema: Schema, strategy: Strategy = "wal_log") -> None:
        self.server = server
        self.templates = Templates(server, schema)
        self._strategy = strategy

    @contextmanager
    def reserve(self, database: str) -> Iterator[Reservation]:
        """Reserve `database`. Raises InvalidAccountName, or ProvisioningInProgress without waiting."""
        check_account_name(database)
        with self.server.maintenance() as maintenance:
            if not maintenance.try_lock(self.templates.names.scratch(database)):
                raise ProvisioningInProgress(f"another process is creating or removing {database!r}; retry later")
            yield Reservation(database, maintenance, self.templates, self._strategy)

    def provision(self, database: str, prepare: Prepare | None = None) -> Provisioned:
        """Create one database; see Reservation.create."""
        with self.reserve(database) as reservation:
            return reservation.create(prepare)

    def drop(self, database: str) -> None:
        """Drop one database; see Reservation.drop."""
        with self.reserve(database) as reservation:
            reservation.drop()
