"""Accounts' databases into files. What the verbs here, in `removal` and in `loading` have in common stands here too.

Each of them holds the lock of the account's database, the one that makers and repair take, so that no two of them meet.
Killed at any moment, each leaves something that the same command, run again, or `repair` puts right. Nothing of it
belongs into a request.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kataven.operations import account_creation
from kataven.operations.account_status import OperatorContext
from kataven.operations.dump_manifest import manifest_of
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
    """Where dumps are put, and the programs that make and read them."""

    programs: Programs
    folder: Path

    def require(self, maintenance: Maintenance) -> None:
        """Raise ProgramMissing or OSError now rather than when something is already closed."""
        for program in ("pg_dump", "pg_restore"):
            self.programs.require(program, maintenance.version())
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise PermissionError(f"{self.folder} can't be written to")


def dump(office: OperatorContext, store: DumpStore, account: str) -> Dump:
    """Dump an account as it is now; it goes on being served. Raises NoSuchAccount, NoDatabase or ProvisioningError."""
    with held(office, account) as (reservation, _):
        require_database(reservation, account)
        store.require(reservation.maintenance)
        taken = take(office, store, reservation, account)
    with office.system.writing() as session:
        operators.record(session, office.operator, "account.dumped", account, named(taken))
    return taken


@contextmanager
def held(office: OperatorContext, account: str) -> Iterator[tuple[Reservation, AccountStatus]]:
    """The lock of the account's database, and the account's status once the lock is had. Raises NoSuchAccount."""
    row, server = account_creation.find(office.system, account)
    with Provisioner(server, ACCOUNT_SCHEMA).reserve(row.database_name) as reservation:
        with office.system.reading() as session:
            status = AccountStatus(accounts.read(session, account).status)
        yield reservation, status


def take(office: OperatorContext, store: DumpStore, reservation: Reservation, account: str) -> Dump:
    """A dump with its notes. The account's lock is held."""
    with office.system.reading() as session:
        notes = manifest_of(session, account)
    url = reservation.templates.server.url_of(reservation.database)
    return dumps.take(store.programs, url, account, store.folder, notes.as_json)


def require_database(reservation: Reservation, account: str) -> None:
    """Raises NoDatabase."""
    if not reservation.maintenance.exists(reservation.database):
        raise NoDatabase(account)


def named(taken: Dump | None) -> dict[str, str | int]:
    """How the operators' trail names a dump."""
    return {} if taken is None else {"dump": taken.path.name, "sha256": taken.sha256, "bytes": taken.bytes}
