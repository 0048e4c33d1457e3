"""Checks how an address leads to a server: to PostgreSQL itself, or through a pooler that can be used."""

from typing import Any

from sqlalchemy import URL, Connection, NullPool, Row, text
from sqlalchemy.exc import DBAPIError

from kataven.tenancy.dialect import EngineFactory
from kataven.tenancy.error_classification import in_words
from kataven.tenancy.errors import PoolerUnsuitable
from kataven.tenancy.pg_connection import ConnectionSettings, PgConnection, SessionFacts
from kataven.tenancy.pooled_connection import PooledConnection

NEEDS_DIRECT_URL = (
    "the address leads to a connection pooler, which drops timeouts and locks; set KATAVEN_DIRECT_DATABASE_URL to the"
    " address of PostgreSQL itself, or for a listed server run `flask servers address NAME --direct-url`"
)
NOT_DIRECT = (
    "The direct address leads to a connection pooler. Commands need sessions of PostgreSQL itself, for locks and to"
    " copy, rename and drop databases. Set KATAVEN_DIRECT_DATABASE_URL to the address of PostgreSQL itself, or for a"
    " listed server run `flask servers address NAME --direct-url`."
)
_REFUSED_PARAMETER = "unsupported startup parameter"
_ABOUT = text("SELECT current_user, current_database(), (SELECT system_identifier::text FROM pg_control_system())")


def refuses_options(error: BaseException) -> bool:
    """Whether connecting failed because a pooler refuses a parameter, which PostgreSQL itself would accept."""
    return _REFUSED_PARAMETER in str(error)


def require_own_session(facts: SessionFacts) -> None:
    """Raise PoolerUnsuitable if the session can be shared with other clients."""
    if not (facts.has_options and facts.is_own):
        raise PoolerUnsuitable(NOT_DIRECT)


def require_direct(connection: Connection) -> None:
    """Raise PoolerUnsuitable if a connection in AUTOCOMMIT goes through a pooler."""
    require_own_session(_pg_connection(connection).read_facts())


def require_no_pooler(url: URL, settings: ConnectionSettings) -> None:
    """Raise PoolerUnsuitable if a pooler at `url` drops the timeouts of connections, or DBAPIError if it is down."""
    try:
        with _connect(url, settings) as connection:
            facts = _pg_connection(connection).read_facts()
    except DBAPIError as error:
        if refuses_options(error):
            raise PoolerUnsuitable(f"{NEEDS_DIRECT_URL}.") from None
        raise
    if not facts.has_options:
        raise PoolerUnsuitable(f"{NEEDS_DIRECT_URL}.")


def require_usable(pooled: URL, direct: URL, settings: ConnectionSettings) -> None:
    """Check a pooler in front of a server, which `direct` leads to. Both URLs name an existing database.

    Without access to the direct address, as on a host of the API, only the pooler is checked. Raises PoolerUnsuitable,
    or DBAPIError if the pooler can't be reached.
    """
    about = _about_direct(direct, settings)
    try:
        with _connect(pooled, settings, pooled=True) as connection:
            if _pg_connection(connection).read_facts().in_recovery:
                raise PoolerUnsuitable("The pooler leads to a standby, which lags behind. It must lead to the primary.")
            _require_transactions(connection)
            found = connection.execute(_ABOUT).one()
    except DBAPIError as error:
        if refuses_options(error):
            raise PoolerUnsuitable(
                f"The pooler refuses a connection: {in_words(error)}. Add the parameter to ignore_startup_parameters."
            ) from None
        raise
    if about is None:
        return
    if found.system_identifier != about.system_identifier:
        raise PoolerUnsuitable("The pooler and the direct address lead to different servers.")
    if found.current_database != about.current_database:
        raise PoolerUnsuitable(
            f"The pooler leads to the database {found.current_database!r} for {about.current_database!r}. It must pass"
            " the names of databases through: [databases] * = host=…"
        )
    if found.current_user != about.current_user:
        raise PoolerUnsuitable(
            f"The pooler connects as {found.current_user!r}, and the direct address as {about.current_user!r}. Use one"
            " user, because it must own the accounts' tables."
        )


def _about_direct(direct: URL, settings: ConnectionSettings) -> Row[*tuple[Any, ...]] | None:
    try:
        with _connect(direct, settings) as connection:
            require_direct(connection)
            return connection.execute(_ABOUT).one()
    except DBAPIError as error:
        if refuses_options(error):
            raise PoolerUnsuitable(NOT_DIRECT) from None
        return None


def _require_transactions(connection: Connection) -> None:
    """In statement pooling mode, a pooler ends the connection that starts a transaction."""
    try:
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql("ROLLBACK")
    except DBAPIError:
        raise PoolerUnsuitable(
            "The pooler refuses transactions: it runs in statement pooling mode. Set pool_mode = transaction."
        ) from None


def _connect(url: URL, settings: ConnectionSettings, *, pooled: bool = False) -> Connection:
    factory = PooledConnection if pooled else PgConnection
    return EngineFactory(settings).create_engine(url, factory, pooled=pooled, poolclass=NullPool).connect()


def _pg_connection(connection: Connection) -> PgConnection:
    found = connection.connection.driver_connection
    if not isinstance(found, PgConnection):
        raise TypeError("the connection is not a PgConnection")
    return found
