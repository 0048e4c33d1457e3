"""Finds and repairs databases and accounts that a crash left inconsistent.

An account's row has the status `provisioning` before its database is created, and the final status afterwards. After a
crash in between, the databases and the rows differ. `find_orphans` compares them and changes nothing.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from kataven.tenancy.names import KATAVEN_NAMES, DatabaseNames
from kataven.tenancy.server import DatabaseServer, Maintenance


@dataclass(frozen=True, slots=True)
class KnownAccount:
    """The row of one account of a server.

    `unfinished` while the account is being created, `deleting` while it is being deleted.
    """

    account: str
    database: str
    unfinished: bool
    deleting: bool = False


class OrphanKind(StrEnum):
    """The kind of inconsistency. The comments say how it is repaired."""

    INCOMPLETE = "incomplete database"  # dropped: it was never used
    UNFINISHED = "complete database of an unfinished account"  # the account becomes active
    NO_DATABASE = "unfinished account without a database"  # the account's row is deleted
    REMOVED = "deleted account whose row still exists"  # the account's row is deleted
    DELETING = "account whose deletion was interrupted"  # only reported: the operator decides
    LOST = "account without its database"  # only reported: an operator must investigate
    UNKNOWN = "database without an account"  # only reported: it may contain customer data


@dataclass(frozen=True, slots=True)
class Orphan:
    """One inconsistency between the databases and the accounts."""

    kind: OrphanKind
    database: str
    account: str | None = None


@dataclass(frozen=True, slots=True)
class Repair:
    """The result for one orphan. `done` is False if it was left unchanged, for the given `reason`."""

    orphan: Orphan
    done: bool
    reason: str = ""


def find_orphans(
    databases: Collection[str],
    accounts: Iterable[KnownAccount],
    *,
    ignored: Collection[str] = (),
    names: DatabaseNames = KATAVEN_NAMES,
) -> list[Orphan]:
    """Compare a server's databases with its accounts. `ignored` are databases with another purpose."""
    incomplete = (database for database in databases if database.startswith(names.scratch_prefix))
    orphans = [Orphan(OrphanKind.INCOMPLETE, database) for database in incomplete]
    named = set()
    for known in accounts:
        named.add(known.database)
        kind = _kind(known, exists=known.database in databases)
        if kind is not None:
            orphans.append(Orphan(kind, known.database, known.account))
    unknown = set(databases) - named - names.all_reserved - set(ignored)
    orphans += [Orphan(OrphanKind.UNKNOWN, database) for database in unknown if not names.is_internal(database)]
    return sorted(orphans, key=lambda orphan: (orphan.kind, orphan.database))


def _kind(known: KnownAccount, *, exists: bool) -> OrphanKind | None:
    if known.unfinished:
        return OrphanKind.UNFINISHED if exists else OrphanKind.NO_DATABASE
    if known.deleting:
        return OrphanKind.DELETING if exists else OrphanKind.REMOVED
    return None if exists else OrphanKind.LOST


def repair(
    server: DatabaseServer,
    orphans: Iterable[Orphan],
    *,
    finish: Callable[[str], None],
    undo: Callable[[str], None],
    names: DatabaseNames = KATAVEN_NAMES,
) -> list[Repair]:
    """Repair `orphans`, except for databases that another process is creating or removing now.

    `finish(account)` and `undo(account)` are called with the account's lock held. They must check again whether the
    account is still unfinished, because another process may have repaired it since `find_orphans`.
    """
    with server.maintenance() as maintenance:
        return [_repair(maintenance, orphan, finish, undo, names) for orphan in orphans]


def _repair(
    maintenance: Maintenance,
    orphan: Orphan,
    finish: Callable[[str], None],
    undo: Callable[[str], None],
    names: DatabaseNames,
) -> Repair:
    if orphan.kind in (OrphanKind.LOST, OrphanKind.UNKNOWN):
        return Repair(orphan, done=False, reason="an operator must investigate")
    lock = orphan.database if orphan.kind is OrphanKind.INCOMPLETE else names.scratch(orphan.database)
    if not maintenance.try_lock(lock):
        return Repair(orphan, done=False, reason="another process is creating or removing it")
    try:
        if orphan.kind is OrphanKind.DELETING:
            return Repair(orphan, done=False, reason="repeat the deletion, or restore the account")
        if orphan.account is None:
            maintenance.discard(orphan.database)
        elif maintenance.exists(orphan.database):
            finish(orphan.account)
        else:
            undo(orphan.account)
    finally:
        maintenance.unlock(lock)
    return Repair(orphan, done=True)
