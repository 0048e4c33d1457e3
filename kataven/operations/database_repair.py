"""Find what interrupted operations left on every server, and complete or remove it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from kataven.operations.account_creation import invalidate_unknown
from kataven.operations.operator import Operator
from kataven.system import accounts, operators
from kataven.system.addresses import addresses
from kataven.system.database import SystemDatabase
from kataven.system.models import Account, AccountStatus
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.tenancy.databases.repair import KnownAccount, Repair, find_orphans, repair
from kataven.tenancy.error_classification import in_words
from kataven.tenancy.errors import PoolerUnsuitable
from kataven.tenancy.server import DatabaseServer


@dataclass(frozen=True, slots=True)
class RepairResult:
    """One finding on one server and its repair. If the server is unreachable, `error` has the reason instead."""

    server: str
    repair: Repair | None = None
    error: str = ""


def repair_all(operator: Operator) -> list[RepairResult]:
    """Complete or remove every account whose creation or deletion was interrupted.

    Raises SystemDatabaseUnavailable. An unreachable account server is a result with an `error`.
    """
    results = list(_repair_servers(operator.system, operator.name))
    for account in {result.repair.orphan.account for result in results if result.repair and result.repair.done}:
        if account is not None:
            invalidate_unknown(operator.services, account)
    return results


def _repair_servers(database: SystemDatabase, actor: str) -> Iterator[RepairResult]:
    with database.reading() as session:
        known = addresses(session, database)
    for name, address in sorted(known.items()):
        try:
            yield from _repair_server(database, actor, name, DatabaseServer(address.past_pooler))
        except (
            DBAPIError,
            PoolerUnsuitable,
        ) as error:  # the other servers are still repaired
            yield RepairResult(name, error=in_words(error))


def _repair_server(database: SystemDatabase, actor: str, name: str, server: DatabaseServer) -> Iterator[RepairResult]:
    with database.reading() as session:
        rows = session.scalars(select(Account).where(Account.server == name)).all()
    known = [_known(row) for row in rows]
    with server.maintenance() as maintenance:
        databases = maintenance.databases()
    orphans = find_orphans(databases, known, ignored={str(database.url.database)})
    finish, undo = partial(_finish, database, server, actor), partial(_undo, database, actor)
    for done in repair(server, orphans, finish=finish, undo=undo):
        yield RepairResult(name, done)


def _known(row: Account) -> KnownAccount:
    making, deleting = row.status == AccountStatus.PROVISIONING, row.status == AccountStatus.DELETING
    return KnownAccount(row.account_id, row.database_name, unfinished=making, deleting=deleting)


def _finish(database: SystemDatabase, server: DatabaseServer, actor: str, account: str) -> None:
    """Activate an account. Its database has its final name, so it is complete."""
    with database.reading() as session:
        database_name = accounts.read(session, account).database_name
    # Outside of the transaction: a session on the system database is cut after a few seconds.
    with server.connect(database_name) as connection:
        revision = ACCOUNT_SCHEMA.revision_of(connection)
    with database.writing() as session:
        row = accounts.read(session, account, lock=True)
        if row.status != AccountStatus.PROVISIONING:
            return
        row.schema_revision = revision
        row.status = AccountStatus.ACTIVE
        operators.record(session, actor, "account.finished", account)


def _undo(database: SystemDatabase, actor: str, account: str) -> None:
    """Remove the row of an account whose database does not exist: its creation or deletion was interrupted."""
    with database.writing() as session:
        row = accounts.read(session, account, lock=True)
        if row.status in (AccountStatus.PROVISIONING, AccountStatus.DELETING):
            action = "account.taken_back" if row.status == AccountStatus.PROVISIONING else "account.deleted"
            session.delete(row)
            operators.record(session, actor, action, account)
