"""Check whether a PostgreSQL server can hold accounts, before it is added to the list."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import URL, Connection, NullPool, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError

from kataven.system.errors import ServerUnsuitable
from kataven.tenancy.dialect import EngineFactory
from kataven.tenancy.directory import DRIVER
from kataven.tenancy.error_classification import in_words
from kataven.tenancy.errors import PoolerUnsuitable
from kataven.tenancy.hosts import only_primary
from kataven.tenancy.pooler_check import NOT_DIRECT, refuses_options, require_direct, require_usable
from kataven.tenancy.server import OPERATOR_SETTINGS
from kataven.tenancy.url_options import check_options

_POOLER = (
    "The address leads to a connection pooler. Commands need sessions of PostgreSQL itself: add --direct-url, and give"
    " its address too."
)

OLDEST_VERSION = 150_000
"""PostgreSQL 15 introduced `CREATE DATABASE … STRATEGY`, which is used to copy databases."""

_ACCEPTED = {"postgresql", "postgres", DRIVER}
_SECRETS = {"password", "sslpassword", "oauth_client_secret"}

_ABOUT = text("""
SELECT current_setting('server_version_num')::int AS version, current_setting('server_version') AS version_text,
       current_user AS role, rolcreatedb OR rolsuper AS creates, pg_is_in_recovery() AS standby,
       (SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'template0') AS encoding
FROM pg_roles WHERE rolname = current_user
""")
_REPLICATION = text("""
SELECT (SELECT count(*) FROM pg_stat_replication), current_setting('synchronous_standby_names'),
       current_setting('synchronous_commit')
""")
_IDENTITY = text("SELECT system_identifier FROM pg_control_system()")


def server_url(given: str) -> URL:
    """The normalized URL of a server, without a database. Raises ValueError; the message never repeats the input.

    Passwords are refused. The system database is copied to replicas, backups and laptops, and a password in it would
    give access to the data of every account.
    """
    try:
        url = make_url(given.strip())
    except (ArgumentError, ValueError):
        raise ValueError("Invalid database URL. Use the form postgresql://user@host:5432") from None
    if url.drivername not in _ACCEPTED:
        raise ValueError("Not a PostgreSQL URL. Use the form postgresql://user@host:5432")
    if url.password is not None or _SECRETS & set(url.query):
        raise ValueError(
            "The URL must not contain a password. On each host that runs Kataven, add this line to libpq's password"
            " file, which PGPASSFILE names: host:port:*:user:password"
        )
    if not url.username:
        raise ValueError("The URL has no user. Use the form postgresql://user@host:5432")
    if not (url.host or "host" in url.query):
        raise ValueError("The URL has no host. Use the form postgresql://user@host:5432")
    try:
        check_options(url, given.strip())
    except ValueError as error:
        raise ValueError(f"The URL {error}") from None
    return only_primary(url.set(drivername=DRIVER, database=""))


@dataclass(frozen=True, slots=True)
class Replication:
    """How a server replicates. With synchronous replication, a failover loses no commit."""

    standbys: int
    synchronous_standbys: str
    synchronous_commit: str

    @property
    def synchronous(self) -> bool:
        return bool(self.synchronous_standbys) and self.synchronous_commit not in ("off", "local")

    @property
    def warning(self) -> str | None:
        """What an operator must know before accounts are placed on the server; None if nothing can be lost."""
        if self.synchronous_commit == "off":
            return "synchronous_commit is off: a crash of the server loses commits, which may revoke keys."
        if self.standbys and not self.synchronous:
            return (
                f"The server has {self.standbys} standby(s) and no synchronous replication: a failover loses commits,"
                " which may revoke keys. Set synchronous_standby_names, and synchronous_commit to on."
            )
        return None


@dataclass(frozen=True, slots=True)
class SuitableServer:
    """A server that can hold accounts. `identity` is that of `identity_of`."""

    identity: str
    replication: Replication


def require_suitable(url: URL, direct: URL | None = None) -> SuitableServer:
    """Connect to the server and check it. If `url` leads to a connection pooler, `direct` leads past it.

    Raises ServerUnsuitable.
    """
    server = _require_suitable(url if direct is None else direct, is_only_address=direct is None)
    if direct is not None:
        _require_suitable_pooler(url, direct)
    return server


def _require_suitable_pooler(url: URL, direct: URL) -> None:
    if "options" in url.query:
        raise ServerUnsuitable("The pooler's URL has `options`, which poolers refuse. Remove them.")
    try:
        require_usable(url.set(database="postgres"), direct.set(database="postgres"), OPERATOR_SETTINGS)
    except PoolerUnsuitable as error:
        raise ServerUnsuitable(str(error)) from None
    except DBAPIError as error:
        raise ServerUnsuitable(
            f"Can't connect through the pooler: {in_words(error)}. Check the address, the pooler's users, and its list"
            " of databases, which must contain * for the accounts' databases."
        ) from None


def _require_suitable(url: URL, *, is_only_address: bool) -> SuitableServer:
    try:
        with _connect(url) as connection:
            require_direct(connection)
            about = connection.execute(_ABOUT).one()
            replication = Replication(*connection.execute(_REPLICATION).one())
            identity = _identity(connection)
    except PoolerUnsuitable:
        raise ServerUnsuitable(_POOLER if is_only_address else NOT_DIRECT) from None
    except DBAPIError as error:
        if refuses_options(error):
            raise ServerUnsuitable(_POOLER if is_only_address else NOT_DIRECT) from None
        raise ServerUnsuitable(
            f"Can't connect to the server: {in_words(error)}. Check the address, pg_hba.conf, and the server's line in"
            " the password file (mode 0600) that PGPASSFILE names."
        ) from None
    if about.version < OLDEST_VERSION:
        raise ServerUnsuitable(f"The server runs PostgreSQL {about.version_text}. Version 15 or later is required.")
    if about.standby:
        raise ServerUnsuitable("The server is a read-only standby. Use its primary.")
    if not about.creates:
        raise ServerUnsuitable(
            f'{about.role} must be able to create databases. Run: ALTER ROLE "{about.role}" CREATEDB'
        )
    if about.encoding != "UTF8":
        raise ServerUnsuitable(f"The server's encoding is {about.encoding}. Create the cluster with --encoding=UTF8.")
    return SuitableServer(identity, replication)


def identity_of(url: URL) -> str | None:
    """The system identifier of the server, independent of its address; None if it is unavailable."""
    try:
        with _connect(url) as connection:
            return _identity(connection)
    except DBAPIError:
        return None


def _connect(url: URL) -> Connection:
    return EngineFactory(OPERATOR_SETTINGS).create_engine(url.set(database="postgres"), poolclass=NullPool).connect()


def _identity(connection: Connection) -> str:
    return str(connection.execute(_IDENTITY).scalar_one())
