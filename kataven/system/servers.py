"""The PostgreSQL servers that accounts are placed on.

The URL of a server contains no password. Each process that connects reads it from libpq's password file; see
docs/decisions/0036.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import URL, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from kataven.system import operators
from kataven.system.addresses import DIRECT_URL, ServerAddress, addresses, read_address
from kataven.system.database import SystemDatabase
from kataven.system.errors import (
    LastServer,
    NoSuchServer,
    ServerExists,
    ServerInUse,
    ServerUnsuitable,
    SystemSchemaBehind,
)
from kataven.system.models import Account, RegisteredServer
from kataven.system.schema import system_has, system_revision
from kataven.system.suitability import Replication, identity_of, require_suitable
from kataven.tenancy.hosts import hosts_of
from kataven.tenancy.names import check_account_name

DIRECT_URL_REVISION = "system_0008"
DEFAULT_SERVER = "default"
"""The server that holds the system database."""


def ensure_default(session: Session) -> None:
    """Add the system database's server to the list if it is missing."""
    session.execute(insert(RegisteredServer).values(name=DEFAULT_SERVER, url=None).on_conflict_do_nothing())


def read(session: Session, name: str, *, lock: bool = False) -> RegisteredServer:
    """Raises NoSuchServer."""
    server = session.get(RegisteredServer, name, with_for_update=lock or None)
    if server is None:
        raise NoSuchServer(name)
    return server


def listing(session: Session) -> Sequence[tuple[RegisteredServer, int]]:
    """All servers with their `direct_url`, and their numbers of accounts, ordered by name."""
    found = session.execute(
        select(RegisteredServer, func.count(Account.account_id), DIRECT_URL)
        .join(Account, Account.server == RegisteredServer.name, isouter=True)
        .group_by(RegisteredServer.name)
        .order_by(RegisteredServer.name)
    ).all()
    for server, _, direct_url in found:
        set_committed_value(server, "direct_url", direct_url)
    return [(server, count) for server, count, _ in found]


def choose(session: Session, name: str | None) -> RegisteredServer:
    """The server for a new account: the named one, or the one with the fewest accounts. Raises NoSuchServer."""
    open_servers = [(count, server) for server, count in listing(session) if not server.draining]
    if name is not None:
        open_servers = [(count, server) for count, server in open_servers if server.name == name]
    if not open_servers:
        raise NoSuchServer(name)
    return min(open_servers, key=lambda entry: entry[0])[1]


def require_open(session: Session, name: str) -> None:
    """Raise NoSuchServer unless the server accepts accounts, and keep it from being drained until the commit.

    Called by the transaction that places an account. A drain waits for the transactions that started before it.
    """
    statement = select(RegisteredServer).where(RegisteredServer.name == name, ~RegisteredServer.draining)
    if session.scalar(statement.with_for_update(read=True)) is None:
        raise NoSuchServer(name)


def add(database: SystemDatabase, name: str, url: URL, *, direct_url: URL | None = None, actor: str) -> Replication:
    """Add a server to the list after checking that it can hold accounts. The URLs are results of `server_url`.

    If `url` leads to a connection pooler, `direct_url` leads past it.

    Returns how the server replicates.

    Raises ServerExists, ServerUnsuitable, SystemSchemaBehind, or InvalidAccountName: servers follow the naming rules of
    accounts.
    """
    check_account_name(name)
    address = ServerAddress(url, direct_url)
    with database.reading() as session:
        _require_column(session, address)
        known = addresses(session, database)
    if name in known:
        raise ServerExists(name)
    server = require_suitable(address.url, address.direct)
    for other, other_address in known.items():
        if identity_of(other_address.past_pooler) == server.identity:
            raise ServerUnsuitable(f"This server is already listed as {other!r}, and can't be listed twice.")
    with database.writing() as session:
        row = {"name": name, **_columns(address)}
        added = insert(RegisteredServer).values(row).on_conflict_do_nothing().returning(RegisteredServer.name)
        if session.scalar(added) is None:
            raise ServerExists(name)
        operators.record(session, actor, "server.added", None, {"server": name, **_hosts(address)})
    return server.replication


def change_address(
    database: SystemDatabase, name: str, url: URL, *, direct_url: URL | None = None, actor: str
) -> Replication:
    """Change how a listed server is reached, for example when a connection pooler is placed in front of it.

    Workers use the new address within 30 s. Raises NoSuchServer, ServerUnsuitable or SystemSchemaBehind. The server of
    the system database has its address in the settings.
    """
    address = ServerAddress(url, direct_url)
    with database.reading() as session:
        _require_column(session, address)
        before = read_address(session, database, name)
    if name == DEFAULT_SERVER:
        raise ServerUnsuitable(
            "The address of this server is set by KATAVEN_DATABASE_URL and KATAVEN_DIRECT_DATABASE_URL."
        )
    server = require_suitable(address.url, address.direct)
    known = identity_of(before.past_pooler)
    if known is not None and known != server.identity:
        raise ServerUnsuitable(f"The new address leads to another server than {name!r}.")
    with database.writing() as session:
        read(session, name, lock=True)
        columns = _columns(address)
        if before.direct is not None:
            columns.setdefault("direct_url", None)
        session.execute(update(RegisteredServer).where(RegisteredServer.name == name).values(columns))
        operators.record(session, actor, "server.address_changed", None, {"server": name, **_hosts(address)})
    return server.replication


def _columns(address: ServerAddress) -> dict[str, str | None]:
    columns: dict[str, str | None] = {"url": address.url.render_as_string(hide_password=False)}
    if address.direct is not None:
        columns["direct_url"] = address.direct.render_as_string(hide_password=False)
    return columns


def _hosts(address: ServerAddress) -> dict[str, str | None]:
    hosts = {"host": host_of(address.url)}
    return hosts if address.direct is None else {**hosts, "direct_host": host_of(address.direct)}


def _require_column(session: Session, address: ServerAddress) -> None:
    if address.direct is not None and not system_has(session, DIRECT_URL_REVISION):
        raise SystemSchemaBehind(system_revision(session), DIRECT_URL_REVISION)


def drain(database: SystemDatabase, name: str, *, draining: bool, actor: str, force: bool = False) -> None:
    """Stop placing new accounts on a server, or resume it. Existing accounts remain there and are served.

    When this function returns, no creation in progress can still place an account there. Raises NoSuchServer, or
    LastServer if no other server accepts accounts and `force` is not set.
    """
    with database.writing() as session:
        server = _lock_to_drain(session, name, force=force or not draining)
        if server.draining != draining:
            server.draining = draining
            action = "server.draining" if draining else "server.resumed"
            operators.record(session, actor, action, None, {"server": name})


def remove(database: SystemDatabase, name: str, *, actor: str, force: bool = False) -> None:
    """Remove a server without accounts from the list. The server itself is not changed.

    Raises NoSuchServer, ServerInUse, or LastServer if no other server accepts accounts and `force` is not set.
    """
    with database.writing() as session:
        server = _lock_to_drain(session, name, force=force)
        accounts = session.scalar(select(func.count()).where(Account.server == name)) or 0
        if accounts or name == DEFAULT_SERVER:
            raise ServerInUse(name, accounts)
        session.delete(server)
        operators.record(session, actor, "server.removed", None, {"server": name})


def _lock_to_drain(session: Session, name: str, *, force: bool) -> RegisteredServer:
    """The row of a server to drain or remove, locked. Raises NoSuchServer, and LastServer unless `force` is set."""
    # All rows are locked, in the same order. Otherwise two drains could run at once, each relying on the other server.
    rows = session.scalars(select(RegisteredServer).order_by(RegisteredServer.name).with_for_update()).all()
    server = next((row for row in rows if row.name == name), None)
    if server is None:
        raise NoSuchServer(name)
    if not force and not server.draining and all(row.draining for row in rows if row is not server):
        raise LastServer(name)
    return server


def host_of(url: URL) -> str | None:
    """The hosts of a URL for display; for a Unix socket, its folder."""
    return ",".join(host for host, _ in hosts_of(url)) or None


def port_of(url: URL) -> int | str:
    """The port of a URL for display; several ports, if the hosts of the URL have different ones."""
    ports = list(dict.fromkeys(port for _, port in hosts_of(url)))
    return int(ports[0]) if len(ports) == 1 else ",".join(ports)
