"""Create accounts: the account's row in the system database, and its database on a server. Either both or neither."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from kataven.operations.operator import Operator, OperatorServices
from kataven.revocation.receipt import RevocationUnconfirmed
from kataven.revocation.target import RevocationTarget
from kataven.system import accounts, limits, operators, rotation_policy, schema, servers
from kataven.system.addresses import read_address
from kataven.system.database import SystemDatabase
from kataven.system.models import Account, AccountStatus
from kataven.tenancy.databases.provision import Provisioned, Provisioner, Reservation
from kataven.tenancy.names import check_new_account_name
from kataven.tenancy.server import DatabaseServer


@dataclass(frozen=True, slots=True)
class NewAccount:
    """The properties of an account to create. `limits` contains only those that differ from the defaults."""

    account: str
    name: str
    org_id: str | None = None
    server: str | None = None
    discoverable: bool = False
    max_key_expiry_days: int | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    rotate_after_days: int | None = None


def prepare_system(url: str) -> None:
    """Create the system database, or upgrade it to the newest revision. `url` must lead past any pooler."""
    schema.upgrade_system(url)
    database = SystemDatabase(url)
    try:
        with database.writing() as session:
            servers.ensure_default(session)
    finally:
        database.close()


def create_account(operator: Operator, new: NewAccount) -> None:
    """Create an account and its database, and invalidate cached entries that say the account does not exist.

    Raises the errors of `create`.
    """
    create(operator.system, new, actor=operator.name)
    invalidate_unknown(operator.services, new.account)


def invalidate_unknown(services: OperatorServices, account: str) -> None:
    """Make every worker drop the cached entry that says this account does not exist.

    Workers that could not be notified keep the entry for up to 5 s. This is not an error: the account exists.
    """
    with suppress(RevocationUnconfirmed):
        services.revocation.revoke(RevocationTarget(account))


def create(database: SystemDatabase, new: NewAccount, *, actor: str) -> None:
    """Create an account and its database, without notifying workers.

    If a step fails, both are removed. Raises InvalidAccountName, AccountExists, NoSuchServer, DatabaseExists or
    ProvisioningError. A crash leaves an account in `provisioning`, which is never served and which
    `flask accounts repair` completes or removes.
    """
    create_with(database, new, Reservation.create, actor=actor, action="account.created")


def create_with(
    database: SystemDatabase,
    new: NewAccount,
    build: Callable[[Reservation], Provisioned],
    *,
    actor: str,
    action: str,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Create an account whose database `build` creates; the operator audit log records it as `action`."""
    check_new_account_name(new.account, also_reserved=(str(database.url.database),))
    server_name, server = _choose_server(database, new.server)
    with Provisioner(server, schema.ACCOUNT_SCHEMA).reserve(new.account) as reservation:
        with database.writing() as session:
            servers.require_open(session, server_name)
            accounts.reserve(session, _row(new, server_name))
            if new.limits:
                limits.write(session, new.account, new.limits)
            if new.rotate_after_days is not None:
                session.flush()
                rotation_policy.write(session, new.account, new.rotate_after_days)
        try:
            built = build(reservation)
        except BaseException:
            _remove_row(database, new.account)
            raise
        with database.writing() as session:
            account = accounts.move(session, new.account, AccountStatus.ACTIVE, AccountStatus.PROVISIONING)
            account.schema_revision = built.revision
            operators.record(session, actor, action, new.account, {"server": server_name, **(detail or {})})


def find(database: SystemDatabase, account: str) -> tuple[Account, DatabaseServer]:
    """The row of an account, and the server of its database. Raises NoSuchAccount."""
    with database.reading() as session:
        row = accounts.read(session, account)
        return row, DatabaseServer(read_address(session, database, row.server).past_pooler)


def _choose_server(database: SystemDatabase, name: str | None) -> tuple[str, DatabaseServer]:
    with database.reading() as session:
        chosen = servers.choose(session, name)
        return chosen.name, DatabaseServer(read_address(session, database, chosen.name).past_pooler)


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


def _remove_row(database: SystemDatabase, account: str) -> None:
    with database.writing() as session:
        session.delete(accounts.read(session, account, lock=True))
