"""One SQLAlchemy dialect, and one cache of compiled statements, for all engines of a PostgreSQL server.

`create_engine` creates a dialect per engine. Each dialect then sends the same nine queries on its first connection, and
has its own compiled statements (about 400 KB when warm), because the cache's keys contain the dialect. This driver
shares one dialect per server, with SQLAlchemy's documented means: a registered dialect, keyword arguments of its
constructor, overridden methods, and the execution option `compiled_cache`.

Shared state must be valid for every database of the server: its version, `standard_conforming_strings`, the default
schema and isolation level. It must not change per database.
"""

import threading
from collections.abc import Callable, MutableMapping
from typing import Any

from psycopg2 import OperationalError
from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.util import LRUCache

from kataven.tenancy.error_classification import leave_values_out
from kataven.tenancy.pg_connection import ConnectionSettings, PgConnection

DRIVER = "postgresql+psycopg2_shared"
_COMPILED_STATEMENTS = 500  # SQLAlchemy's default, which applies to each engine


class SharedServerState:
    """The dialect and the compiled statements that all engines of one server share."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.dialect: SharedDialect | None = None
        self.compiled_cache: MutableMapping[Any, Any] = LRUCache(_COMPILED_STATEMENTS)


class EngineFactory:
    """Creates engines that share their server's dialect and statement cache. Engines are in AUTOCOMMIT by default."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._servers: dict[object, SharedServerState] = {}

    def create_engine(
        self,
        url: URL,
        connection_factory: Callable[..., PgConnection] = PgConnection,
        *,
        pooled: bool = False,
        **options: Any,
    ) -> Engine:
        """An engine for `url`; it connects on first use. `options` are SQLAlchemy's, mostly for the pool.

        `pooled` if `url` leads to a pooler. Then `connection_factory` must create PooledConnections.
        """
        with self._lock:
            server = self._servers.setdefault((server_key(url), pooled), SharedServerState())
        with server.lock:
            return create_engine(
                url.set(drivername=DRIVER),
                server=server,
                isolation_level="AUTOCOMMIT",
                hide_parameters=True,  # error messages must not contain customers' data
                query_cache_size=0,
                execution_options={"compiled_cache": server.compiled_cache},
                connect_args={
                    "connection_factory": connection_factory,
                    **self._settings.connect_args(url, pooled=pooled),
                },
                **options,
            )


def server_key(url: URL) -> object:
    """Equal for URLs that differ in their database or password only."""
    return url.host, url.port, url.username, tuple(sorted(url.query.items()))


class SharedDialect(PGDialect_psycopg2):
    """psycopg2's dialect, one instance per server."""

    supports_statement_cache = True
    _ready = False
    _probed = False

    def __new__(cls, server: SharedServerState, **_: Any) -> "SharedDialect":
        """The server's dialect: the existing one, else a new one. The caller holds `server.lock`."""
        if server.dialect is None:
            server.dialect = super().__new__(cls)
        return server.dialect

    def __init__(self, server: SharedServerState, **options: Any) -> None:
        if not self._ready:
            super().__init__(use_native_hstore=False, **options)  # type: ignore[no-untyped-call]
            self._probe_lock = threading.Lock()
            self._ready = True

    def connect(self, *arguments: Any, **parameters: Any) -> Any:
        """Connect to the first host that is the primary, one host at a time.

        libpq tries the next host only if a server is unreachable or is a standby. A standby that does not have the
        database yet, because it lags behind, would end the attempt.
        """
        hosts = str(parameters.get("host") or "").split(",")
        if len(hosts) == 1:
            return super().connect(*arguments, **parameters)
        ports = str(parameters["port"]).split(",")
        last = len(hosts) - 1
        for index, (host, port) in enumerate(zip(hosts, ports, strict=True)):
            one = {**parameters, "host": host, "port": port}
            try:
                return super().connect(*arguments, **one)
            except OperationalError:
                if index == last:
                    raise
        raise AssertionError("unreachable")

    def initialize(self, connection: Connection) -> None:
        """Query the server's properties once. Later engines use the results."""
        if not self._probed:
            with self._probe_lock:
                if not self._probed:
                    super().initialize(connection)  # type: ignore[no-untyped-call]
                    self._probed = True

    def set_isolation_level(self, dbapi_connection: Any, level: str) -> None:
        """Switch AUTOCOMMIT on and off in the client. psycopg2's own way to switch it off costs a round trip.

        READ COMMITTED needs no statement: every connection is opened with it as its default.
        """
        if level in ("AUTOCOMMIT", "READ COMMITTED") and dbapi_connection.isolation_level is None:
            dbapi_connection.rollback()  # no round trip, unless a transaction is open
            dbapi_connection.autocommit = level == "AUTOCOMMIT"
        else:
            super().set_isolation_level(dbapi_connection, level)  # type: ignore[no-untyped-call]

    def do_ping(self, dbapi_connection: Any) -> bool:
        """Whether the pooled connection is still alive, without a round trip."""
        connection: PgConnection = dbapi_connection
        return connection.is_alive()


registry.register("postgresql.psycopg2_shared", __name__, SharedDialect.__name__)


@event.listens_for(SharedDialect, "handle_error")
def _leave_values_out(context: ExceptionContext) -> None:
    """On every engine of this dialect, before the error is raised."""
    leave_values_out(context.sqlalchemy_exception, context.original_exception)
