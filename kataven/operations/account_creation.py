"""An account from its first row to its last: making its database with it, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kataven.system import accounts, limits, operators, schema, servers
from kataven.system.database import SystemDatabase
from kataven.system.directory import tenant_url
from kataven.system.models import Account, AccountStatus
from kataven.tenancy.databases.provision import Provisioned, Provisioner, Reservation
from kataven.tenancy.names import check_new_account_name
from kataven.tenancy.server import DatabaseServer


@dataclass(frozen=True, slots=True)
class NewAccount:
    """What an operator says of an account to make. `limits` are those that differ from the product's."""

    account: str
    name: str
    org_id: str | None = None
    server: str | None = None
    discoverable: bool = False
    max_key_expiry_days: int | None = None
    limits: Mapping[str, int] = field(default_factory=dict)


def prepare_system(url: str) -> None:
    """Create or upgrade the system database."""
    schema.upgrade_system(url)
    database = SystemDatabase(url)
    try:
        with database.writing() as session:
            servers.ensure_default(session)
    finally:
        database.close()


def create(database: SystemDatabase, new: NewAccount, *, actor: str) -> None:
    """Make an account and its database. If anything fails there is neither.

    Raises InvalidAccountName, AccountExists, NoSuchServer, DatabaseExists or ProvisioningError. A crash half-way leaves
    an account in `provisioning`, which nobody can use and `flask accounts repair` finishes or takes back.
    """
    make(database, new, Reservation.create, actor=actor, action="account.created")


def make(
    database: SystemDatabase,
    new: NewAccount,
    build: Callable[[Reservation], Provisioned],
    *,
    actor: str,
    action: str,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """The same with another way to make the database; `action` is what the operators' trail calls it."""
    check_new_account_name(new.account, also_reserved=(str(database.url.database),))
    server_name, server = _choose_server(database, new.server)
    with Provisioner(server, schema.ACCOUNT_SCHEMA).reserve(new.account) as reservation:
        with database.writing() as session:
            servers.require_open(session, server_name)
            accounts.reserve(session, _row(new, server_name))
            if new.limits:
                limits.write(session, new.account, new.limits)
        try:
            made = build(reservation)
        except BaseException:
            _take_back(database, new.account)
            raise
        with database.writing() as session:
            account = accounts.move(session, new.account, AccountStatus.ACTIVE, AccountStatus.PROVISIONING)
            account.schema_revision = made.revision
            operators.record(session, actor, action, new.account, {"server": server_name, **(detail or {})})


def find(database: SystemDatabase, account: str) -> tuple[Account, DatabaseServer]:
    """An account's row, and the server that its database is on. Raises NoSuchAccount."""
    with database.reading() as session:
        row = accounts.read(session, account)
        url = servers.read(session, row.server).url
    return row, DatabaseServer(tenant_url(database.url, url, "postgres"))


def _choose_server(database: SystemDatabase, name: str | None) -> tuple[str, DatabaseServer]:
    with database.reading() as session:
        chosen = servers.choose(session, name)
        return chosen.name, DatabaseServer(tenant_url(database.url, chosen.url, "postgres"))


def _row(new: NewAccount, server: str) -> Account:
    return Account(
        account_id=new.account,
        account_name=new.name,
        database_name=new.account,
        server=server,
        zitadel_org_id=new.org_id,
        max_key_expiry_days=new.max_key_expiry_days,
        discoverable=new.discoverable,
    )


def _take_back(database: SystemDatabase, account: str) -> None:
    with database.writing() as session:
        session.delete(accounts.read(session, account, lock=True))
