"""Dump the database of an account to a file, and what deletion and restore share with it.

Each of these operations holds the lock of the account's database. Creation and repair take the same lock, so only one
of them runs at a time. If the process is killed, running the same command again, or `flask accounts repair`, completes
or reverts the operation. These operations can take minutes and must not run inside a request.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kataven.operations import account_creation
from kataven.operations.dump_manifest import manifest_of
from kataven.operations.operator import Operator
from kataven.system import accounts, operators
from kataven.system.errors import NoDatabase
from kataven.system.models import AccountStatus
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.tenancy.databases import dumps
from kataven.tenancy.databases.dumps import Dump
from kataven.tenancy.databases.provision import Provisioner, Reservation
from kataven.tenancy.programs import Programs
from kataven.tenancy.server import Maintenance


@dataclass(frozen=True, slots=True)
class DumpStore:
    """The folder for dumps, and the PostgreSQL programs that write and read them."""

    programs: Programs
    folder: Path

    def require(self, maintenance: Maintenance) -> None:
        """Check the programs and the folder before an operation starts. Raises ProgramMissing or OSError."""
        for program in ("pg_dump", "pg_restore"):
            self.programs.require(program, maintenance.version())
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "the folder is not writable", str(self.folder))


def dump(operator: Operator, store: DumpStore, account: str) -> Dump:
    """Dump an account while it is being served. Raises NoSuchAccount, NoDatabase or ProvisioningError."""
    with locked(operator, account) as (reservation, _):
        require_database(reservation, account)
        store.require(reservation.maintenance)
        taken = take_dump(operator, store, reservation, account)
    with operator.system.writing() as session:
        operators.record(session, operator.name, "account.dumped", account, audit_detail(taken))
    return taken


@contextmanager
def locked(operator: Operator, account: str) -> Iterator[tuple[Reservation, AccountStatus]]:
    """Hold the lock of the account's database; its status is read under the lock. Raises NoSuchAccount."""
    row, server = account_creation.find(operator.system, account)
    with Provisioner(server, ACCOUNT_SCHEMA).reserve(row.database_name) as reservation:
        with operator.system.reading() as session:
            status = AccountStatus(accounts.read(session, account).status)
        yield reservation, status


def take_dump(operator: Operator, store: DumpStore, reservation: Reservation, account: str) -> Dump:
    """Write a dump and its manifest. The lock of the account's database must be held."""
    with operator.system.reading() as session:
        manifest = manifest_of(session, account)
    url = reservation.templates.server.url_of(reservation.database)
    return dumps.take(store.programs, url, account, store.folder, manifest.as_json)


def require_database(reservation: Reservation, account: str) -> None:
    """Raises NoDatabase if the account's database does not exist."""
    if not reservation.maintenance.exists(reservation.database):
        raise NoDatabase(account)


def audit_detail(taken: Dump | None) -> dict[str, str | int]:
    """A dump's fields in the operator audit log."""
    return {} if taken is None else {"dump": taken.path.name, "sha256": taken.sha256, "bytes": taken.bytes}
