"""One SQLAlchemy dialect, and one cache of compiled statements, for all engines of a PostgreSQL server.

`create_engine` makes a dialect per engine. Each then asks the server the same nine questions on its first connection,
and keeps its own compiled statements (about 400 KB once warm), because the cache's keys contain the dialect. This
driver hands out the server's one dialect instead, through what SQLAlchemy offers for it: a registered dialect, keyword
arguments of its constructor, the methods that it overrides, and the execution option `compiled_cache`.

What is shared must be true of every database of the server: its version, `standard_conforming_strings`, the default
schema and isolation level. It must not be changed per database.
"""

import threading
from collections.abc import Callable, MutableMapping
from typing import Any

from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.util import LRUCache

from kataven.tenancy.error_classification import leave_values_out
from kataven.tenancy.pg_connection import ConnectionSettings, PgConnection

DRIVER = "postgresql+psycopg2_shared"
_COMPILED_STATEMENTS = 500  # SQLAlchemy's own default, there for each engine


class SharedServerState:
    """What all engines of one server share."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.dialect: SharedDialect | None = None
        self.compiled_cache: MutableMapping[Any, Any] = LRUCache(_COMPILED_STATEMENTS)


class EngineFactory:
    """Builds engines that share what their server's others have found out. Engines are in AUTOCOMMIT by default."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._servers: dict[object, SharedServerState] = {}

    def create_engine(
        self, url: URL, connection_factory: Callable[..., PgConnection] = PgConnection, **options: Any
    ) -> Engine:
        """An engine for `url`; it connects when it is first used. `options` are SQLAlchemy's, mostly the pool's."""
        with self._lock:
            server = self._servers.setdefault(server_key(url), SharedServerState())
        with server.lock:
            return create_engine(
                url.set(drivername=DRIVER),
                server=server,
                isolation_level="AUTOCOMMIT",
                hide_parameters=True,  # an error's text must not carry what customers wrote
                query_cache_size=0,
                execution_options={"compiled_cache": server.compiled_cache},
                connect_args={"connection_factory": connection_factory, **self._settings.connect_args(url)},
                **options,
            )


def server_key(url: URL) -> object:
    """Equal for URLs that differ in their database or password only."""
    return url.host, url.port, url.username, tuple(sorted(url.query.items()))


class SharedDialect(PGDialect_psycopg2):
    """psycopg2's dialect, of which a `Server` has one."""

    supports_statement_cache = True
    _ready = False
    _probed = False

    def __new__(cls, server: SharedServerState, **_: Any) -> "SharedDialect":
        """The server's dialect: the one it has, else a new one. The caller holds `server.lock`."""
        if server.dialect is None:
            server.dialect = super().__new__(cls)
        return server.dialect

    def __init__(self, server: SharedServerState, **options: Any) -> None:
        if not self._ready:
            super().__init__(use_native_hstore=False, **options)  # type: ignore[no-untyped-call]
            self._probe_lock = threading.Lock()
            self._ready = True

    def initialize(self, connection: Connection) -> None:
        """Ask the server what it is, once; later engines find the answers."""
        if not self._probed:
            with self._probe_lock:
                if not self._probed:
                    super().initialize(connection)  # type: ignore[no-untyped-call]
                    self._probed = True

    def set_isolation_level(self, dbapi_connection: Any, level: str) -> None:
        """Go in and out of AUTOCOMMIT on the client alone, where psycopg2's own way back costs a round trip.

        READ COMMITTED needs no naming: every connection of ours is opened with it as its default.
        """
        if level in ("AUTOCOMMIT", "READ COMMITTED") and dbapi_connection.isolation_level is None:
            dbapi_connection.rollback()  # no round trip, unless a transaction was left open
            dbapi_connection.autocommit = level == "AUTOCOMMIT"
        else:
            super().set_isolation_level(dbapi_connection, level)  # type: ignore[no-untyped-call]

    def do_ping(self, dbapi_connection: Any) -> bool:
        """Whether the pooled connection is still alive, without a round trip."""
        wire: PgConnection = dbapi_connection
        return wire.is_quiet()


registry.register("postgresql.psycopg2_shared", __name__, SharedDialect.__name__)


@event.listens_for(SharedDialect, "handle_error")
def _leave_values_out(context: ExceptionContext) -> None:
    """On every engine of this dialect, before anybody sees the error."""
    leave_values_out(context.sqlalchemy_exception, context.original_exception)
