"""Check whether a PostgreSQL server can hold accounts, before it is added to the list."""

from __future__ import annotations

from sqlalchemy import URL, Connection, NullPool, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError

from kataven.system.errors import ServerUnsuitable
from kataven.tenancy.dialect import EngineFactory
from kataven.tenancy.directory import DRIVER
from kataven.tenancy.error_classification import in_words
from kataven.tenancy.server import OPERATOR_SETTINGS

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
    return url.set(drivername=DRIVER, database="")


def require_suitable(url: URL) -> str | None:
    """Connect to the server and check it; returns its identity as in `identity_of`. Raises ServerUnsuitable."""
    try:
        with _connect(url) as connection:
            about = connection.execute(_ABOUT).one()
            identity = _identity(connection)
    except DBAPIError as error:
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
    return identity


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
