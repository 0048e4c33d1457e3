"""The end of an account, and the way back while its database is there."""

from __future__ import annotations

from dataclasses import dataclass

from kataven.operations import account_status
from kataven.operations.account_dumps import DumpStore, held, named, require_database, take
from kataven.operations.account_status import OperatorContext
from kataven.revocation.receipt import Receipt
from kataven.system import accounts, operators
from kataven.system.errors import NoDatabase, WrongStatus
from kataven.system.models import AccountStatus
from kataven.tenancy.databases.dumps import Dump


@dataclass(frozen=True, slots=True)
class DeletedAccount:
    """What is left of an account: its dump (None if there was nothing left to dump), and the receipt."""

    dump: Dump | None
    receipt: Receipt


def delete(office: OperatorContext, store: DumpStore, account: str, *, without_dump: bool = False) -> DeletedAccount:
    """End all that belongs to an account, take its last dump, and remove it.

    Its credentials end first, on every worker, then nothing can be written any more, then it is dumped: so the dump has
    everything that was ever acknowledged. Until the database is dropped, `reopen` brings the account back. Killed
    half-way it is `deleting`, and done by deleting it again. Raises NoSuchAccount, WrongStatus, NoDatabase,
    ProvisioningError or OSError.
    """
    with held(office, account) as (reservation, status):
        if status == AccountStatus.PROVISIONING:
            raise WrongStatus(account, status, "made or taken back first, by `flask accounts repair`")
        there = reservation.maintenance.exists(reservation.database)
        if not (there or without_dump or status == AccountStatus.DELETING):
            raise NoDatabase(account)
        if there and not without_dump:
            store.require(reservation.maintenance)
        event_id, receipt = account_status.begin_deletion(office, account)
        taken = None
        if there and not without_dump:
            reservation.maintenance.set_read_only(reservation.database, read_only=True)
            taken = take(office, store, reservation, account)
            with office.system.writing() as session:
                operators.add_detail(session, event_id, named(taken))
        reservation.drop()
        # While it is not admitted anywhere, and before its name is free for another account.
        office.forget_limits(account)
        with office.system.writing() as session:
            session.delete(accounts.read(session, account, lock=True))
            operators.record(session, office.operator, "account.deleted", account, named(taken))
    return DeletedAccount(taken, receipt)


def reopen(office: OperatorContext, account: str) -> Receipt:
    """Open an archived account again, or one whose deletion was interrupted while its database was still there.

    Raises NoSuchAccount, WrongStatus, or NoDatabase.
    """
    with held(office, account) as (reservation, status):
        require_database(reservation, account)
        if status == AccountStatus.DELETING:
            reservation.maintenance.set_read_only(reservation.database, read_only=False)
        return account_status.restore(office, account)
