"""Restore accounts: in place, from a dump, or by loading a dump into an existing account."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from kataven.account import restore_keys
from kataven.account.restore_keys import UsableKeys
from kataven.operations import account_creation, account_status
from kataven.operations.account_dumps import DumpStore, audit_detail, locked, require_database, take_dump
from kataven.operations.dump_manifest import read_manifest
from kataven.operations.operator import Operator
from kataven.revocation.receipt import Receipt
from kataven.revocation.target import RevocationTarget
from kataven.system import accounts, journal, operators
from kataven.system.errors import AccountExists, NotRestorable, WrongStatus
from kataven.system.fallback_channel import without_journal
from kataven.system.models import AccountStatus
from kataven.tenancy.databases import dumps
from kataven.tenancy.databases.dumps import Dump
from kataven.tenancy.databases.provision import Provisioned, Reservation


@dataclass(frozen=True, slots=True)
class RestoredAccount:
    """The loaded dump, the dump of the data that it replaced, and the number of keys that had to be revoked in it."""

    dump: Dump
    replaced: Dump | None
    keys_revoked: int
    receipt: Receipt


def restore_in_place(operator: Operator, account: str) -> Receipt:
    """Reactivate an archived account, or one whose deletion was interrupted before its database was dropped.

    Raises NoSuchAccount, WrongStatus, or NoDatabase.
    """
    with locked(operator, account) as (reservation, status):
        require_database(reservation, account)
        if status != AccountStatus.DELETING:
            return account_status.restore(operator, account)
        reservation.maintenance.set_read_only(reservation.database, read_only=False)
        return account_status.cancel_deletion(operator, account)


def load_dump(operator: Operator, store: DumpStore, account: str, path: Path) -> RestoredAccount:
    """Replace the data of a suspended or archived account with a dump, atomically; the data is dumped first.

    Loading a dump does not make a revoked key valid again: every key that is not usable in the account now is revoked
    in the loaded data. Raises NoSuchAccount, WrongStatus if the account is not suspended or archived, DumpUnreadable,
    NoDatabase or ProvisioningError.
    """
    given = dumps.read(path)
    read_manifest(given)
    with locked(operator, account) as (reservation, status):
        if status not in (AccountStatus.SUSPENDED, AccountStatus.ARCHIVED):
            raise WrongStatus(account, status, "suspended or archived")
        require_database(reservation, account)
        store.require(reservation.maintenance)
        replaced = take_dump(operator, store, reservation, account)
        with reservation.templates.server.connect(reservation.database) as connection, Session(connection) as session:
            usable, secrets = restore_keys.usable_keys(session), restore_keys.key_secrets(session)
        prepare = _RevokeKeys(operator, _journalled(operator, account), usable, secrets)
        loaded = reservation.replace(lambda url: dumps.load(store.programs, given, url), prepare)
        with operator.system.writing() as session:
            accounts.read(session, account, lock=True).schema_revision = loaded.revision
            detail = {
                "loaded": audit_detail(given),
                "replaced": audit_detail(replaced),
                "keys_ended": prepare.revoked,
            }
            operators.record(session, operator.name, "account.loaded", account, detail)
            intent = account_status.add_intent(session, account)
    receipt = operator.services.revocation.revoke(intent)
    return RestoredAccount(given, replaced, prepare.revoked, receipt)


def restore_from_dump(
    operator: Operator,
    store: DumpStore,
    account: str,
    path: Path,
    *,
    org_id: str | None = None,
    server: str | None = None,
) -> RestoredAccount:
    """Create a deleted account again from a dump.

    Its keys remain usable only if this is the dump that the deletion took. In every other dump all keys are revoked,
    because they may have been revoked after the dump was taken. Raises AccountExists, NotRestorable, DumpUnreadable,
    NoSuchServer, or ProvisioningError.
    """
    given = dumps.read(path)
    manifest = read_manifest(given)
    if manifest is None:
        raise NotRestorable(
            f"{given.manifest} is missing. It contains the properties of the account. Create the account with"
            " `flask accounts create`, suspend it, and load the dump with `flask accounts load`."
        )
    with operator.system.reading() as session:
        if accounts.exists(session, account):
            raise AccountExists(account)
        last = operators.latest(session, "account.deletion_begun", account)
        is_final_dump = last is not None and last.detail.get("sha256") == given.sha256
    prepare = _RevokeKeys(operator, _journalled(operator, account), None if is_final_dump else {})

    def build(reservation: Reservation) -> Provisioned:
        store.require(reservation.maintenance)
        return reservation.create_from(lambda url: dumps.load(store.programs, given, url), prepare)

    new = manifest.as_new_account(account, org_id, server)
    detail = {"loaded": audit_detail(given)}
    account_creation.create_with(
        operator.system, new, build, actor=operator.name, action="account.restored", detail=detail
    )
    receipt = operator.services.revocation.revoke(RevocationTarget(account))
    return RestoredAccount(given, None, prepare.revoked, receipt)


@dataclass(slots=True)
class _RevokeKeys:
    """Revokes keys in a loaded database before the database gets its final name.

    These are the journalled keys, and all keys except the `usable` ones. If `usable` is None, the dump is up to date.
    """

    operator: Operator
    journalled: journal.Generations
    usable: UsableKeys | None
    secrets: restore_keys.KeySecrets | None = None
    revoked: int = 0

    def __call__(self, loaded: Connection) -> None:
        with Session(loaded) as session:
            restore_keys.restore_secrets(session, self.secrets)
            self.revoked = restore_keys.apply_journal(session, self.journalled, self.operator.actor)
            if self.usable is not None:
                self.revoked += restore_keys.revoke_other_keys(session, self.usable, self.operator.actor)
            session.flush()


def _journalled(operator: Operator, account: str) -> journal.Generations:
    entries: dict[str, int | None] = {}
    with without_journal(), operator.system.reading() as session:
        entries.update(journal.of_account(session, account))
    return entries
