"""Dumps back into databases: in the place of what an account holds, or for an account that was deleted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from kataven.operations import account_creation, account_status
from kataven.operations.account_dumps import DumpStore, held, named, require_database, take
from kataven.operations.account_status import OperatorContext, UsableKeys
from kataven.operations.dump_manifest import read_manifest
from kataven.revocation.receipt import Receipt
from kataven.revocation.target import RevocationTarget
from kataven.system import accounts, operators
from kataven.system.errors import AccountExists, NotRestorable, WrongStatus
from kataven.system.models import AccountStatus
from kataven.tenancy.databases import dumps
from kataven.tenancy.databases.dumps import Dump
from kataven.tenancy.databases.provision import Provisioned, Reservation


@dataclass(frozen=True, slots=True)
class RestoredAccount:
    """What was loaded, the dump of what it replaced, and how many keys had to be ended in it."""

    dump: Dump
    replaced: Dump | None
    keys_ended: int
    receipt: Receipt


def load(office: OperatorContext, store: DumpStore, account: str, path: Path) -> RestoredAccount:
    """Put a dump in the place of what a closed account holds, in one step; that is dumped first.

    No credential comes back to life by it: what is not good in the account now is ended in what is loaded. Raises
    NoSuchAccount, WrongStatus for an account that is open, DumpUnreadable, NoDatabase or ProvisioningError.
    """
    given = dumps.read(path)
    read_manifest(given)
    with held(office, account) as (reservation, status):
        if status not in (AccountStatus.SUSPENDED, AccountStatus.ARCHIVED):
            raise WrongStatus(account, status, "suspended or archived")
        require_database(reservation, account)
        store.require(reservation.maintenance)
        replaced = take(office, store, reservation, account)
        ended = _Ended(office)
        with reservation.templates.server.connect(reservation.database) as now:
            ended.standing = office.standing_keys(now)
        made = reservation.replace(lambda url: dumps.load(store.programs, given, url), ended)
        with office.system.writing() as session:
            accounts.read(session, account, lock=True).schema_revision = made.revision
            detail = {"loaded": named(given), "replaced": named(replaced), "keys_ended": ended.count}
            operators.record(session, office.operator, "account.loaded", account, detail)
            ending = account_status.begin_ending(session, account)
    return RestoredAccount(given, replaced, ended.count, office.revoke(ending))


def restore(
    office: OperatorContext,
    store: DumpStore,
    account: str,
    path: Path,
    *,
    org_id: str | None = None,
    server: str | None = None,
) -> RestoredAccount:
    """Make a deleted account again from a dump of it.

    Its keys are good again only if this is the dump that its deletion took: in any other, keys may have been ended
    since. Raises AccountExists, NotRestorable, DumpUnreadable, NoSuchServer, or ProvisioningError.
    """
    given = dumps.read(path)
    notes = read_manifest(given)
    if notes is None:
        raise NotRestorable(f"{given.manifest} is missing: it says what the account was called. Create it, then load.")
    with office.system.reading() as session:
        if accounts.exists(session, account):
            raise AccountExists(account)
        last = operators.latest(session, "account.deletion_begun", account)
        is_last_state = last is not None and last.detail.get("sha256") == given.sha256
    ended = _Ended(office)

    def build(reservation: Reservation) -> Provisioned:
        store.require(reservation.maintenance)
        prepare = None if is_last_state else ended
        return reservation.create_from(lambda url: dumps.load(store.programs, given, url), prepare)

    new = notes.as_new_account(account, org_id, server)
    account_creation.make(
        office.system, new, build, actor=office.operator, action="account.restored", detail={"loaded": named(given)}
    )
    return RestoredAccount(given, None, ended.count, office.revoke(RevocationTarget(account)))


@dataclass(slots=True)
class _Ended:
    """Ends, in a database that was loaded and that nobody can reach yet, the keys that are not to come back to life."""

    office: OperatorContext
    standing: UsableKeys | None = None
    count: int = 0

    def __call__(self, loaded: Connection) -> None:
        self.count = self.office.end_other_keys(loaded, self.standing or {})
