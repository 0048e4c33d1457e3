"""The addresses of a database server: one for the workers, and a direct one for what a pooler would break."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Label, literal_column, make_url, select
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from kataven.system.database import SystemDatabase
from kataven.system.errors import NoSuchServer
from kataven.system.models import RegisteredServer
from kataven.tenancy.directory import DRIVER, Tenant

# Through JSON, because a system database before `system_0008` lacks the column, and workers must serve with it.
DIRECT_URL: Label[str | None] = literal_column("to_jsonb(database_servers) ->> 'direct_url'").label("direct_url")
"""A column of queries that select from RegisteredServer."""


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """The URLs of a server, without a database. `direct` is None unless `url` leads to a connection pooler."""

    url: URL
    direct: URL | None = None

    @property
    def past_pooler(self) -> URL:
        """The URL for commands: locks, DDL, copies, dumps."""
        return self.direct or self.url

    def tenant(self, account: str, database: str, revision: str | None = None) -> Tenant:
        """An account's database on this server."""
        direct = None if self.direct is None else self.direct.set(database=database)
        return Tenant(account, self.url.set(database=database), revision, direct)


def address_of(database: SystemDatabase, url: str | None, direct_url: str | None) -> ServerAddress:
    """The address of a server, from its row. `url` is None for the server that holds the system database."""
    if url is None:
        return ServerAddress(_server(database.url), _server(database.direct_url) if database.pooled else None)
    return ServerAddress(_server(make_url(url)), _server(make_url(direct_url)) if direct_url else None)


def addresses(session: Session, database: SystemDatabase) -> Mapping[str, ServerAddress]:
    """The address of each listed server, by name."""
    rows = session.execute(select(RegisteredServer.name, RegisteredServer.url, DIRECT_URL))
    return {row.name: address_of(database, row.url, row.direct_url) for row in rows}


def read_address(session: Session, database: SystemDatabase, server: str) -> ServerAddress:
    """The address of a server. Raises NoSuchServer."""
    found = addresses(session, database).get(server)
    if found is None:
        raise NoSuchServer(server)
    return found


def _server(url: URL) -> URL:
    return url.set(drivername=DRIVER, database="postgres")
