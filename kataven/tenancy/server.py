"""One PostgreSQL server as its operator sees it: its databases, made, renamed and dropped one statement at a time."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from sqlalchemy import URL, Connection, NullPool, text
from sqlalchemy.exc import DBAPIError

from kataven.tenancy.dialect import EngineFactory
from kataven.tenancy.names import quoted
from kataven.tenancy.pg_connection import ConnectionSettings, PgConnection

Strategy = Literal["wal_log", "file_copy"]

# Dropping a database right after many were made waits for a checkpoint: over 20 s have been seen.
OPERATOR_SETTINGS = ConnectionSettings(
    application_name="kataven operator",
    connect_timeout_seconds=5,
    statement_timeout_seconds=600.0,
    lock_timeout_seconds=600.0,
    idle_in_transaction_timeout_seconds=600.0,
)


class Maintenance:
    """One open connection to the server's maintenance database. Locks last until let go, or until it is closed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def databases(self) -> frozenset[str]:
        """Every database of the server, templates included."""
        return frozenset(self._connection.execute(text("SELECT datname FROM pg_database")).scalars())

    def exists(self, database: str) -> bool:
        """Whether there is such a database."""
        found = text("SELECT EXISTS (SELECT FROM pg_database WHERE datname = :name)")
        return bool(self._connection.execute(found, {"name": database}).scalar_one())

    def copyable(self, databases: Sequence[str]) -> list[str]:
        """Those of `databases` that no client is connected to, the smallest first. Its own workers give way."""
        free = text(
            "SELECT datname FROM pg_database d WHERE datname = ANY(:names) AND NOT EXISTS"
            " (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid AND a.backend_type = 'client backend')"
            " ORDER BY pg_database_size(oid), datname"
        )
        return list(self._connection.execute(free, {"names": list(databases)}).scalars())

    def sizes(self, databases: Sequence[str]) -> dict[str, int]:
        """How large those of `databases` are that exist, in bytes."""
        measure = text("SELECT datname, pg_database_size(oid) FROM pg_database WHERE datname = ANY(:names)")
        return {
            row.datname: row.pg_database_size for row in self._connection.execute(measure, {"names": list(databases)})
        }

    def connections(self) -> tuple[int, int]:
        """How many clients are connected to the server, this one too, and how many may be."""
        count = text(
            "SELECT count(*), current_setting('max_connections')::int FROM pg_stat_activity"
            " WHERE backend_type = 'client backend'"
        )
        in_use, limit = self._connection.execute(count).one()
        return in_use, limit

    def cutter(self) -> Callable[[], None]:
        """What ends this connection from another thread: a statement that waits for an answer fails as a disconnect."""
        wire = self._connection.connection.driver_connection
        if not isinstance(wire, PgConnection):
            raise TypeError("not a connection of ours")
        return wire.cut

    def create(self, database: str, template: str, strategy: Strategy = "wal_log") -> None:
        """Copy `template`, which nobody may be connected to."""
        self._ddl(f"CREATE DATABASE {quoted(database)} TEMPLATE {quoted(template)} STRATEGY {strategy}")

    def rename(self, database: str, to: str) -> None:
        """Give a database, which nobody may be connected to, another name."""
        self._ddl(f"ALTER DATABASE {quoted(database)} RENAME TO {quoted(to)}")

    def exchange(self, database: str, by: str, aside: str) -> None:
        """Put `by` in the place of `database`, which becomes `aside`: both or neither. Its sessions are ended."""
        self.disconnect(database)
        renames = f"ALTER DATABASE {quoted(database)} RENAME TO {quoted(aside)}; "
        renames += f"ALTER DATABASE {quoted(by)} RENAME TO {quoted(database)}"
        try:
            self._ddl(f"BEGIN; {renames}; COMMIT")
        except BaseException:
            with contextlib.suppress(DBAPIError):
                self._ddl("ROLLBACK")
            raise

    def set_read_only(self, database: str, *, read_only: bool) -> None:
        """From now on, let nobody write who does not insist; or the reverse. Its sessions are ended."""
        change = "SET default_transaction_read_only = on" if read_only else "RESET default_transaction_read_only"
        self._ddl(f"ALTER DATABASE {quoted(database)} {change}")
        self.disconnect(database)

    def disconnect(self, database: str) -> None:
        """End everybody's sessions on a database."""
        end = text("SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = :name")
        self._connection.execute(end, {"name": database})

    def version(self) -> int:
        """The server's version, as in 180001."""
        return int(self._connection.execute(text("SHOW server_version_num")).scalar_one())

    def drop(self, database: str) -> None:
        """Remove a database and everybody's sessions on it, if it is there."""
        self._ddl(f"DROP DATABASE IF EXISTS {quoted(database)} WITH (FORCE)")

    def discard(self, database: str) -> None:
        """Remove a database even if it is a template."""
        if self.exists(database):
            self.set_template(database, is_template=False)
            self.drop(database)

    def set_template(self, database: str, *, is_template: bool) -> None:
        """Let nobody connect to it, which copying needs, and keep it from being dropped; or the reverse."""
        flag = "true" if is_template else "false"
        self._ddl(f"ALTER DATABASE {quoted(database)} IS_TEMPLATE {flag} ALLOW_CONNECTIONS {not is_template}")

    def comment_on(self, database: str) -> str | None:
        """What `set_comment` wrote; None without a comment, or without a database."""
        comment = text("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = :name")
        found: str | None = self._connection.execute(comment, {"name": database}).scalar_one_or_none()
        return found

    def set_comment(self, database: str, comment: str) -> None:
        """Write a comment of letters, digits, spaces and '='. Raises ValueError for anything else."""
        if not comment.replace(" ", "").replace("=", "").isalnum():
            raise ValueError("only letters, digits, spaces and '=' can go into a comment")
        self._ddl(f"COMMENT ON DATABASE {quoted(database)} IS '{comment}'")

    def lock(self, name: str) -> None:
        """Wait for the lock called `name`."""
        self._connection.execute(text("SELECT pg_advisory_lock(hashtextextended(:name, 0))"), {"name": name})

    def try_lock(self, name: str) -> bool:
        """Take the lock called `name` unless somebody has it."""
        take = text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")
        return bool(self._connection.execute(take, {"name": name}).scalar_one())

    def unlock(self, name: str) -> None:
        """Let go of the lock called `name`."""
        self._connection.execute(text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))"), {"name": name})

    def _ddl(self, statement: str) -> None:
        self._connection.exec_driver_sql(statement)


class DatabaseServer:
    """Opens unpooled connections for maintenance. `url` names the server; its database is ignored."""

    def __init__(
        self, url: URL, settings: ConnectionSettings = OPERATOR_SETTINGS, maintenance_database: str = "postgres"
    ) -> None:
        self._url = url
        self._servers = EngineFactory(settings)
        self._maintenance_database = maintenance_database

    def url_of(self, database: str) -> URL:
        """Where `database` is, if it is on this server."""
        return self._url.set(database=database)

    @contextmanager
    def connect(self, database: str) -> Iterator[Connection]:
        """A connection in AUTOCOMMIT, closed, and gone from the server, at the end of the block."""
        engine = self._servers.create_engine(self.url_of(database), poolclass=NullPool)
        with engine.connect() as connection:
            yield connection

    @contextmanager
    def maintenance(self) -> Iterator[Maintenance]:
        """A connection from which databases are made and dropped."""
        with self.connect(self._maintenance_database) as connection:
            yield Maintenance(connection)
