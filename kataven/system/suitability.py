"""Whether a PostgreSQL server can hold accounts: asked before it is listed, with what to do where it can't."""

from __future__ import annotations

from sqlalchemy import URL, Connection, NullPool, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError

from kataven.system.errors import ServerUnsuitable
from kataven.tenancy.dialect import EngineFactory
from kataven.tenancy.directory import DRIVER
from kataven.tenancy.error_classification import in_words
from kataven.tenancy.server import OPERATOR_SETTINGS

OLDEST_VERSION = 150_000
"""PostgreSQL 15: databases are copied with `STRATEGY`."""

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
    """The URL to list a server under. Raises ValueError with what is wrong, and never with what was given.

    Without a database, since it is for all of them, and without a password, since the system database is copied to
    replicas, backups and laptops: the keys to every account's data would go with it.
    """
    try:
        url = make_url(given.strip())
    except (ArgumentError, ValueError):
        raise ValueError("This is not a database URL; write postgresql://user@host:5432") from None
    if url.drivername not in _ACCEPTED:
        raise ValueError("This is not PostgreSQL's; write postgresql://user@host:5432")
    if url.password is not None or _SECRETS & set(url.query):
        raise ValueError(
            "Leave the password out of the URL: it is not kept here. Put it into libpq's password file, the one that"
            " PGPASSFILE names, on each host that runs Kataven, as one line: host:port:*:user:password"
        )
    if not url.username:
        raise ValueError("The URL names no user; write postgresql://user@host:5432")
    if not (url.host or "host" in url.query):
        raise ValueError("The URL names no host; write postgresql://user@host:5432")
    return url.set(drivername=DRIVER, database="")


def require_suitable(url: URL) -> str | None:
    """Connect, and look; what identifies the server, as `identity_of` says it. Raises ServerUnsuitable with the fix."""
    try:
        with _connect(url) as connection:
            about = connection.execute(_ABOUT).one()
            identity = _identity(connection)
    except DBAPIError as error:
        raise ServerUnsuitable(
            f"It can't be connected to: {in_words(error)}. The address, pg_hba.conf, and the line for it in the"
            " password file (mode 0600) that PGPASSFILE names are what to look at."
        ) from None
    if about.version < OLDEST_VERSION:
        raise ServerUnsuitable(f"It runs PostgreSQL {about.version_text}, and 15 is the oldest that will do.")
    if about.standby:
        raise ServerUnsuitable("It is a standby, which only reads: name its primary.")
    if not about.creates:
        raise ServerUnsuitable(f'{about.role} may not create databases there: ALTER ROLE "{about.role}" CREATEDB.')
    if about.encoding != "UTF8":
        raise ServerUnsuitable(f"Its databases would be in {about.encoding}: make the cluster with --encoding=UTF8.")
    return identity


def identity_of(url: URL) -> str | None:
    """What identifies the server, whatever it is called; None if it can't be asked."""
    try:
        with _connect(url) as connection:
            return _identity(connection)
    except DBAPIError:
        return None


def _connect(url: URL) -> Connection:
    return EngineFactory(OPERATOR_SETTINGS).create_engine(url.set(database="postgres"), poolclass=NullPool).connect()


def _identity(connection: Connection) -> str:
    return str(connection.execute(_IDENTITY).scalar_one())
