"""Accounts' databases into files and back: dump, delete, load, restore. Nothing here belongs into a request.

Each of these holds the lock of the account's database, the one that makers and repair take, so that no two of them
meet. Killed at any moment, each leaves something that the same command, run again, or `repair` puts right.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from kataven.revocation.receipt import Receipt
from kataven.revocation.scope import Scope
from kataven.system import accounts, closing, lifecycle, operators
from kataven.system.closing import Office
from kataven.system.errors import AccountExists, NoDatabase, NotRestorable, WrongStatus
from kataven.system.models import AccountStatus
from kataven.system.notes import notes_beside, notes_on
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.tenancy import dumps
from kataven.tenancy.dumps import Dump
from kataven.tenancy.programs import Programs
from kataven.tenancy.provision import Provisioned, Provisioner, Reservation
from kataven.tenancy.server import Maintenance

ACTIVE, SUSPENDED, ARCHIVED = AccountStatus.ACTIVE, AccountStatus.SUSPENDED, AccountStatus.ARCHIVED
DELETING = AccountStatus.DELETING


@dataclass(frozen=True, slots=True)
class DumpStore:
    """Where dumps are put, and the programs that make and read them."""

    programs: Programs
    folder: Path

    def require_programs(self, maintenance: Maintenance) -> None:
        """Raise ProgramMissing now rather than when something is already closed."""
        for program in ("pg_dump", "pg_restore"):
            self.programs.require(program, maintenance.version())

    def require_folder(self) -> None:
        """Raise OSError unless dumps can be put there; it is made if need be."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise PermissionError(f"{self.folder} can't be written to")


@dataclass(frozen=True, slots=True)
class Deleted:
    """What is left of an account: its dump (None if there was nothing left to dump), and the receipt."""

    dump: Dump | None
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was loaded, the dump of what it replaced, and how many keys had to be ended in it."""

    dump: Dump
    replaced: Dump | None
    keys_ended: int
    receipt: Receipt


def dump(office: Office, store: DumpStore, account: str) -> Dump:
    """Dump an account as it is now; it goes on being served. Raises NoSuchAccount, NoDatabase or ProvisioningError."""
    with _held(office, store, account) as (reservation, _):
        _require_database(reservation, account)
        taken = _take(office, store, reservation, account)
    with office.system.writing() as session:
        operators.record(session, office.operator, "account.dumped", account, _named(taken))
    return taken


def delete(office: Office, store: DumpStore, account: str, *, without_dump: bool = False) -> Deleted:
    """End all that belongs to an account, take its last dump, and remove it.

    Its credentials end first, on every worker, then nothing can be written any more, then it is dumped: so the dump has
    everything that was ever acknowledged. Until the database is dropped, `reopen` brings the account back. Killed
    half-way it is `deleting`, and done by deleting it again. Raises NoSuchAccount, WrongStatus, NoDatabase,
    ProvisioningError or OSError.
    """
    with _held(office, store, account) as (reservation, status):
        if status == AccountStatus.PROVISIONING:
            raise WrongStatus(account, status, "made or taken back first, by `flask accounts repair`")
        there = reservation.maintenance.exists(reservation.database)
        if not (there or without_dump or status == DELETING):
            raise NoDatabase(account)
        event_id, receipt = closing.begin_deletion(office, account)
        taken = None
        if there and not without_dump:
            reservation.maintenance.set_read_only(reservation.database, read_only=True)
            taken = _take(office, store, reservation, account)
            with office.system.writing() as session:
                operators.add_detail(session, event_id, _named(taken))
        reservation.drop()
        with office.system.writing() as session:
            session.delete(accounts.read(session, account, lock=True))
            operators.record(session, office.operator, "account.deleted", account, _named(taken))
    return Deleted(taken, receipt)


def reopen(office: Office, store: DumpStore, account: str) -> Receipt:
    """Open an archived account again, or one whose deletion was interrupted while its database was still there.

    Raises NoSuchAccount, WrongStatus, or NoDatabase.
    """
    with _held(office, store, account) as (reservation, status):
        _require_database(reservation, account)
        if status == DELETING:
            reservation.maintenance.set_read_only(reservation.database, read_only=False)
        return closing.restore(office, account)


def load(office: Office, store: DumpStore, account: str, path: Path) -> Loaded:
    """Put a dump in the place of what a closed account holds, in one step; that is dumped first.

    No credential comes back to life by it: what is not good in the account now is ended in what is loaded. Raises
    NoSuchAccount, WrongStatus for an account that is open, DumpUnreadable, NoDatabase or ProvisioningError.
    """
    given = dumps.read(path)
    notes_beside(given)
    with _held(office, store, account) as (reservation, status):
        if status not in (SUSPENDED, ARCHIVED):
            raise WrongStatus(account, status, "suspended or archived")
        _require_database(reservation, account)
        replaced = _take(office, store, reservation, account)
        ended = _Ended(office)
        with reservation.templates.server.connect(reservation.database) as now:
            ended.standing = office.standing_keys(now)
        made = reservation.replace(lambda url: dumps.load(store.programs, given, url), ended)
        with office.system.writing() as session:
            accounts.read(session, account, lock=True).schema_revision = made.revision
            detail = {"loaded": _named(given), "replaced": _named(replaced), "keys_ended": ended.count}
            operators.record(session, office.operator, "account.loaded", account, detail)
    return Loaded(given, replaced, ended.count, office.revoke(Scope(account)))


def restore(
    office: Office, store: DumpStore, account: str, path: Path, *, org_id: str | None = None, server: str | None = None
) -> Loaded:
    """Make a deleted account again from a dump of it.

    Its keys are good again only if this is the dump that its deletion took: in any other, keys may have been ended
    since. Raises AccountExists, NotRestorable, DumpUnreadable, NoSuchServer, or ProvisioningError.
    """
    given = dumps.read(path)
    notes = notes_beside(given)
    if notes is None:
        raise NotRestorable(f"{given.notes} is missing: it says what the account was called. Create it, then load.")
    with office.system.reading() as session:
        if accounts.exists(session, account):
            raise AccountExists(account)
        last = operators.latest(session, "account.deletion_begun", account)
        is_last_state = last is not None and last.detail.get("sha256") == given.sha256
    ended = _Ended(office)

    def build(reservation: Reservation) -> Provisioned:
        store.require_programs(reservation.maintenance)
        return reservation.rebuild(lambda url: dumps.load(store.programs, given, url), None if is_last_state else ended)

    new = notes.as_new_account(account, org_id, server)
    lifecycle.make(
        office.system, new, build, actor=office.operator, action="account.restored", detail={"loaded": _named(given)}
    )
    return Loaded(given, None, ended.count, office.revoke(Scope(account)))


@dataclass(slots=True)
class _Ended:
    """Ends, in a database that was loaded and that nobody can reach yet, the keys that are not to come back to life."""

    office: Office
    standing: closing.StandingKeys | None = None
    count: int = 0

    def __call__(self, loaded: Connection) -> None:
        self.count = self.office.end_other_keys(loaded, self.standing or {})


@contextmanager
def _held(office: Office, store: DumpStore, account: str) -> Iterator[tuple[Reservation, AccountStatus]]:
    """The account's lock, with its status once the lock is had; programs and folder have been looked at."""
    row, server = lifecycle.find(office.system, account)
    store.require_folder()
    with Provisioner(server, ACCOUNT_SCHEMA).reserve(row.database_name) as reservation:
        store.require_programs(reservation.maintenance)
        with office.system.reading() as session:
            yield reservation, AccountStatus(accounts.read(session, account).status)


def _take(office: Office, store: DumpStore, reservation: Reservation, account: str) -> Dump:
    with office.system.reading() as session:
        notes = notes_on(session, account)
    url = reservation.templates.server.url_of(reservation.database)
    return dumps.take(store.programs, url, account, store.folder, notes.as_json)


def _require_database(reservation: Reservation, account: str) -> None:
    if not reservation.maintenance.exists(reservation.database):
        raise NoDatabase(account)


def _named(taken: Dump | None) -> dict[str, str | int]:
    return {} if taken is None else {"dump": taken.path.name, "sha256": taken.sha256, "bytes": taken.bytes}
