"""The PostgreSQL servers that accounts are placed on."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from kataven.system.errors import NoSuchServer
from kataven.system.models import Account, DatabaseServer

DEFAULT_SERVER = "default"
"""The server that holds the system database."""


def ensure_default(session: Session) -> None:
    """Make sure that the system database's own server is listed."""
    session.execute(insert(DatabaseServer).values(name=DEFAULT_SERVER, url=None).on_conflict_do_nothing())


def read(session: Session, name: str) -> DatabaseServer:
    """Raises NoSuchServer."""
    server = session.get(DatabaseServer, name)
    if server is None:
        raise NoSuchServer(name)
    return server


def listing(session: Session) -> Sequence[tuple[DatabaseServer, int]]:
    """Every server with its number of accounts, by name."""
    return [
        (server, count)
        for server, count in session.execute(
            select(DatabaseServer, func.count(Account.account_id))
            .join(Account, Account.server == DatabaseServer.name, isouter=True)
            .group_by(DatabaseServer.name)
            .order_by(DatabaseServer.name)
        )
    ]


def choose(session: Session, name: str | None) -> DatabaseServer:
    """The server for a new account: the one that is named, else the least loaded. Raises NoSuchServer."""
    open_servers = [(count, server) for server, count in listing(session) if not server.draining]
    if name is not None:
        open_servers = [(count, server) for count, server in open_servers if server.name == name]
    if not open_servers:
        raise NoSuchServer(name or "any")
    return min(open_servers, key=lambda entry: entry[0])[1]
