"""Maintenance of one PostgreSQL server: its databases are created, renamed and dropped, one statement at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

from sqlalchemy import URL, Connection, NullPool, text
from sqlalchemy.exc import DBAPIError

from kataven.tenancy.dialect import EngineFactory
from kataven.tenancy.errors import PoolerUnsuitable
from kataven.tenancy.names import quoted
from kataven.tenancy.pg_connection import ConnectionSettings, PgConnection
from kataven.tenancy.pooler_check import NOT_DIRECT, refuses_options, require_direct

Strategy = Literal["wal_log", "file_copy"]

# Dropping a database after many were created waits for a checkpoint, which can take more than 20 s.
OPERATOR_SETTINGS = ConnectionSettings(
    application_name="kataven operator",
    connect_timeout_seconds=5,
    statement_timeout_seconds=600.0,
    lock_timeout_seconds=600.0,
    idle_in_transaction_timeout_seconds=600.0,
)


class Maintenance:
    """One open connection to the server's maintenance database. Locks last until `unlock` or until it is closed."""

    def __init__(self, connection: Connection, open_second: Callable[[], AbstractContextManager[Maintenance]]) -> None:
        self._connection = connection
        self._open_second = open_second

    def databases(self) -> frozenset[str]:
        """The names of all databases on the server, including templates."""
        return frozenset(self._connection.execute(text("SELECT datname FROM pg_database")).scalars())

    def exists(self, database: str) -> bool:
        """Whether the database exists."""
        found = text("SELECT EXISTS (SELECT FROM pg_database WHERE datname = :name)")
        return bool(self._connection.execute(found, {"name": database}).scalar_one())

    def copyable(self, databases: Sequence[str]) -> list[str]:
        """Those of `databases` without client connections, smallest first. Background workers don't count."""
        free = text(
            "SELECT datname FROM pg_database d WHERE datname = ANY(:names) AND NOT EXISTS"
            " (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid AND a.backend_type = 'client backend')"
            " ORDER BY pg_database_size(oid), datname"
        )
        return list(self._connection.execute(free, {"names": list(databases)}).scalars())

    def sizes(self, databases: Sequence[str]) -> dict[str, int]:
        """The sizes of those `databases` that exist, in bytes."""
        measure = text("SELECT datname, pg_database_size(oid) FROM pg_database WHERE datname = ANY(:names)")
        return {
            row.datname: row.pg_database_size for row in self._connection.execute(measure, {"names": list(databases)})
        }

    def connections(self) -> tuple[int, int]:
        """The number of client connections, including this one, and the server's limit."""
        count = text(
            "SELECT count(*), current_setting('max_connections')::int FROM pg_stat_activity"
            " WHERE backend_type = 'client backend'"
        )
        in_use, limit = self._connection.execute(count).one()
        return in_use, limit

    def cutter(self) -> Callable[[], None]:
        """A function that cuts this connection from another thread. A waiting statement fails with a disconnect."""
        connection = self._connection.connection.driver_connection
        if not isinstance(connection, PgConnection):
            raise TypeError("the connection is not a PgConnection")
        return connection.cut

    def create(self, database: str, template: str, strategy: Strategy = "wal_log") -> None:
        """Create `database` as a copy of `template`, which must not have any connections."""
        self._ddl(f"CREATE DATABASE {quoted(database)} TEMPLATE {quoted(template)} STRATEGY {strategy}")

    def rename(self, database: str, to: str) -> None:
        """Rename a database, which must not have any connections."""
        self._ddl(f"ALTER DATABASE {quoted(database)} RENAME TO {quoted(to)}")

    def exchange(self, database: str, by: str, aside: str) -> None:
        """Rename `database` to `aside` and `by` to `database`, atomically. Terminates the sessions of `database`."""
        renames = f"ALTER DATABASE {quoted(database)} RENAME TO {quoted(aside)}; "
        renames += f"ALTER DATABASE {quoted(by)} RENAME TO {quoted(database)}"
        with self._sessions_terminated(database):
            try:
                self._ddl(f"BEGIN; {renames}; COMMIT")
            except BaseException:
                with contextlib.suppress(DBAPIError):
                    self._ddl("ROLLBACK")
                raise

    @contextmanager
    def _sessions_terminated(self, database: str) -> Iterator[None]:
        """Terminate the sessions of a database until the end of the block, over a second connection.

        A service can reconnect between the termination and a rename. The rename locks the database against new
        sessions, and waits 5 s for the existing ones to end, which only another connection can cause.
        """
        oid = self._connection.execute(text("SELECT oid FROM pg_database WHERE datname = :name"), {"name": database})
        of_it = {"oid": oid.scalar_one()}  # after the rename, the name is that of the other database
        end = text("SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datid = :oid")
        finished = threading.Event()

        def terminate() -> None:
            with contextlib.suppress(DBAPIError):  # the rename reports the sessions that remain
                while not finished.wait(0.05):
                    second._connection.execute(end, of_it)

        with self._open_second() as second:
            self._connection.execute(end, of_it)
            thread = threading.Thread(target=terminate, name="terminate-sessions", daemon=True)
            thread.start()
            try:
                yield
            finally:
                finished.set()
                thread.join()

    def set_read_only(self, database: str, *, read_only: bool) -> None:
        """Make new transactions read-only by default, or undo this. Terminates the sessions of `database`."""
        change = "SET default_transaction_read_only = on" if read_only else "RESET default_transaction_read_only"
        self._ddl(f"ALTER DATABASE {quoted(database)} {change}")
        self.disconnect(database)

    def disconnect(self, database: str) -> None:
        """Terminate all sessions on a database."""
        end = text("SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = :name")
        self._connection.execute(end, {"name": database})

    def version(self) -> int:
        """The server's version number, such as 180001."""
        return int(self._connection.execute(text("SHOW server_version_num")).scalar_one())

    def drop(self, database: str) -> None:
        """Drop a database if it exists, and terminate its sessions."""
        self._ddl(f"DROP DATABASE IF EXISTS {quoted(database)} WITH (FORCE)")

    def discard(self, database: str) -> None:
        """Drop a database even if it is a template."""
        if self.exists(database):
            self.set_template(database, is_template=False)
            self.drop(database)

    def set_template(self, database: str, *, is_template: bool) -> None:
        """Mark a database as a template, which rejects connections and can't be dropped; or undo this."""
        flag = "true" if is_template else "false"
        self._ddl(f"ALTER DATABASE {quoted(database)} IS_TEMPLATE {flag} ALLOW_CONNECTIONS {not is_template}")

    def comment_on(self, database: str) -> str | None:
        """The comment from `set_comment`; None if the comment or the database does not exist."""
        comment = text("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = :name")
        found: str | None = self._connection.execute(comment, {"name": database}).scalar_one_or_none()
        return found

    def set_comment(self, database: str, comment: str) -> None:
        """Set a comment of letters, digits, spaces and '='. Raises ValueError for other characters."""
        if not comment.replace(" ", "").replace("=", "").isalnum():
            raise ValueError("a comment can contain only letters, digits, spaces and '='")
        self._ddl(f"COMMENT ON DATABASE {quoted(database)} IS '{comment}'")

    def lock(self, name: str) -> None:
        """Acquire the lock `name`; waits until it is free."""
        self._connection.execute(text("SELECT pg_advisory_lock(hashtextextended(:name, 0))"), {"name": name})

    def try_lock(self, name: str) -> bool:
        """Acquire the lock `name` if it is free. Returns whether it was."""
        take = text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")
        return bool(self._connection.execute(take, {"name": name}).scalar_one())

    def unlock(self, name: str) -> None:
        """Release the lock `name`."""
        self._connection.execute(text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))"), {"name": name})

    def _ddl(self, statement: str) -> None:
        self._connection.exec_driver_sql(statement)


class DatabaseServer:
    """Opens unpooled connections for maintenance. `url` names the server; its database is ignored.

    The URL must lead to PostgreSQL itself: a pooler would lose locks, and keep databases from being copied and renamed.
    """

    def __init__(
        self, url: URL, settings: ConnectionSettings = OPERATOR_SETTINGS, maintenance_database: str = "postgres"
    ) -> None:
        self._url = url
        self._servers = EngineFactory(settings)
        self._maintenance_database = maintenance_database

    def url_of(self, database: str) -> URL:
        """The URL of `database` on this server."""
        return self._url.set(database=database)

    @contextmanager
    def connect(self, database: str) -> Iterator[Connection]:
        """A connection in AUTOCOMMIT. At the end of the block it is closed, and its backend has exited.

        Raises PoolerUnsuitable if the URL leads to a connection pooler.
        """
        engine = self._servers.create_engine(self.url_of(database), poolclass=NullPool)
        try:
            connection = engine.connect()
        except DBAPIError as error:
            if refuses_options(error):
                raise PoolerUnsuitable(NOT_DIRECT) from error
            raise
        with connection:
            require_direct(connection)
            yield connection

    @contextmanager
    def maintenance(self) -> Iterator[Maintenance]:
        """A connection for creating and dropping databases."""
        with self.connect(self._maintenance_database) as connection:
            yield Maintenance(connection, self.maintenance)
