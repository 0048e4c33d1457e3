"""Delete accounts."""

from __future__ import annotations

from dataclasses import dataclass

from kataven.operations import account_status
from kataven.operations.account_dumps import DumpStore, audit_detail, locked, take_dump
from kataven.operations.operator import Operator
from kataven.revocation.receipt import Receipt
from kataven.system import accounts, operators
from kataven.system.errors import NoDatabase, WrongStatus
from kataven.system.models import AccountStatus
from kataven.tenancy.databases.dumps import Dump


@dataclass(frozen=True, slots=True)
class DeletedAccount:
    """The final dump of a deleted account, and the receipt. `dump` is None if no dump was taken."""

    dump: Dump | None
    receipt: Receipt


def delete(operator: Operator, store: DumpStore, account: str, *, without_dump: bool = False) -> DeletedAccount:
    """Revoke all credentials of an account, take a final dump, and drop its database.

    The order matters: after the revocation is acknowledged no worker accepts a credential, then the database becomes
    read-only, then it is dumped. So the dump contains every acknowledged write. Until the database is dropped,
    `account_restore.restore_in_place` reverts the deletion. If the process is killed, the account remains `deleting`,
    and deleting it again completes the deletion. Raises NoSuchAccount, WrongStatus, NoDatabase, ProvisioningError or
    OSError.
    """
    with locked(operator, account) as (reservation, status):
        if status == AccountStatus.PROVISIONING:
            raise WrongStatus(account, status, "created or removed first: run `flask accounts repair`")
        has_database = reservation.maintenance.exists(reservation.database)
        if not (has_database or without_dump or status == AccountStatus.DELETING):
            raise NoDatabase(account)
        if has_database and not without_dump:
            store.require(reservation.maintenance)
        event_id, receipt = account_status.begin_deletion(operator, account)
        taken = None
        if has_database and not without_dump:
            reservation.maintenance.set_read_only(reservation.database, read_only=True)
            taken = take_dump(operator, store, reservation, account)
            with operator.system.writing() as session:
                operators.add_detail(session, event_id, audit_detail(taken))
        reservation.drop()
        # No worker admits the account any more, and its name is not free for a new account yet.
        operator.services.limiter.reset(account)
        with operator.system.writing() as session:
            session.delete(accounts.read(session, account, lock=True))
            operators.record(session, operator.name, "account.deleted", account, audit_detail(taken))
    return DeletedAccount(taken, receipt)
